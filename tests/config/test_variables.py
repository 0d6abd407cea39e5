"""Variables as texts, flags, and the content of files."""

from pathlib import Path

import pytest

from entrepot.config.tree import Report
from entrepot.config.variables import Variables
from entrepot.errors import ConfigError


def problems(report: Report) -> str:
    with pytest.raises(ConfigError) as caught:
        report.raise_if_wrong()
    return str(caught.value)


def test_empty_is_not_set() -> None:
    variables = Variables({"A": "", "B": "  ", "C": " x "}, Report())
    assert (variables.text("A"), variables.text("B"), variables.text("D")) == (None, None, None)
    assert variables.flag("A") is None
    first = variables.first("A", "C")
    assert first is not None
    assert first.text == "x"
    assert variables.names() == ["B", "C"]


def test_a_flag_is_true_or_false() -> None:
    report = Report()
    variables = Variables({"YES": "True", "NO": "0", "X": "perhaps"}, report)
    assert (variables.flag("YES"), variables.flag("NO"), variables.flag("X")) == (True, False, None)
    assert problems(report) == "X: expected true or false; got 'perhaps'"


def test_a_secret_comes_from_one_place(tmp_path: Path) -> None:
    file = tmp_path / "s"
    file.write_text("hunter2\r\n")
    report = Report()
    variables = Variables({"A": "x", "A_FILE": str(file), "B_FILE": str(file)}, report)
    assert variables.secret("C") is None
    assert variables.file("C_FILE") is None
    from_file = variables.secret("B")
    assert from_file is not None
    assert from_file.text == "hunter2"
    assert variables.secret("A") is None
    assert problems(report) == "A_FILE: expected this or A, not both"


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (None, "S_FILE: PATH: cannot be read: No such file or directory"),
        (b"\n", "S_FILE: PATH: expected a secret; it is empty"),
        (b"\xff", "S_FILE: PATH: expected UTF-8 text"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(
    tmp_path: Path, content: bytes | None, error: str
) -> None:
    file = tmp_path / "s"
    if content is not None:
        file.write_bytes(content)
    report = Report()
    assert Variables({"S_FILE": str(file)}, report).secret("S") is None
    assert problems(report) == error.replace("PATH", str(file))
