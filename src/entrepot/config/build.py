"""The tree of texts becomes the typed tree, by the annotations of the model."""

import difflib
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from entrepot.config import convert
from entrepot.config.kinds import Bytes, Expected, Form, Seconds, Secret
from entrepot.config.model import DOCKER_HUB, Config, Registry, docker_hub
from entrepot.config.tree import (
    KeyPath,
    Mapping,
    Node,
    Origin,
    Report,
    Scalar,
    Sequence,
    dotted,
)


@dataclass(frozen=True, slots=True)
class Hint:
    """An annotation of the model, taken apart."""

    kind: Any
    form: Form | None = None
    optional: bool = False


def read_hint(annotation: Any) -> Hint:
    if get_origin(annotation) in {Union, UnionType}:
        inner = next(kind for kind in get_args(annotation) if kind is not NoneType)
        return Hint(*_marked(inner), optional=True)
    return Hint(*_marked(annotation))


def _marked(annotation: Any) -> tuple[Any, Form | None]:
    if get_origin(annotation) is Annotated:
        kind, form = get_args(annotation)
        return kind, form
    return annotation, None


def hints(kind: type) -> dict[str, Hint]:
    types = get_type_hints(kind, include_extras=True)
    return {field.name: read_hint(types[field.name]) for field in fields(kind)}


def leaves(kind: type = Config, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Hint]]:
    """The settings that one text can express, which leaves out registries and rules."""
    for name, hint in hints(kind).items():
        if isinstance(hint.kind, type) and is_dataclass(hint.kind):
            yield from leaves(hint.kind, (*path, name))
        elif get_origin(hint.kind) is not dict and not is_dataclass(item_hint(hint).kind):
            yield (*path, name), hint


def item_hint(hint: Hint) -> Hint:
    return read_hint(get_args(hint.kind)[0]) if get_origin(hint.kind) is tuple else hint


# What stands for a value that was reported as wrong, or left to its default.
_NOTHING: Any = object()

_PARSERS: dict[Any, Callable[[str], Any]] = {
    Seconds: convert.parse_seconds,
    Bytes: convert.parse_bytes,
    bool: convert.parse_bool,
    int: convert.parse_int,
    Secret: convert.parse_secret,
    str: str,
}


class Builder:
    """Builds once; `origins` then says where each part was written."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self.origins: dict[KeyPath, Origin] = {}

    def config(self, tree: Mapping) -> Config:
        built = self._record(Config(), tree, ())
        assert isinstance(built, Config)
        return built

    def _value(self, hint: Hint, node: Node, path: KeyPath) -> Any:
        self.origins[path] = node.origin
        if isinstance(node, Scalar) and node.is_null:
            return _NOTHING
        if is_dataclass(hint.kind):
            assert isinstance(hint.kind, type)
            return self._record(hint.kind(), node, path)
        if get_origin(hint.kind) is dict:
            return self._registries(get_args(hint.kind)[1], node, path)
        if get_origin(hint.kind) is tuple:
            return self._tuple(hint, node, path)
        return self._scalar(hint, node, path)

    def _record(self, defaults: Any, node: Node, path: KeyPath) -> Any:
        if not isinstance(node, Mapping):
            return self._wrong(node, path, "settings as `key: value`")
        kinds = hints(type(defaults))
        values = {name: getattr(defaults, name) for name in kinds}
        for key, inner in node.entries.items():
            if key not in kinds:
                self._report.problem(inner.origin, (*path, key), _unknown(key, path, list(kinds)))
                continue
            value = self._value(kinds[key], inner, (*path, key))
            if value is not _NOTHING:
                values[key] = value
        return type(defaults)(**values)

    def _registries(self, kind: type, node: Node, path: KeyPath) -> Any:
        if not isinstance(node, Mapping):
            return self._wrong(node, path, "registries as `name:` with their settings below")
        registries = {}
        for name, inner in node.entries.items():
            self.origins[*path, name] = inner.origin
            defaults = docker_hub() if kind is Registry and name == DOCKER_HUB else kind()
            is_null = isinstance(inner, Scalar) and inner.is_null
            built = defaults if is_null else self._record(defaults, inner, (*path, name))
            registries[name] = defaults if built is _NOTHING else built
        return registries

    def _tuple(self, hint: Hint, node: Node, path: KeyPath) -> Any:
        of_items = item_hint(hint)
        if isinstance(node, Scalar):
            if is_dataclass(of_items.kind):
                return self._wrong(node, path, "a list")
            items: tuple[Node, ...] = self._split(hint, node, path)
        elif isinstance(node, Sequence):
            items = node.items
        else:
            return self._wrong(node, path, "a list")
        values = []
        for number, item in enumerate(items):
            value = self._value(of_items, item, (*path, f"[{number}]"))
            if value is _NOTHING and isinstance(item, Scalar) and item.is_null:
                self._wrong(item, (*path, f"[{number}]"), "a value")
            values.append(value)
        return _NOTHING if any(value is _NOTHING for value in values) else tuple(values)

    def _split(self, hint: Hint, node: Scalar, path: KeyPath) -> tuple[Scalar, ...]:
        if item_hint(hint).kind is Secret:
            # As in a file of them: one may hold blanks.
            words = [line.strip() for line in node.text.splitlines()]
        elif hint.form is not Form.COMMAND:
            words = re.split(r"[\s,]+", node.text.strip(", \t\n"))
        else:
            try:
                words = shlex.split(node.text)
            except ValueError:
                self._wrong(node, path, "a command with its quotes closed")
                return ()
        return tuple(Scalar(node.origin, word) for word in words if word)

    def _scalar(self, hint: Hint, node: Node, path: KeyPath) -> Any:
        if not isinstance(node, Scalar):
            return self._wrong(node, path, "one value")
        try:
            value = self._parse(hint.kind, node)
            return convert.FORMS[hint.form](value) if hint.form else value
        except Expected as expected:
            shown = None if _is_delicate(hint) else node.text
            return self._wrong(node, path, str(expected), shown)

    def _parse(self, kind: Any, node: Scalar) -> Any:
        if get_origin(kind) is Literal:
            choices = get_args(kind)
            if node.text.lower() not in choices:
                raise Expected(f"one of {', '.join(choices)}")
            return node.text.lower()
        if kind is Path:
            return convert.parse_path(node.text, node.origin.base)
        return _PARSERS[kind](node.text)

    def _wrong(self, node: Node, path: KeyPath, expected: str, shown: str | None = None) -> Any:
        got = {Sequence: "; got a list", Mapping: "; got a mapping"}.get(type(node), "")
        if shown is not None:
            got = f"; got {shown[:60]!r}"
        self._report.problem(node.origin, path, f"expected {expected}{got}")
        return _NOTHING


def _is_delicate(hint: Hint) -> bool:
    """URLs are not shown, as they may hold a password; files are named in full by the message."""
    return hint.kind is Secret or hint.form in {Form.PROXY, Form.ENDPOINT, Form.READABLE}


def _unknown(key: str, path: KeyPath, siblings: list[str]) -> str:
    near = difflib.get_close_matches(key.lower(), siblings, n=1)
    elsewhere = [dotted(leaf) for leaf, _ in leaves() if leaf[-1] == key and leaf[:-1] != path]
    if near:
        return f"unknown setting; did you mean {near[0]}?"
    if elsewhere:
        return f"unknown setting here; did you mean {' or '.join(elsewhere)}?"
    return f"unknown setting; expected one of {', '.join(siblings)}"
