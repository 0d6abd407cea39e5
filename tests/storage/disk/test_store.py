"""The store as a whole: its start, its upkeep, its end."""

import asyncio
import fcntl
import sqlite3
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import pytest

from entrepot.config.kinds import Bytes, Seconds
from entrepot.config.model import Storage
from entrepot.errors import StorageError
from entrepot.oci.digest import Digest
from entrepot.oci.media_type import OCTET_STREAM
from entrepot.storage.disk import DiskStore
from entrepot.storage.disk.layout import VERSION
from tests.storage.disk.child import BODY, DIGEST
from tests.storage.disk.conftest import Disk, has

SMALL = b"small"
UNLIMITED = replace(Storage(), min_free=Bytes(0))


async def test_what_is_stored_is_there_after_a_restart(disk: Disk) -> None:
    store = disk.open()
    await store.put(DIGEST, BODY, OCTET_STREAM)
    await store.put(Digest.of(SMALL), SMALL, OCTET_STREAM)
    await store.pin(DIGEST, pinned=True)
    await store.ledger.put("a", b"1", 60)
    await disk.close(store)
    store = disk.open()
    assert {(entry.digest, entry.is_pinned) async for entry in store.entries()} == {
        (DIGEST, True),
        (Digest.of(SMALL), False),
    }
    assert await store.ledger.get("a") == b"1"
    assert store.statistics().size_bytes == len(BODY) + len(SMALL)


async def test_stored_files_are_nobody_elses(disk: Disk) -> None:
    store = disk.open()
    await store.put(DIGEST, BODY, OCTET_STREAM)
    assert disk.file(DIGEST).stat().st_mode & 0o777 == 0o400
    assert (disk.directory / "cache").stat().st_mode & 0o077 == 0


async def test_a_newer_layout_is_not_touched(disk: Disk) -> None:
    await disk.close(disk.open())
    version = disk.directory / "cache/version"
    assert version.read_text() == f"{VERSION}\n"
    version.write_text(f"{VERSION + 1}\n")
    with pytest.raises(StorageError, match="newer entrepot"):
        disk.open()
    version.write_text("what?")
    with pytest.raises(StorageError, match="not a version"):
        disk.open()


async def test_a_directory_that_cannot_be_used_is_named(disk: Disk) -> None:
    (disk.directory / "cache").write_text("a file")
    with pytest.raises(StorageError, match=str(disk.directory)):
        disk.open()


async def test_a_broken_database_is_named(disk: Disk) -> None:
    await disk.close(disk.open())
    (disk.directory / "cache/cache.db").write_bytes(b"not a database" * 100)
    with pytest.raises(StorageError, match=f"{disk.directory}.*not a database"):
        disk.open()


