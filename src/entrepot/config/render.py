"""The typed tree as text again, for people: `config show`."""

from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import yaml

from entrepot.config.build import Hint, hints, item_hint
from entrepot.config.convert import HIDDEN, format_bytes, format_seconds
from entrepot.config.kinds import Bytes, Seconds, Secret, redact_url
from entrepot.config.model import Config

type Plain = str | int | bool | list["Plain"] | dict[str, "Plain"] | None

_WIDTH = 100


def plain(config: Config, *, reveal: bool = False) -> dict[str, Plain]:
    """What YAML and JSON can hold; secrets only with `reveal`."""
    return _record(config, reveal=reveal)


def render(config: Config, *, reveal: bool = False) -> str:
    return _dump(plain(config, reveal=reveal))


def _record(value: Any, *, reveal: bool) -> dict[str, Plain]:
    return {
        name: as_plain(hint, getattr(value, name), reveal=reveal)
        for name, hint in hints(type(value)).items()
    }


def as_plain(hint: Hint, value: Any, *, reveal: bool = False) -> Plain:
    if value is None:
        return None
    if hint.kind is Seconds:
        return format_seconds(value)
    if hint.kind is Bytes:
        return format_bytes(value)
    if isinstance(value, dict):
        return {name: _record(inner, reveal=reveal) for name, inner in value.items()}
    if isinstance(value, tuple):
        return [as_plain(item_hint(hint), inner, reveal=reveal) for inner in value]
    if is_dataclass(value):
        return _record(value, reveal=reveal)
    return _text(value, reveal=reveal)


def _text(value: Any, *, reveal: bool) -> Plain:
    if isinstance(value, Secret):
        return value.reveal() if reveal else HIDDEN
    if isinstance(value, bool | int):
        return value
    if isinstance(value, Path):
        return str(value)
    # A plain str: PyYAML refuses subclasses such as ProxyUrl.
    text = str.__str__(value)
    return text if reveal else redact_url(text)


def _dump(value: Plain) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=_WIDTH)
