"""Nothing is pickled or unpickled, in whatever way it is asked for."""

from pathlib import Path

import pytest
from diskcache.core import MODE_BINARY, MODE_PICKLE, MODE_RAW

from entrepot.storage.disk.database import Adoption, Database, ValueDisk
from tests.support.clock import ManualClock


@pytest.fixture
def disk(tmp_path: Path) -> ValueDisk:
    return ValueDisk(str(tmp_path))


@pytest.mark.parametrize("key", [b"bytes", 1, 1.5, None, ("a", "b")])
def test_keys_are_text(disk: ValueDisk, key: object) -> None:
    with pytest.raises(TypeError):
        disk.put(key)


@pytest.mark.parametrize("value", ["text", 1, 1.5, None, ["a"], bytearray(b"a"), memoryview(b"a")])
def test_values_are_bytes(disk: ValueDisk, value: object) -> None:
    with pytest.raises(TypeError):
        disk.store(value, read=False)


def test_files_are_not_copied(disk: ValueDisk) -> None:
    with pytest.raises(TypeError):
        disk.store(b"", read=True)


@pytest.mark.parametrize(
    ("mode", "value"), [(MODE_PICKLE, b"cos\nsystem\n"), (MODE_BINARY, None), (MODE_RAW, "text")]
)
def test_nothing_but_bytes_is_fetched(disk: ValueDisk, mode: int, value: object) -> None:
    with pytest.raises(TypeError):
        disk.fetch(mode, None, value, read=False)


@pytest.mark.parametrize(("key", "raw"), [(b"bytes", 1), ("text", 0)])
def test_nothing_but_text_is_a_key(disk: ValueDisk, key: object, raw: int) -> None:
    with pytest.raises(TypeError):
        disk.get(key, raw)
    assert disk.get("text", 1) == "text"


def test_a_file_is_adopted_by_rename(disk: ValueDisk, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"content")
    inode = source.stat().st_ino
    assert disk.store(Adoption(source, "content/ab/name", 7), read=False)[2] == "content/ab/name"
    assert not source.exists()
    assert (tmp_path / "content/ab/name").stat().st_ino == inode
    disk.remove("content/ab/name")
    disk.remove("content/ab/name")
    assert (tmp_path / "content/ab").is_dir()


def test_diskcache_s_own_ways_go_through_it(tmp_path: Path) -> None:
    database = Database(tmp_path, ManualClock())
    database["key"] = b"value"
    assert database["key"] == b"value"
    with pytest.raises(TypeError):
        database["key"] = {"not": "bytes"}
    with pytest.raises(TypeError):
        database[1] = b"value"
    assert list(database) == ["key"]
    database.close()
