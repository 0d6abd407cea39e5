"""`kill -9` and power loss at any step: a fill may be lost, a wrong byte is never served."""

import time

import pytest

from entrepot.oci.media_type import OCTET_STREAM
from tests.storage.disk.child import BODY, DIGEST, WRITTEN
from tests.storage.disk.conftest import Disk, child, has, line_of

HOUR = 3600


async def fill_the_rest(disk: Disk) -> int:
    """How much was there already."""
    store = disk.open()
    draft = await store.draft(DIGEST)
    found = draft.size
    await draft.write(BODY[found:])
    await draft.commit(OCTET_STREAM)
    assert await draft.read(0, len(BODY)) == BODY
    draft.close()
    assert await has(store, DIGEST)
    return found


async def test_a_killed_fill_is_resumed_by_another_process(disk: Disk) -> None:
    with child("fill", disk.directory) as process:
        assert line_of(process) == "written"
    assert await fill_the_rest(disk) == WRITTEN
    assert disk.parts == []


async def test_a_fill_that_is_held_is_not_touched(disk: Disk) -> None:
    with child("fill", disk.directory) as process:
        assert line_of(process) == "written"
        assert await fill_the_rest(disk) == 0
        assert disk.parts == [f"sha256-{DIGEST.hex}.part"]


async def test_what_a_crash_spoilt_is_not_admitted(disk: Disk) -> None:
    store = disk.open()
    with child("fill", disk.directory) as process:
        assert line_of(process) == "written"
    part = disk.directory / "cache/fills" / disk.parts[0]
    part.write_bytes(b"\0" * WRITTEN)  # the file system kept the size and lost the data
    draft = await store.draft(DIGEST)
    await draft.write(BODY[draft.size :])
    with pytest.raises(Exception, match="not the bytes of"):
        await draft.commit(OCTET_STREAM)
    draft.close()
    assert await fill_the_rest(disk) == 0


@pytest.mark.parametrize(
    ("step", "is_stored", "resumed"),
    [
        ("before-rename", False, len(BODY)),
        ("after-rename", False, 0),
        ("after-insert", True, 0),
    ],
)
async def test_killed_in_a_commit(disk: Disk, step: str, is_stored: bool, resumed: int) -> None:  # noqa: FBT001 - a parameter
    with child("die", disk.directory, step) as process:
        assert process.wait() == 9
    store = disk.open()
    assert await has(store, DIGEST) is is_stored
    if not is_stored:
        assert await fill_the_rest(disk) == resumed
    disk.clock.advance(time.time() - disk.clock.now() + 2 * HOUR)
    report = await store.sweep()
    assert report.orphans == (step == "after-rename")
    assert (report.parts, report.missing) == (0, 0)
    assert len(disk.files) == 1
    assert await has(store, DIGEST)


async def test_killed_in_a_removal(disk: Disk) -> None:
    store = disk.open()
    await store.put(DIGEST, BODY, OCTET_STREAM)
    with child("remove", disk.directory) as process:
        assert process.wait() == 9
    assert not await has(store, DIGEST)
    assert len(disk.files) == 1
    assert (await store.sweep()).orphans == 0  # too young: it might be on its way in
    disk.clock.advance(time.time() - disk.clock.now() + 2 * HOUR)
    assert (await store.sweep()).orphans == 1
    assert disk.files == []


async def test_killed_at_any_moment(disk: Disk) -> None:
    for round_number in range(4):
        with child("use", disk.directory, str(round_number), "10000") as process:
            for _ in range(37 * (round_number + 1)):
                line_of(process)
        store = disk.open()
        disk.clock.advance(time.time() - disk.clock.now() + 2 * HOUR)
        assert (await store.scrub(0)).corrupt == ()
        assert (await store.sweep()).missing == 0
        entries = [entry async for entry in store.entries()]
        assert store.statistics().entries == len(entries)
        assert store.statistics().size_bytes == sum(entry.size for entry in entries)
        assert len(disk.files) == sum(entry.size > 32 << 10 for entry in entries)
        await disk.close(store)


async def test_a_truncated_file_is_not_served(disk: Disk) -> None:
    store = disk.open()
    await store.put(DIGEST, BODY, OCTET_STREAM)
    disk.file(DIGEST).chmod(0o600)
    with disk.file(DIGEST).open("r+b") as file:
        file.truncate(1000)
    assert not await has(store, DIGEST)
    assert store.statistics().corrupt == 1
    assert store.statistics().entries == 0
    assert disk.files == []
    assert await fill_the_rest(disk) == 0


async def test_a_row_without_its_file_is_not_served(disk: Disk) -> None:
    store = disk.open()
    await store.put(DIGEST, BODY, OCTET_STREAM)
    disk.file(DIGEST).unlink()
    assert not await has(store, DIGEST)
    assert store.statistics().corrupt == 0
    assert store.statistics().entries == 0


async def test_a_commit_replaces_a_row_without_its_file(disk: Disk) -> None:
    store = disk.open()
    await store.put(DIGEST, BODY, OCTET_STREAM)
    disk.file(DIGEST).unlink()
    assert await fill_the_rest(disk) == 0
    assert len(disk.files) == 1


async def test_the_sweep_finds_rows_without_their_file(disk: Disk) -> None:
    store = disk.open()
    await store.put(DIGEST, BODY, OCTET_STREAM)
    disk.file(DIGEST).unlink()
    assert (await store.sweep()).missing == 1
    assert store.statistics().entries == 0


async def test_private_ones_go_at_once(disk: Disk) -> None:
    """Which nobody would find."""
    store = disk.open()
    shared, private = await store.draft(DIGEST), await store.draft(DIGEST)
    for draft in (shared, private):
        await draft.write(BODY)
        draft.close()
    await store.tend()
    assert disk.parts == [f"sha256-{DIGEST.hex}.part"]


async def test_abandoned_fills_go_after_a_day(disk: Disk) -> None:
    store = disk.open()
    abandoned, held = await store.draft(DIGEST), await store.draft(DIGEST)
    for draft in (abandoned, held):
        await draft.write(BODY)
    abandoned.close()
    disk.clock.advance(time.time() - disk.clock.now() + 23 * HOUR)
    await store.tend()
    assert (await store.sweep()).parts == 0
    disk.clock.advance(2 * HOUR)
    assert (await store.sweep()).parts == 1
    await held.commit(OCTET_STREAM)
    held.close()
    assert await has(store, DIGEST)
