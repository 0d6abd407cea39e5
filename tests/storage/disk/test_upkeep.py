"""Whatever goes wrong in a round of upkeep is said and tried again; nothing ends the proxy."""

import logging
import os
import shutil
from collections.abc import Awaitable, Callable

import pytest

from entrepot.errors import StorageError
from entrepot.storage.disk import upkeep
from tests.storage.disk.conftest import Disk


class RoundsAreOver(BaseException):
    """Nothing that upkeep would catch."""


async def run(job: Callable[[], Awaitable[object]], rounds: int) -> None:
    left = rounds

    async def sleep(_seconds: float) -> None:
        nonlocal left
        if not left:
            raise RoundsAreOver
        left -= 1

    with pytest.raises(RoundsAreOver):
        await upkeep._repeat(job, 3600, sleep)


@pytest.mark.parametrize("error", [StorageError("full"), OSError("gone"), AssertionError("ours")])
async def test_what_goes_wrong_is_said_and_tried_again(
    caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    tries = 0

    async def job() -> None:
        nonlocal tries
        tries += 1
        raise error

    with caplog.at_level(logging.ERROR):
        await run(job, rounds=2)
    assert tries == 2
    assert len(caplog.records) == 2


async def test_a_content_directory_that_has_gone_is_said(
    disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    store = disk.open()
    shutil.rmtree(disk.directory / "cache/content")
    with pytest.raises(StorageError, match="FileNotFoundError"):
        await store.sweep()
    with caplog.at_level(logging.ERROR):
        await run(store.sweep, rounds=1)
    assert "FileNotFoundError" in caplog.text


async def test_a_marker_that_cannot_be_touched_is_said(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a disk that went read-only while it was scrubbed."""
    store = disk.open()
    assert await store._upkeep.scrub_if_due() is None
    disk.clock.advance(8 * 86_400)

    def refuse(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "utime", refuse)
    with pytest.raises(StorageError, match="Read-only"):
        await store._upkeep.scrub_if_due()
