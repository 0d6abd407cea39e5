"""Intakes on a disk: their part files, the room they take, and what crashes leave of them."""

import asyncio
import time
from dataclasses import replace

import pytest

from entrepot.config.kinds import Bytes
from entrepot.config.model import Storage
from entrepot.errors import DigestMismatch, StorageError
from entrepot.oci.media_type import OCTET_STREAM
from tests.storage.disk.child import BODY, DIGEST, WRITTEN
from tests.storage.disk.conftest import Disk, child, has, line_of

HOUR = 3600


@pytest.mark.parametrize("end", ["commit", "mismatch", "discard"])
async def test_the_part_file_goes_with_it(disk: Disk, end: str) -> None:
    store = disk.open()
    intake = await store.intake()
    await intake.write(BODY if end == "commit" else BODY[:-1])
    assert [name.startswith("intake-") for name in disk.parts] == [True]
    match end:
        case "commit":
            await intake.commit(DIGEST, OCTET_STREAM)
        case "mismatch":
            with pytest.raises(DigestMismatch):
                await intake.commit(DIGEST, OCTET_STREAM)
        case _:
            await intake.discard()
    intake.close()
    assert disk.parts == []
    assert await has(store, DIGEST) is (end == "commit")


async def test_what_was_spoilt_on_the_disk_is_not_admitted_by_sha512(disk: Disk) -> None:
    """Which is read back, not hashed on its way."""
    digest = DIGEST.of(BODY, "sha512")
    store = disk.open()
    intake = await store.intake()
    await intake.write(BODY)
    part = disk.directory / "cache/fills" / disk.parts[0]
    with part.open("r+b") as file:
        file.write(b"\0" * 100)
    with pytest.raises(DigestMismatch):
        await intake.commit(digest, OCTET_STREAM)
    intake.close()
    assert not await has(store, digest)


async def test_it_takes_part_in_the_limits(disk: Disk) -> None:
    store = disk.open(replace(Storage(), min_free=Bytes(0), max_size=Bytes(4 << 20)))
    await store.put(DIGEST, BODY, OCTET_STREAM)
    intake = await store.intake()
    for _ in range(3):
        await intake.write(bytes(1 << 20))
    assert not await has(store, DIGEST)  # which made room for it
    with pytest.raises(StorageError, match="full"):
        await intake.write(bytes(2 << 20))
    await intake.discard()
    intake.close()
    assert disk.parts == []


async def test_none_begins_where_there_is_no_room(disk: Disk) -> None:
    store = disk.open(replace(Storage(), min_free=Bytes(1 << 60)))
    with pytest.raises(StorageError, match="full"):
        await store.intake()
    assert disk.parts == []


async def test_one_of_a_killed_process_is_swept(disk: Disk) -> None:
    with child("take-in", disk.directory) as process:
        assert line_of(process) == "written"
        store = disk.open()
        await store.tend()
        (part,) = disk.parts  # it is held
    assert (disk.directory / "cache/fills" / part).stat().st_size == WRITTEN
    await store.tend()
    assert disk.parts == []
    assert not await has(store, DIGEST)


@pytest.mark.parametrize("step", ["before-rename", "after-rename", "after-insert"])
async def test_killed_in_a_commit(disk: Disk, step: str) -> None:
    with child("die-taking-in", disk.directory, step) as process:
        assert process.wait() == 9
    store = disk.open()
    assert await has(store, DIGEST) is (step == "after-insert")
    disk.clock.advance(time.time() - disk.clock.now() + 25 * HOUR)
    report = await store.sweep()
    assert report.parts == (step == "before-rename")
    assert report.orphans == (step == "after-rename")
    assert disk.parts == []
    assert len(disk.files) == (step == "after-insert")


async def test_who_goes_away_while_it_is_opened_leaves_nothing(disk: Disk) -> None:
    store = disk.open()
    async with asyncio.TaskGroup() as tasks:
        for turns in range(40):
            opening = tasks.create_task(store.intake())
            for _ in range(turns):
                await asyncio.sleep(0)
            opening.cancel()
            await asyncio.wait({opening})
            if not opening.cancelled():
                await opening.result().discard()
                opening.result().close()
    await disk.close(store)
    assert disk.parts == []
