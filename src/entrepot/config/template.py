"""The typed tree as a file for operators: what differs is live, the rest is commented out."""

import textwrap
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml

from entrepot.config.build import Hint, hints, item_hint
from entrepot.config.kinds import DAY, Seconds
from entrepot.config.local import AccessRule, LocalRegistry, RetentionRule
from entrepot.config.model import (
    DOCKER_HUB,
    Config,
    Registry,
    RepositoryRule,
    TagRule,
    docker_hub,
)
from entrepot.config.render import Plain, as_plain

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

# What is shown of lists and registries of which there are none by default.
_EXAMPLE_RULES: dict[type, Any] = {
    TagRule: TagRule(match="quay.io/team/*:v*", immutable=True),
    RepositoryRule: RepositoryRule(match="team/*", push="allow", message="Ask the team."),
    AccessRule: AccessRule(match="team/*", users=("ann", "bob"), allow=("pull", "push")),
    RetentionRule: RetentionRule(
        match="ci/*", keep_last=10, keep_for=Seconds(30 * DAY), keep_tags=("latest", "v*")
    ),
}
_EXAMPLES: dict[str, tuple[str, Registry | LocalRegistry]] = {
    "registries": ("registry.example.com:5000", Registry()),
    "local_registries": (
        "docker-registry.local",
        LocalRegistry(
            upstream=("http://registry:5000",), htpasswd=Path("/etc/entrepot/users.htpasswd")
        ),
    ),
}


def shipped() -> Config:
    """What `config/entrepot.yaml` holds: the defaults, and the usual public registries."""
    registries = {name: Registry() for name in PUBLIC_REGISTRIES}
    return replace(Config(), registries={**registries, DOCKER_HUB: docker_hub()})


def render_documented(config: Config) -> str:
    lines = [_HEAD]
    for name, hint in hints(Config).items():
        lines.append("")
        lines += _setting(config, name, hint, "")
    return "\n".join(lines) + "\n"


def _setting(
    record: Any, name: str, hint: Hint, indent: str, *, is_example: bool = False
) -> Iterator[str]:
    """The lines of one setting; in an example all of them are live."""
    value, default = getattr(record, name), getattr(type(record)(), name)
    yield from _comment(_doc(type(record), name, hint), indent)
    if get_origin(hint.kind) is dict:
        yield from _registries(name, value)
    elif (kind := _kind_of_rule(hint)) is not None:
        yield from _rules(name, kind, value, indent)
    elif is_dataclass(value):
        yield f"{indent}{name}:"
        for key, inner in hints(type(value)).items():
            yield from _setting(value, key, inner, indent + _INDENT, is_example=is_example)
    else:
        mark = "# " if value == default and not is_example else ""
        yield from _key(name, as_plain(hint, value), indent, mark)


def _kind_of_rule(hint: Hint) -> type | None:
    """What a list consists of, if that is more than one text can express."""
    kind = item_hint(hint).kind
    is_record = isinstance(kind, type) and is_dataclass(kind)
    return kind if is_record and get_origin(hint.kind) is tuple else None


def _registries(section: str, registries: dict[str, Any]) -> Iterator[str]:
    yield f"{section}:"
    yield from _comment("Everything that can be said of one:", _INDENT)
    example_name, example = _EXAMPLES[section]
    yield f"{_INDENT}# {example_name}:"
    for key, hint in hints(type(example)).items():
        yield from _setting(example, key, hint, f"{_INDENT}# {_INDENT}", is_example=True)
    for name, registry in registries.items():
        yield f"{_INDENT}{_inline(name)}:"
        defaults = docker_hub() if name == DOCKER_HUB else type(registry)()
        yield from _differences(registry, defaults, _INDENT * 2)


def _differences(record: Any, defaults: Any, indent: str) -> Iterator[str]:
    for key, hint in hints(type(record)).items():
        value = getattr(record, key)
        if value == getattr(defaults, key):
            continue
        if (kind := _kind_of_rule(hint)) is not None:
            yield from _rules(key, kind, value, indent)
        elif is_dataclass(value):
            yield f"{indent}{key}:"
            yield from _differences(value, getattr(defaults, key), indent + _INDENT)
        else:
            yield from _key(key, as_plain(hint, value), indent)


def _rules(name: str, kind: type, rules: tuple[Any, ...], indent: str) -> Iterator[str]:
    """Live without comments, or one as an example, explained."""
    if not rules:
        indent += "# "
    yield f"{indent}{name}:"
    for rule in rules or (_EXAMPLE_RULES[kind],):
        bullet = "- "
        for key, hint in hints(kind).items():
            if not rules:
                yield from _comment(_doc(kind, key, hint), f"{indent}    ")
            yield from _key(key, as_plain(hint, getattr(rule, key)), f"{indent}  {bullet}")
            bullet = "  "


def _doc(owner: type, name: str, hint: Hint) -> str:
    doc = next(field.metadata["doc"] for field in fields(owner) if field.name == name)
    kind = item_hint(hint).kind
    if get_origin(kind) is not Literal:
        return str(doc)
    some = "Some" if get_origin(hint.kind) is tuple else "One"
    return f"{doc} {some} of {', '.join(get_args(kind))}."


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


def _comment(text: str, indent: str) -> list[str]:
    prefix = f"{indent}# "
    return textwrap.wrap(
        text, _WIDTH, initial_indent=prefix, subsequent_indent=prefix, break_on_hyphens=False
    )
