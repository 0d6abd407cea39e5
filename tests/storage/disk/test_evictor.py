"""What goes, and what stays."""

from dataclasses import replace
from pathlib import Path

import pytest

from entrepot.config.kinds import Bytes, Seconds
from entrepot.config.model import Storage
from entrepot.errors import StorageError
from entrepot.oci.digest import Digest
from entrepot.oci.media_type import OCI_MANIFEST, OCTET_STREAM
from entrepot.storage.disk import DiskStore
from tests.storage.disk.conftest import Disk, has

FILE = 100_000
HOUR, DAY = 3600, 86400
UNLIMITED = replace(Storage(), min_free=Bytes(0))


def limited(max_size: int) -> Storage:
    return replace(UNLIMITED, max_size=Bytes(max_size))


def body(number: int, size: int = FILE) -> bytes:
    return b"%08d" % number * (size // 8)


async def put(disk: Disk, store: DiskStore, number: int, size: int = FILE) -> Digest:
    """Each a second after the one before."""
    digest = Digest.of(body(number, size))
    await store.put(digest, body(number, size), OCTET_STREAM)
    disk.clock.advance(1)
    return digest


async def stored(store: DiskStore, digests: list[Digest]) -> list[int]:
    present = {entry.digest async for entry in store.entries()}
    return [number for number, digest in enumerate(digests) if digest in present]


async def test_the_least_recently_used_go_first(disk: Disk) -> None:
    store = disk.open(limited(5 * FILE))
    digests = [await put(disk, store, number) for number in range(4)]
    assert await has(store, digests[0])
    digests += [await put(disk, store, number) for number in (4, 5)]
    # Room for the sixth, and a hundredth beyond need, take two.
    assert await stored(store, digests) == [0, 3, 4, 5]
    statistics = store.statistics()
    assert (statistics.entries, statistics.size_bytes) == (4, 4 * FILE)
    assert (statistics.evictions, statistics.evicted_bytes) == (2, 2 * FILE)
    assert len(disk.files) == 4


async def test_a_use_lasts_over_a_restart(disk: Disk) -> None:
    store = disk.open(limited(5 * FILE))
    digests = [await put(disk, store, number) for number in range(4)]
    assert await has(store, digests[0])
    await disk.close(store)
    store = disk.open(limited(5 * FILE))
    digests += [await put(disk, store, number) for number in (4, 5)]
    assert 0 in await stored(store, digests)


async def test_pins_are_spared(disk: Disk) -> None:
    store = disk.open(limited(5 * FILE))
    digests = [await put(disk, store, 0)]
    await store.pin(digests[0], pinned=True)
    digests += [await put(disk, store, number) for number in range(1, 8)]
    assert 0 in await stored(store, digests)
    assert store.statistics().size_bytes <= 5 * FILE


async def test_a_store_full_of_pins_is_full(disk: Disk) -> None:
    store = disk.open(limited(3 * FILE))
    digests = [await put(disk, store, number) for number in range(3)]
    for digest in digests:
        await store.pin(digest, pinned=True)
    with pytest.raises(StorageError, match="full"):
        await put(disk, store, 3)
    assert await stored(store, digests) == [0, 1, 2]
    await store.pin(digests[1], pinned=False)
    await put(disk, store, 3)
    assert await stored(store, digests) == [0, 2]


async def test_small_content_goes_last(disk: Disk) -> None:
    store = disk.open(limited(4 * FILE))
    manifest = await put(disk, store, 1000, size=2000)
    digests = [await put(disk, store, number) for number in range(8)]
    assert await stored(store, [manifest, *digests[:4]]) == [0]
    await put(disk, store, 9, size=4 * FILE - 400)
    assert await stored(store, [manifest, *digests]) == []


async def test_what_can_never_fit_evicts_nothing(disk: Disk) -> None:
    store = disk.open(limited(3 * FILE))
    digests = [await put(disk, store, number) for number in range(3)]
    draft = await store.draft(Digest.of(b"large"))
    with pytest.raises(StorageError, match="max_size"):
        await draft.expect(3 * FILE + 1)
    await draft.discard()
    draft.close()
    assert await stored(store, digests) == [0, 1, 2]
    assert disk.parts == []


async def test_a_draft_makes_room_as_it_grows(disk: Disk) -> None:
    store = disk.open(limited(10 * FILE))
    digests = [await put(disk, store, number) for number in range(10)]
    large = body(77, 8 * FILE)
    draft = await store.draft(Digest.of(large))
    for start in range(0, len(large), FILE):
        await draft.write(large[start : start + FILE])
        assert store.statistics().size_bytes + draft.size <= 10 * FILE + draft._store.evictor.stride
    await draft.commit(OCTET_STREAM)
    draft.close()
    assert await stored(store, digests) in ([8, 9], [9])
    assert store.statistics().size_bytes <= 10 * FILE


async def test_fills_of_others_count_and_abandoned_ones_go(disk: Disk) -> None:
    store = disk.open(limited(10 * FILE))
    abandoned, held = Digest.of(b"abandoned"), Digest.of(b"held")
    for digest in (abandoned, held):
        draft = await store.draft(digest)
        await draft.write(body(1, 4 * FILE))
        if digest is abandoned:
            await draft.suspend()
            draft.close()
    with pytest.raises(StorageError, match="full"):
        await put(disk, store, 2, size=7 * FILE)
    assert disk.parts == [f"sha256-{held.hex}.part"]
    await put(disk, store, 2, size=5 * FILE)
    draft.close()


async def test_min_free_is_kept(disk: Disk) -> None:
    volume = 10 * FILE

    def free(_: object) -> int:
        return volume - sum(path.stat().st_size for path in disk.files)

    disk.free = free
    store = disk.open(replace(UNLIMITED, min_free=Bytes(4 * FILE), max_size=Bytes(50 * FILE)))
    manifest = await put(disk, store, 1000, size=2000)
    digests = [await put(disk, store, number) for number in range(12)]
    assert free(None) >= 4 * FILE
    assert await stored(store, digests) == [6, 7, 8, 9, 10, 11]
    assert await has(store, manifest)
    volume = 3 * FILE  # others wrote to the disk
    with pytest.raises(StorageError, match="min_free"):
        await store.draft(Digest.of(b"new"))
    assert disk.files == []
    assert await has(store, manifest), "rows free nothing on the disk"


async def test_a_shortage_is_told_now_and_then_and_until_it_ends(
    disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    disk.free = lambda _: 4 * FILE - 1
    store = disk.open(replace(UNLIMITED, min_free=Bytes(1 << 20)))
    for told, minutes in [(1, 0), (1, 4), (2, 2)]:
        disk.clock.advance(60 * minutes)
        with pytest.raises(StorageError, match="min_free leaves no room"):
            await store.draft(Digest.of(b"new"))
        assert len(caplog.records) == told
    assert store.shortage == caplog.records[0].message
    assert store.shortage == (
        "the cache cannot grow: storage.min_free (1m) leaves no room"
        f" on {disk.directory / 'cache'}; pulls go on uncached"
    )
    assert store.statistics().refusals == 3
    disk.free = lambda _: 1 << 40
    await store.tend()
    assert not store.shortage


async def test_what_cannot_go_is_a_shortage_too(
    disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    store = disk.open(limited(3 * FILE))
    await store.pin(await put(disk, store, 1), pinned=True)
    with pytest.raises(StorageError, match="max_size leaves no room"):
        await put(disk, store, 2, size=5 * FILE // 2)
    assert "storage.max_size (300000) leaves no room" in store.shortage
    await put(disk, store, 3)
    assert not store.shortage


async def test_a_disk_that_gets_no_freer_does_not_empty_the_store(disk: Disk) -> None:
    disk.free = lambda _: 1 << 40
    store = disk.open(replace(UNLIMITED, min_free=Bytes(4 * FILE), max_size=Bytes(50 * FILE)))
    digests = [await put(disk, store, number) for number in range(10)]
    disk.free = lambda _: 4 * FILE - 1  # readers hold what is unlinked
    await store.tend()
    assert await stored(store, digests) == list(range(1, 10))


async def test_what_nobody_used_goes(disk: Disk) -> None:
    store = disk.open(replace(UNLIMITED, inactive=Seconds(30 * DAY)))
    digests = [await put(disk, store, number) for number in range(3)]
    digests.append(await put(disk, store, 3, size=2000))
    await store.pin(digests[2], pinned=True)
    disk.clock.advance(20 * DAY)
    assert await has(store, digests[1])
    await store.tend()
    assert await stored(store, digests) == [0, 1, 2, 3]
    disk.clock.advance(11 * DAY)
    await store.tend()
    assert await stored(store, digests) == [1, 2]
    assert store.statistics().evictions == 2


async def test_limits_that_shrank_are_kept_after_the_start(disk: Disk) -> None:
    store = disk.open()
    for number in range(10):
        await put(disk, store, number)
    await disk.close(store)
    store = disk.open(limited(5 * FILE))
    await store.tend()
    assert 0 < store.statistics().size_bytes <= 5 * FILE
    await put(disk, store, 11)


async def test_what_is_evicted_is_read_on(disk: Disk) -> None:
    store = disk.open(limited(3 * FILE))
    digest = await put(disk, store, 0)
    content = await store.open(digest)
    assert content is not None
    for number in range(1, 6):
        await put(disk, store, number)
    assert not await has(store, digest)
    assert await content.read(0, FILE) == body(0)
    content.close()


async def test_manifests_larger_than_a_row_are_files(disk: Disk) -> None:
    store = disk.open()
    large = body(1, 40_000)
    await store.put(Digest.of(large), large, OCI_MANIFEST)
    assert len(disk.files) == 1
    assert [entry.media_type async for entry in store.entries()] == [OCI_MANIFEST]


async def test_eviction_and_look_up_use_their_index(disk: Disk) -> None:
    store = disk.open()
    for number in range(2):
        await put(disk, store, number, size=2000)
    index = store._index
    statements: list[str] = []
    index._con.set_trace_callback(statements.append)
    index.find(str(Digest.of(b"")))
    index.evict_bytes(1, 64)
    index.evict_unused(disk.clock.now(), 64)
    index._con.set_trace_callback(None)
    queries = [statement for statement in statements if " FROM Cache WHERE" in statement]
    plans = [list(index._sql(f"EXPLAIN QUERY PLAN {query}")) for query in queries]
    index.close()
    details = [line[3] for plan in plans for line in plan]
    assert len(queries) >= 1 + 2 + 3  # each transaction; the triggers show up, too
    assert not [detail for detail in details if "TEMP B-TREE" in detail]
    assert not [detail for detail in details if detail == "SCAN Cache"]


async def test_a_draft_that_tells_its_size_measures_once_in_a_while(disk: Disk) -> None:
    measured = 0

    def free(_: Path) -> int:
        nonlocal measured
        measured += 1
        return 1 << 40

    disk.free = free
    store = disk.open(UNLIMITED)
    draft = await store.draft(Digest.of(body(1)))
    await draft.expect(32 << 20)
    for _ in range(64):
        await draft.write(bytes(512 << 10))
    # As it is opened, and each 8 MiB, which ends a piece later.
    assert 1 < measured <= 5
    await draft.discard()
    draft.close()


async def test_what_a_draft_was_opened_with_may_be_gone_on_the_way(disk: Disk) -> None:
    disk.free = lambda _: 1 << 40
    store = disk.open(replace(UNLIMITED, min_free=Bytes(FILE)))
    draft = await store.draft(Digest.of(body(1)))
    disk.free = lambda _: 0
    await draft.expect(32 << 20)
    for _ in range(8):
        await draft.write(bytes(1 << 20))
    with pytest.raises(StorageError, match="min_free"):
        await draft.write(bytes(1 << 20))
    await draft.discard()
    draft.close()


async def test_what_does_not_fit_is_refused_as_soon_as_its_size_is_told(disk: Disk) -> None:
    disk.free = lambda _: 10 * FILE
    store = disk.open(replace(UNLIMITED, min_free=Bytes(FILE)))
    draft = await store.draft(Digest.of(body(1)))
    with pytest.raises(StorageError, match="min_free"):
        await draft.expect(10 * FILE)
    await draft.discard()
    draft.close()
