"""From the page cache on the loop, from the disk in a thread, the same bytes."""

import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from entrepot.errors import StorageError
from entrepot.storage.disk.reading import FileReader, OpenFile
from entrepot.storage.disk.workers import Workers

BODY = os.urandom(3 << 20)


@pytest.fixture
async def workers() -> AsyncIterator[Workers]:
    workers = Workers()
    yield workers
    await workers.aclose(lambda: None)


@pytest.fixture
def file(tmp_path: Path) -> OpenFile:
    path = tmp_path / "file"
    path.write_bytes(BODY)
    return OpenFile(os.open(path, os.O_RDONLY))


class Answers:
    """`os.preadv` where the page cache or the file system says otherwise."""

    def __init__(self, answer: int | OSError) -> None:
        self.answer = answer
        self.calls = 0

    def __call__(self, descriptor: int, targets: list[memoryview], offset: int, _: int) -> int:
        self.calls += 1
        if isinstance(self.answer, OSError):
            raise self.answer
        return os.preadv(descriptor, [targets[0][: self.answer]], offset)


@pytest.mark.parametrize("answer", [0, 1000, 1 << 20, BlockingIOError(), OSError(errno.EIO, "")])
@pytest.mark.parametrize(("offset", "size"), [(0, 4096), (100, 1 << 20), (5, 2 << 20)])
async def test_whatever_the_page_cache_has(
    workers: Workers, file: OpenFile, answer: int | OSError, offset: int, size: int
) -> None:
    reader = FileReader(workers, Answers(answer))
    assert await reader.read(file, offset, size) == BODY[offset : offset + size]
    file.close()


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL])
async def test_a_file_system_that_cannot_is_asked_once(
    workers: Workers, file: OpenFile, code: int
) -> None:
    answers = Answers(OSError(code, "no"))
    reader = FileReader(workers, answers)
    for _ in range(3):
        assert await reader.read(file, 7, 100) == BODY[7:107]
    assert answers.calls == 1
    file.close()


async def test_a_platform_that_cannot_is_not_asked(
    workers: Workers, file: OpenFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "RWF_NOWAIT")
    answers = Answers(0)
    reader = FileReader(workers, answers)
    assert await reader.read(file, 7, 100) == BODY[7:107]
    assert answers.calls == 0
    file.close()


async def test_a_file_that_ends_early_is_an_error_and_not_a_short_answer(
    workers: Workers, file: OpenFile
) -> None:
    with pytest.raises(StorageError, match="ends before"):
        await FileReader(workers).read(file, len(BODY) - 10, 11)
    file.close()


async def test_a_descriptor_is_not_closed_under_a_reader(file: OpenFile) -> None:
    with file.borrowed() as descriptor:
        file.close()
        assert os.pread(descriptor, 10, 0) == BODY[:10]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
    with pytest.raises(ValueError, match="closed"), file.borrowed():
        pass
    file.close()


async def test_a_file_that_was_forgotten_is_closed_and_said(file: OpenFile, tmp_path: Path) -> None:
    forgotten = OpenFile(os.open(tmp_path / "file", os.O_RDONLY))
    descriptor = forgotten._descriptor
    with pytest.warns(ResourceWarning, match="not closed"):
        del forgotten
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
    file.close()
