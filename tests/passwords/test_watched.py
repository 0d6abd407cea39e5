import os
from pathlib import Path

import pytest

from entrepot.errors import ConfigError
from entrepot.passwords.watched import Watched


class Words:
    """Lines of words; counts how often it was asked to read them."""

    def __init__(self) -> None:
        self.read = 0

    def parse(self, text: str) -> list[str]:
        self.read += 1
        if "bad" in text:
            raise ConfigError("line 1: expected a good word")
        return text.split()


@pytest.fixture
def words() -> Words:
    return Words()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "words"
    path.write_text("one two\n")
    return path


@pytest.fixture
def watched(path: Path, words: Words) -> Watched[list[str]]:
    return Watched("clients.words", path, words.parse)


def test_is_read_once(watched: Watched[list[str]], words: Words) -> None:
    assert watched.current() == ["one", "two"]
    assert watched.current() is watched.current()
    assert words.read == 1


def test_is_read_again_when_it_has_changed(watched: Watched[list[str]], path: Path) -> None:
    path.write_text("three")
    assert watched.current() == ["three"]


def test_and_when_another_took_its_place(watched: Watched[list[str]], path: Path) -> None:
    """Of the same size and time: what programs do that write beside it and rename."""
    found = path.stat()
    other = path.with_name("other")
    other.write_text("six ten\n")
    os.utime(other, ns=(found.st_atime_ns, found.st_mtime_ns))
    other.rename(path)
    assert watched.current() == ["six", "ten"]


def test_a_mark_of_the_editor_is_no_part_of_it(path: Path, words: Words) -> None:
    path.write_bytes(b"\xef\xbb\xbfone")
    assert Watched("x", path, words.parse).current() == ["one"]


class TestANewVersionOfNoUse:
    def test_leaves_the_old_one_and_is_told_once(
        self, watched: Watched[list[str]], path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        path.write_text("bad")
        for _ in range(3):
            assert watched.current() == ["one", "two"]
        (record,) = caplog.records
        assert record.message == (
            f"clients.words: {path}: line 1: expected a good word; what it said before holds"
        )

    def test_is_told_again_when_it_is_another(
        self, watched: Watched[list[str]], path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        for break_it in (path.unlink, path.mkdir, path.rmdir):
            break_it()
            assert watched.current() == ["one", "two"]
        assert [record.message.split(": ")[2] for record in caplog.records] == [
            "No such file or directory; what it said before holds",
            "Is a directory; what it said before holds",
            "No such file or directory; what it said before holds",
        ]

    def test_is_mended(self, watched: Watched[list[str]], path: Path) -> None:
        path.unlink()
        assert watched.current() == ["one", "two"]
        path.write_text("good")
        assert watched.current() == ["good"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"bad", "line 1: expected a good word"),
        (b"\xff", "it is not UTF-8 text"),
        (bytes((4 << 20) + 1), "it is too large"),
        (None, "No such file or directory"),
    ],
    ids=["bad", "binary", "large", "gone"],
)
def test_one_of_no_use_at_the_start(
    path: Path, words: Words, data: bytes | None, message: str
) -> None:
    if data is None:
        path.unlink()
    else:
        path.write_bytes(data)
    with pytest.raises(ConfigError) as caught:
        Watched("clients.words", path, words.parse)
    assert str(caught.value) == f"clients.words: {path}: {message}"
