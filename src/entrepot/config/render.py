"""The typed tree as text again, for people: `config show`."""

import re
from dataclasses import is_dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from entrepot.config.build import Hint, hints, item_hint
from entrepot.config.convert import HIDDEN, format_bytes, format_seconds
from entrepot.config.kinds import Bytes, Form, Seconds, Secret, redact_url
from entrepot.config.model import Config

# As in http://user:password@host, also without its scheme.
_PASSWORD = re.compile(r"://|\S:\S*@")

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
        # Words of a command have no form of their own.
        inner_hint = replace(item_hint(hint), form=item_hint(hint).form or hint.form)
        return [as_plain(inner_hint, inner, reveal=reveal) for inner in value]
    if is_dataclass(value):
        return _record(value, reveal=reveal)
    return _text(value, reveal=reveal, is_prose=hint.form is not Form.COMMAND)


def _text(value: Any, *, reveal: bool, is_prose: bool) -> Plain:
    if isinstance(value, Secret):
        return value.reveal() if reveal else HIDDEN
    if isinstance(value, bool | int):
        return value
    if isinstance(value, Path):
        return str(value)
    # A plain str: PyYAML refuses subclasses such as ProxyUrl.
    text = str.__str__(value)
    # An address in a message or a user's name is none; in a command anything may be one.
    may_be_shown = reveal or (is_prose and not _PASSWORD.search(text))
    return text if may_be_shown else redact_url(text)


def _dump(value: Plain) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=_WIDTH)