async def test_a_path_that_diskcache_would_expand_is_refused(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENTREPOT_TEST", "elsewhere")
    disk.directory /= "$ENTREPOT_TEST"
    with pytest.raises(StorageError, match="expand"):
        disk.open()


async def test_readiness(disk: Disk) -> None:
    store = disk.open()
    await store.check_writable()
    fills = disk.directory / "cache/fills"
    fills.rename(fills.with_name("gone"))
    with pytest.raises(StorageError):
        await store.check_writable()
    fills.with_name("gone").rename(fills)
    await store.check_writable()
    assert disk.parts == []


async def test_a_database_that_fails_is_a_storage_error(disk: Disk) -> None:
    store = disk.open()
    limit = await store._workers.write(
        lambda: store._index._sql("PRAGMA max_page_count = 1").fetchone()[0]
    )
    body = b"x" * 30_000

    async def fill() -> None:
        for number in range(limit):
            numbered = b"%d" % number + body
            await store.put(Digest.of(numbered), numbered, OCTET_STREAM)

    with pytest.raises(StorageError, match="full"):
        await fill()
    draft = await store.draft(DIGEST)
    await draft.write(BODY)
    await draft.discard()
    draft.close()
    # The connection is not left in a transaction: with room again, it works again.
    await store._workers.write(
        lambda: store._index._sql("PRAGMA max_page_count = 100000").fetchone()
    )
    await store.put(DIGEST, BODY, OCTET_STREAM)
    assert await has(store, DIGEST)


async def test_a_database_locked_by_another_is_a_storage_error(disk: Disk) -> None:
    store = disk.open()
    await store._workers.write(lambda: store._index._sql("PRAGMA busy_timeout = 1").fetchone())
    other = sqlite3.connect(disk.directory / "cache/cache.db")
    other.execute("BEGIN IMMEDIATE")
    draft = await store.draft(DIGEST)
    await draft.write(BODY)
    with pytest.raises(StorageError):
        await draft.commit(OCTET_STREAM)
    assert await draft.read(0, 10) == BODY[:10]
    await draft.discard()
    draft.close()
    assert not await has(store, DIGEST)
    assert (disk.files, disk.parts) == ([], [])
    other.rollback()
    other.close()
    await store.put(DIGEST, BODY, OCTET_STREAM)
    assert await has(store, DIGEST)


async def test_a_closed_store_says_so(disk: Disk) -> None:
    store = disk.open()
    await disk.close(store)
    with pytest.raises(StorageError, match="closed"):
        await store.open(DIGEST)


@pytest.mark.parametrize("turns", range(6))
async def test_an_open_that_is_cancelled_leaves_no_descriptor(disk: Disk, turns: int) -> None:
    store = disk.open()
    await store.put(DIGEST, BODY, OCTET_STREAM)
    await has(store, DIGEST)
    await store.tend()  # by now each thread has its connections
    before = descriptors()
    async with asyncio.TaskGroup() as tasks:
        opening = tasks.create_task(store.open(DIGEST))
        drafting = tasks.create_task(store.draft(DIGEST))
        for _ in range(turns):
            await asyncio.sleep(0)
        opening.cancel()
        drafting.cancel()
    await store.tend()  # queues behind what was begun
    for task in (opening, drafting):
        if not task.cancelled() and (result := task.result()) is not None:
            result.close()
    assert descriptors() <= before


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("turns", range(4))
async def test_a_write_that_is_cancelled_leaves_a_draft_that_goes_on(
    disk: Disk, turns: int
) -> None:
    store = disk.open()
    draft = await store.draft(DIGEST)
    await draft.write(BODY[:1000])
    async with asyncio.TaskGroup() as tasks:
        writing = tasks.create_task(draft.write(BODY[1000 : 1 << 20]))
        for _ in range(turns):
            await asyncio.sleep(0)
        writing.cancel()
    await draft.suspend()
    draft.close()
    draft = await store.draft(DIGEST)
    assert draft.size in {1000, 1 << 20}
    await draft.write(BODY[draft.size :])
    await draft.commit(OCTET_STREAM)
    draft.close()


async def test_maintenance_runs_until_cancelled_whatever_fails(
    disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    store = disk.open()
    await store.put(DIGEST, BODY, OCTET_STREAM)
    await store.ledger.put("a", b"1", 60)
    disk.clock.advance(100 * 86400)
    passed = asyncio.Event()
    asked: list[float] = []

    async def pause(seconds: float) -> None:
        asked.append(seconds)
        if len(asked) > 3 * 5:
            passed.set()
            await asyncio.Event().wait()

    fills = disk.directory / "cache/fills"
    fills.rename(fills.with_name("gone"))
    async with asyncio.TaskGroup() as tasks:
        maintenance = tasks.create_task(store.maintain(pause))
        await passed.wait()
        maintenance.cancel()
    assert "upkeep of the store" in caplog.text
    fills.with_name("gone").rename(fills)
    await store.tend()
    assert store.statistics().entries == 0
    assert await store._workers.read(lambda: len(store.ledger._table)) == 0


async def test_the_database_shrinks(disk: Disk) -> None:
    store = disk.open()
    bodies = [b"%d" % number + b"x" * 30_000 for number in range(100)]
    for body in bodies:
        await store.put(Digest.of(body), body, OCTET_STREAM)
    pages = await store._workers.read(lambda: store._index._sql("PRAGMA page_count").fetchone()[0])
    for body in bodies:
        await store.remove(Digest.of(body))
    await store.tend()
    after = await store._workers.read(lambda: store._index._sql("PRAGMA page_count").fetchone()[0])
    assert after < pages / 4


async def test_a_look_up_takes_no_longer_among_many(disk: Disk) -> None:
    store = disk.open()
    await store.put(Digest.of(SMALL), SMALL, OCTET_STREAM)
    alone = await time_of_look_up(store)

    def fill() -> None:
        with store._index.transaction():
            for number in range(20_000):
                body = b"%d" % number
                store._index.admit(str(Digest.of(body)), body, OCTET_STREAM)

    await store._workers.write(fill)
    assert store.statistics().entries == 20_001
    # Five times: the machine may be busy. Without its index a look-up takes hundreds of times.
    assert await time_of_look_up(store) < 5 * alone + 0.001


async def time_of_look_up(store: DiskStore) -> float:
    times = []
    for _ in range(50):
        started = time.perf_counter()
        assert await has(store, Digest.of(SMALL))
        times.append(time.perf_counter() - started)
    return median(times)


async def test_a_scrub_is_due_once_in_an_interval_and_for_one(disk: Disk) -> None:
    settings = replace(UNLIMITED, scrub_interval=Seconds(3600), scrub_rate=Bytes(0))
    one, two = disk.open(settings), disk.open(settings)
    await one.put(DIGEST, BODY, OCTET_STREAM)
    assert await one._upkeep.scrub_if_due() is None
    disk.clock.advance(3600)
    reports = await asyncio.gather(one._upkeep.scrub_if_due(), two._upkeep.scrub_if_due())
    assert [report.checked for report in reports if report] == [1]
    assert await two._upkeep.scrub_if_due() is None
    disk.clock.advance(3600)
    report = await two._upkeep.scrub_if_due()
    assert report is not None


async def test_the_path_of_the_store(disk: Disk) -> None:
    disk.open()
    assert {path.name for path in (disk.directory / "cache").iterdir()} >= {
        "cache.db",
        "content",
        "fills",
        "ledger",
        "version",
    }
    assert not [path for path in disk.directory.glob("*") if path.name != "cache"]


async def test_no_scrub_beside_another(disk: Disk) -> None:
    store = disk.open(replace(UNLIMITED, scrub_interval=Seconds(1)))
    assert await store._upkeep.scrub_if_due() is None
    disk.clock.advance(3600)
    with (disk.directory / "cache/scrubbed").open() as marker:
        fcntl.flock(marker, fcntl.LOCK_EX)
        assert await store._upkeep.scrub_if_due() is None
    assert await store._upkeep.scrub_if_due() is not None


async def test_a_draft_is_refused_where_there_is_no_room_for_it(disk: Disk) -> None:
    disk.free = lambda _: 0
    store = disk.open(replace(UNLIMITED, min_free=Bytes(1)))
    with pytest.raises(StorageError, match="full"):
        await store.draft(DIGEST)
    assert disk.parts == []
