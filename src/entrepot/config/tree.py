"""What was written, before it has types: texts that know where they stand.

A file is read into nodes (`Scalar`, `Sequence`, `Mapping`) and never into Python objects, so that
each complaint can name a line, and a password such as 0123 or `true` stays the text it is.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from entrepot.errors import ConfigError, system_reason

# Some thousand registries fit; a file of another kind is told from a configuration early.
MAX_FILE_BYTES = 1 << 20
# What a file may hold once its aliases are expanded: "billion laughs" end here.
MAX_NODES = 50_000
# The model is five levels deep; an alias to an enclosing node would never end.
MAX_DEPTH = 16

type KeyPath = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value was written, and what relative paths in it are relative to."""

    label: str
    line: int = 0
    base: Path = field(default_factory=Path.cwd)

    def __str__(self) -> str:
        return f"{self.label}:{self.line}" if self.line else self.label


@dataclass(frozen=True, slots=True)
class Scalar:
    origin: Origin
    text: str = field(default="", repr=False)  # may be a secret
    is_null: bool = False


@dataclass(frozen=True, slots=True)
class Sequence:
    origin: Origin
    items: "tuple[Node, ...]" = ()


@dataclass(frozen=True, slots=True)
class Mapping:
    origin: Origin
    entries: "dict[str, Node]" = field(default_factory=dict)


type Node = Scalar | Sequence | Mapping


def get(node: Node, path: KeyPath) -> Node | None:
    """The node at `path`; None where nothing, or null, is written."""
    for key in path:
        inner = node.entries.get(key) if isinstance(node, Mapping) else None
        if inner is None:
            return None
        node = inner
    return None if isinstance(node, Scalar) and node.is_null else node


def put(tree: Mapping, path: KeyPath, node: Node) -> Mapping:
    """The tree with `node` at `path`. A parent of the wrong kind stays: `build` reports it."""
    key, *rest = path
    if rest:
        parent = get(tree, (key,)) or Mapping(node.origin)
        if not isinstance(parent, Mapping):
            return tree
        node = put(parent, tuple(rest), node)
    return Mapping(tree.origin, {**tree.entries, key: node})


class Report:
    """Collects what is wrong, so that all of it is told at once."""

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.paths: set[KeyPath] = set()
        self._problems: list[tuple[Origin, str]] = []

    def problem(self, origin: Origin, path: KeyPath, message: str) -> None:
        self.paths.add(path)
        # A flag is told by its own name alone.
        place = f"{dotted(path)}: " if path and not origin.label.startswith("--") else ""
        self._problems.append((origin, f"{origin}: {place}{message}"))

    def warn(self, message: str) -> None:
        self.warnings.append(message)

    def raise_if_wrong(self) -> None:
        if self._problems:
            labels = [origin.label for origin, _ in self._problems]
            self._problems.sort(key=lambda item: (labels.index(item[0].label), item[0].line))
            raise ConfigError("\n".join(dict.fromkeys(message for _, message in self._problems)))


def dotted(path: KeyPath) -> str:
    return ".".join(path).replace(".[", "[")


def read_text(path: Path, label: str) -> str:
    """A file's text, bounded: /dev/zero and a disk image are refused, not read."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{label}: cannot be read: {system_reason(error)}") from error
    if len(content) > MAX_FILE_BYTES:
        raise ConfigError(f"{label}: expected a file of at most 1 MiB")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        # The error's text shows bytes of the file, which may be a password.
        raise ConfigError(f"{label}: expected UTF-8 text") from None


def read_yaml(path: Path, report: Report) -> Mapping:
    origin = Origin(str(path), base=path.absolute().parent)
    text = read_text(path, str(path))
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise ConfigError(_syntax_error(error, str(path))) from None
    except RecursionError:
        raise ConfigError(f"{path}: nested too deeply") from None
    if root is None:
        return Mapping(origin)
    tree = _Reader(origin, report).node(root, origin, ())
    if isinstance(tree, Mapping):
        return tree
    if not (isinstance(tree, Scalar) and tree.is_null):
        report.problem(tree.origin, (), "expected settings as `key: value`")
    return Mapping(origin)


def _syntax_error(error: yaml.YAMLError, label: str) -> str:
    """PyYAML's own text shows a piece of the file, and names of aliases, either maybe secret."""
    if not isinstance(error, yaml.MarkedYAMLError):
        return f"{label}: not YAML: a character that text cannot hold"
    mark = error.problem_mark or error.context_mark
    place = f"{label}:{mark.line + 1}" if mark else label
    problem = re.sub(r"(alias|anchor|handle) .*", r"\1", error.problem or "cannot be read")
    said = f"{error.context or ''} {problem}"
    hint = ""
    if "alias" in said:
        hint = '; what begins with * needs quotes, as in "*.example.com"'
    elif "'\\t'" in said:
        hint = "; indent with spaces, not with tabs"
    elif any(word in said for word in ("anchor", "tag", "cannot start any token")):
        hint = "; what begins with one of & ! % @ ` needs quotes"
    return f"{place}: not YAML: {problem}{hint}"


_KINDS = frozenset(
    f"tag:yaml.org,2002:{kind}"
    for kind in ("str", "int", "float", "bool", "null", "timestamp", "merge", "value", "map", "seq")
)
_NULL = "tag:yaml.org,2002:null"
_MERGE = "tag:yaml.org,2002:merge"


class _Reader:
    """Turns PyYAML's nodes into ours, expanding aliases within bounds."""

    def __init__(self, origin: Origin, report: Report) -> None:
        self._origin = origin
        self._report = report
        self._count = 0

    def node(self, node: yaml.Node, origin: Origin, path: KeyPath) -> Node:
        self._count += 1
        if self._count > MAX_NODES or len(path) > MAX_DEPTH:
            raise ConfigError(f"{origin}: too large once its aliases are expanded")
        if node.tag not in _KINDS:
            self._report.problem(origin, path, "expected plain YAML without tags (!…)")
            return Scalar(origin, is_null=True)
        if isinstance(node, yaml.ScalarNode):
            return Scalar(origin, node.value, node.tag == _NULL)
        if isinstance(node, yaml.SequenceNode):
            items = enumerate(node.value)
            return Sequence(
                origin,
                tuple(self.node(item, self._at(item), (*path, f"[{n}]")) for n, item in items),
            )
        return self._mapping(node, origin, path)

    def _mapping(self, node: yaml.Node, origin: Origin, path: KeyPath) -> Mapping:
        entries: dict[str, Node] = {}
        merged: dict[str, Node] = {}
        for key, value in node.value:
            at = self._at(key)
            if key.tag == _MERGE:
                for inherited in self._merged(value, at, path):
                    merged = {**inherited.entries, **merged}
            elif not isinstance(key, yaml.ScalarNode):
                self._report.problem(at, path, "expected a plain key")
            elif key.value in entries:
                first = entries[key.value].origin.line
                message = f"written twice, first in line {first}"
                self._report.problem(at, (*path, key.value), message)
            else:
                entries[key.value] = self.node(value, at, (*path, key.value))
        return Mapping(origin, {**merged, **entries})

    def _merged(self, value: yaml.Node, at: Origin, path: KeyPath) -> Iterator[Mapping]:
        sources = value.value if isinstance(value, yaml.SequenceNode) else [value]
        for source in sources:
            tree = self.node(source, at, (*path, "<<"))
            if isinstance(tree, Mapping):
                yield tree
            else:
                self._report.problem(at, path, "expected << to name a mapping")

    def _at(self, node: yaml.Node) -> Origin:
        return Origin(self._origin.label, node.start_mark.line + 1, self._origin.base)
