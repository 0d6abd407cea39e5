"""The typed tree as text again: for people (`config show`) and as the shipped file."""

import textwrap
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml

from entrepot.config.build import Hint, hints
from entrepot.config.convert import HIDDEN, format_bytes, format_seconds
from entrepot.config.kinds import Bytes, Seconds, Secret, redact_url
from entrepot.config.model import DOCKER_HUB, Config, Registry, TagRule, docker_hub

type Plain = str | int | bool | list["Plain"] | dict[str, "Plain"] | None

_WIDTH = 100
_INDENT = "  "

# The usual public registries, which the shipped file names.
PUBLIC_REGISTRIES = (
    DOCKER_HUB,
    "ghcr.io",
    "quay.io",
    "registry.k8s.io",
    "gcr.io",
    "*.pkg.dev",
    "mcr.microsoft.com",
    "public.ecr.aws",
    "registry.gitlab.com",
    "lscr.io",
    "docker.elastic.co",
    "registry.access.redhat.com",
    "registry.redhat.io",
    "nvcr.io",
)

_HEAD = """\
# Entrepot's settings: all of them, each with what it does.
#
# A setting behind a # shows its default; take the # and one space away to change it. Variables
# come before this file (ENTREPOT_TAGS__TTL=5m for ttl below tags), flags before variables.
# Durations: 500ms 60s 5m 1h 30d, or unlimited. Sizes: 10k 512m 32g. `entrepot config check` tells
# what is wrong, `entrepot config show` what is in force. See docs/configuration.md."""

_EXAMPLE_REGISTRY = "registry.example.com:5000"


def shipped() -> Config:
    """What `config/entrepot.yaml` holds: the defaults, and the usual public registries."""
    registries = {name: Registry() for name in PUBLIC_REGISTRIES}
    return replace(Config(), registries={**registries, DOCKER_HUB: docker_hub()})


def plain(config: Config, *, reveal: bool = False) -> dict[str, Plain]:
    """What YAML and JSON can hold; secrets only with `reveal`."""
    return _record(config, reveal=reveal)


def render(config: Config, *, reveal: bool = False) -> str:
    return _dump(plain(config, reveal=reveal))


def render_documented(config: Config) -> str:
    """A file for operators: what differs from the defaults is live, the rest is commented out."""
    lines = [_HEAD]
    for name, hint in hints(Config).items():
        lines.append("")
        lines += _setting(Config, name, hint, config, "")
    return "\n".join(lines) + "\n"


# ---- values --------------------------------------------------------------------------------


def _record(value: Any, *, reveal: bool) -> dict[str, Plain]:
    return {
        name: _plain(hint, getattr(value, name), reveal=reveal)
        for name, hint in hints(type(value)).items()
    }


def _plain(hint: Hint, value: Any, *, reveal: bool) -> Plain:
    if value is None:
        return None
    if hint.kind is Seconds:
        return format_seconds(value)
    if hint.kind is Bytes:
        return format_bytes(value)
    if isinstance(value, dict):
        return {name: _record(inner, reveal=reveal) for name, inner in value.items()}
    if isinstance(value, tuple):
        item = Hint(get_args(hint.kind)[0])
        return [_plain(item, inner, reveal=reveal) for inner in value]
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


# ---- the documented file -------------------------------------------------------------------


def _setting(owner: type, name: str, hint: Hint, parent: Any, indent: str) -> Iterator[str]:
    """The lines of one setting of `parent`, whose type is `owner`."""
    value, default = getattr(parent, name), getattr(owner(), name)
    yield from _comment(_doc(owner, name, hint), indent)
    if name == "registries":
        yield from _registries(value)
    elif name == "rules":
        yield from _rules(value, indent)
    elif is_dataclass(value):
        yield f"{indent}{name}:"
        for key, inner in hints(type(value)).items():
            yield from _setting(type(value), key, inner, value, indent + _INDENT)
    else:
        mark = "# " if value == default else ""
        yield from _key(name, _plain(hint, value, reveal=False), indent, mark)


def _doc(owner: type, name: str, hint: Hint) -> str:
    doc = next(field.metadata["doc"] for field in fields(owner) if field.name == name)
    if get_origin(hint.kind) is Literal:
        return f"{doc} One of {', '.join(get_args(hint.kind))}."
    return str(doc)


def _key(name: str, value: Plain, indent: str, mark: str = "") -> Iterator[str]:
    """`name: value`, on one line or as a list with an item on each."""
    line = f"{indent}{mark}{_inline(name)}: {_inline(value)}"
    if not isinstance(value, list) or len(line) <= _WIDTH:
        yield line.rstrip()
        return
    yield f"{indent}{mark}{name}:"
    for item in value:
        yield f"{indent}{mark}{_INDENT}- {_inline(item)}"


def _inline(value: Plain) -> str:
    """YAML on one line, in quotes where plain text would be read as something else."""
    if value is None:
        return ""
    if isinstance(value, list):
        return f"[{', '.join(_inline(item) for item in value)}]"
    if isinstance(value, str) and _needs_quotes(value):
        return yaml.safe_dump(value, default_style='"', allow_unicode=True, width=10**6).strip()
    return str(value).lower() if isinstance(value, bool) else str(value)


def _needs_quotes(text: str) -> bool:
    try:
        return bool(yaml.safe_load(f"[{text}]") != [text]) or text != text.strip()
    except yaml.YAMLError:
        return True


def _registries(registries: dict[str, Registry]) -> Iterator[str]:
    yield "registries:"
    yield from _comment("Everything that can be said of one:", _INDENT)
    yield f"{_INDENT}# {_EXAMPLE_REGISTRY}:"
    indent = f"{_INDENT}# {_INDENT}"
    for name, hint in hints(Registry).items():
        yield from _comment(_doc(Registry, name, hint), indent)
        yield from _key(name, _plain(hint, getattr(Registry(), name), reveal=False), indent)
    for name, registry in registries.items():
        yield f"{_INDENT}{_inline(name)}:"
        defaults = docker_hub() if name == DOCKER_HUB else Registry()
        for key, hint in hints(Registry).items():
            value = getattr(registry, key)
            if value != getattr(defaults, key):
                yield from _key(key, _plain(hint, value, reveal=False), _INDENT * 2)


def _rules(rules: tuple[TagRule, ...], indent: str) -> Iterator[str]:
    if not rules:
        indent += "# "
    yield f"{indent}rules:"
    for rule in rules or (TagRule(match="quay.io/team/*:v*", immutable=True),):
        bullet = "- "
        for name, hint in hints(TagRule).items():
            if not rules:
                yield from _comment(_doc(TagRule, name, hint), f"{indent}    ")
            value = _plain(hint, getattr(rule, name), reveal=False)
            yield from _key(name, value, f"{indent}  {bullet}")
            bullet = "  "


def _comment(text: str, indent: str) -> list[str]:
    prefix = f"{indent}# "
    return textwrap.wrap(
        text, _WIDTH, initial_indent=prefix, subsequent_indent=prefix, break_on_hyphens=False
    )
