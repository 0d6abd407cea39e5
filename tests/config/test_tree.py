"""Files become texts with origins, within bounds, and errors never show a value."""

from pathlib import Path

import pytest

from entrepot.config.tree import (
    MAX_FILE_BYTES,
    Mapping,
    Origin,
    Report,
    Scalar,
    Sequence,
    get,
    put,
    read_yaml,
)
from entrepot.errors import ConfigError


def read(tmp_path: Path, text: str) -> tuple[Mapping, Report]:
    path = tmp_path / "entrepot.yaml"
    path.write_text(text)
    report = Report()
    return read_yaml(path, report), report


def problems(report: Report) -> str:
    with pytest.raises(ConfigError) as caught:
        report.raise_if_wrong()
    return str(caught.value)


def text_at(tree: Mapping, *path: str) -> str:
    node = get(tree, path)
    assert isinstance(node, Scalar)
    return node.text


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "null\n", "~", "\ufeff"])
def test_an_empty_document_says_nothing(tmp_path: Path, text: str) -> None:
    tree, report = read(tmp_path, text)
    report.raise_if_wrong()
    assert tree.entries == {}


@pytest.mark.parametrize("text", ["0123", "true", "1e3", "12:30:45", "2024-01-01", "0x1f"])
def test_a_value_stays_the_text_that_was_written(tmp_path: Path, text: str) -> None:
    tree, _ = read(tmp_path, f"a:\n  b: {text}\n")
    assert text_at(tree, "a", "b") == text


def test_a_node_knows_its_line(tmp_path: Path) -> None:
    tree, _ = read(tmp_path, "\na:\n  b:\n    - x\n    - y\n")
    items = get(tree, ("a", "b"))
    assert isinstance(items, Sequence)
    assert items.origin.line == 3, "the line of the key"
    assert [item.origin.line for item in items.items] == [4, 5]


def test_keys_may_be_written_once(tmp_path: Path) -> None:
    _, report = read(tmp_path, "a: 1\nb: {c: 1, c: 2}\na: 2\n")
    assert problems(report) == (
        f"{tmp_path}/entrepot.yaml:2: b.c: written twice, first in line 2\n"
        f"{tmp_path}/entrepot.yaml:3: a: written twice, first in line 1"
    )


def test_anchors_aliases_and_merges_are_expanded(tmp_path: Path) -> None:
    text = "a: &a {x: 1, y: 2}\nb: *a\nc: {<<: *a, y: 3}\nd:\n  <<: [{y: 4}, *a]\n"
    tree, report = read(tmp_path, text)
    report.raise_if_wrong()
    assert text_at(tree, "b", "y") == "2"
    assert (text_at(tree, "c", "x"), text_at(tree, "c", "y")) == ("1", "3")
    assert text_at(tree, "d", "y") == "4", "the first of several wins"


def test_a_merge_names_a_mapping(tmp_path: Path) -> None:
    _, report = read(tmp_path, "a: {<<: 5}\n")
    assert "expected << to name a mapping" in problems(report)


@pytest.mark.parametrize("tag", ["!vault", "!!python/object:os.system", "!!binary", "!!set"])
def test_tags_are_refused(tmp_path: Path, tag: str) -> None:
    _, report = read(tmp_path, f"a: {tag} value\n")
    assert "entrepot.yaml:1: a: expected plain YAML without tags" in problems(report)


def test_keys_are_plain(tmp_path: Path) -> None:
    _, report = read(tmp_path, "a: {[x]: 1}\n")
    assert "a: expected a plain key" in problems(report)


@pytest.mark.parametrize("text", ["[a, b]", "just words"])
def test_the_top_is_a_mapping(tmp_path: Path, text: str) -> None:
    _, report = read(tmp_path, text)
    assert "expected settings as `key: value`" in problems(report)


def bomb() -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    "text",
    [bomb(), "a: &a {b: *a}", "a: &a [*a]", "a: " + "[" * 20_000, "a: &a\n  <<: *a\n"],
    ids=["laughs", "endless mapping", "endless list", "deep", "endless merge"],
)
def test_bombs_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"expanded|nested too deeply|not YAML"):
        read(tmp_path, text)


def test_a_large_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at most 1 MiB"):
        read(tmp_path, "#" * (MAX_FILE_BYTES + 1))


def test_an_endless_file_is_refused() -> None:
    with pytest.raises(ConfigError, match="/dev/zero: expected a file of at most 1 MiB"):
        read_yaml(Path("/dev/zero"), Report())


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read: No such file"):
        read_yaml(tmp_path / "none.yaml", Report())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nlisten: *:3128\n", r"yaml:2: not YAML: .*begins with \* needs quotes"),
        ("registries:\n  *.pkg.dev:\n", r"yaml:2: not YAML: .*begins with \* needs quotes"),
        ("a:\n\tb: 1\n", r"yaml:2: not YAML: .*; indent with spaces, not with tabs$"),
        ("a: @b\n", r"yaml:1: not YAML: .*needs quotes"),
        ("a: %b\n", r"yaml:1: not YAML: .*needs quotes"),
        ("a: [1\nb: 2\n", r"yaml:2: not YAML"),
        ("a: 1\n---\nb: 2\n", r"yaml:2: not YAML"),
        ("a: \x00\n", r"yaml: not YAML: a character"),
    ],
)
def test_what_is_no_yaml_is_told_with_its_line(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        read(tmp_path, text)


@pytest.mark.parametrize(
    "text",
    [
        "password: *hunter2\n",
        "password: !hunter2!x y\n",
        "password: 'hunter2\n",
        "password: hunter2: x\n",
        "password: &hunter2 a\nb: &hunter2 c\nd: [\n",
        "password: {hunter2\n",
        'password: "hunter2\\q"\n',
        "password: @hunter2\n",
    ],
)
def test_a_syntax_error_shows_no_value(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    assert "hunter2" not in str(caught.value)


def test_other_encodings_are_refused_without_showing_bytes(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes("password: geheimnis-ö".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"latin\.yaml: expected UTF-8 text") as caught:
        read_yaml(path, Report())
    assert caught.value.__cause__ is None


def test_put_makes_parents_and_keeps_what_is_wrong() -> None:
    origin = Origin("test")
    tree = Mapping(origin, {"a": Scalar(origin, is_null=True), "b": Scalar(origin, "text")})
    value = Scalar(origin, "value")
    assert get(put(tree, ("a", "x"), value), ("a", "x")) == value
    assert get(put(tree, ("n", "x"), value), ("n", "x")) == value
    assert put(tree, ("b", "x"), value) is tree
    assert get(tree, ("b", "x")) is None


def test_a_scalar_shows_no_text() -> None:
    assert "hunter2" not in repr(Scalar(Origin("test"), "hunter2"))
