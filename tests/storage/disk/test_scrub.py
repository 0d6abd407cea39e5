"""Bytes that changed on the disk are found, and not served after."""

import random

import pytest

from entrepot.oci.digest import Digest
from entrepot.oci.media_type import OCTET_STREAM
from entrepot.storage.disk.scrub import Pace
from tests.storage.disk.child import BODY, DIGEST
from tests.storage.disk.conftest import Disk, has

SMALL = b"small"


async def test_all_is_well(disk: Disk) -> None:
    store = disk.open()
    for body in (BODY, SMALL, b""):
        await store.put(Digest.of(body, "sha512"), body, OCTET_STREAM)
    report = await store.scrub(0)
    assert (report.checked, report.size_bytes) == (3, len(BODY) + len(SMALL))
    assert report.corrupt == ()


@pytest.mark.parametrize("offset", [0, len(BODY) // 2, len(BODY) - 1])
async def test_one_bit_in_a_file(disk: Disk, offset: int) -> None:
    store = disk.open()
    await store.put(DIGEST, BODY, OCTET_STREAM)
    await store.put(Digest.of(SMALL), SMALL, OCTET_STREAM)
    path = disk.file(DIGEST)
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(bytes([BODY[offset] ^ 1]))
    assert (await store.scrub(0)).corrupt == (DIGEST,)
    assert not await has(store, DIGEST)
    assert await has(store, Digest.of(SMALL))
    assert store.statistics().corrupt == 1
    assert disk.files == []


async def spoil_row(disk: Disk, digest: Digest) -> None:
    store = disk.open()
    await store._workers.write(
        lambda: (
            store._index._sql("UPDATE Cache SET value = x'00' WHERE key = ?", (str(digest),))
            and None
        )
    )


async def test_a_row_is_checked_by_the_scrub(disk: Disk) -> None:
    store = disk.open()
    await store.put(Digest.of(SMALL), SMALL, OCTET_STREAM)
    await spoil_row(disk, Digest.of(SMALL))
    assert (await store.scrub(0)).corrupt == (Digest.of(SMALL),)
    assert store.statistics().entries == 0


async def test_a_row_is_checked_whenever_it_is_opened(disk: Disk) -> None:
    store = disk.open()
    await store.put(Digest.of(SMALL), SMALL, OCTET_STREAM)
    await spoil_row(disk, Digest.of(SMALL))
    assert not await has(store, Digest.of(SMALL))
    assert store.statistics().corrupt == 1


async def test_what_goes_meanwhile_is_not_corrupt(disk: Disk) -> None:
    store = disk.open()
    chance = random.Random(2)
    bodies = [chance.randbytes(50_000) for _ in range(5)]
    for body in bodies:
        await store.put(Digest.of(body), body, OCTET_STREAM)

    async def remove_all(_: float) -> None:
        for body in bodies:
            await store.remove(Digest.of(body))

    report = await store.scrub(1, remove_all)
    assert report.corrupt == ()
    assert store.statistics().corrupt == 0


async def test_the_pace(disk: Disk) -> None:
    paused: list[float] = []

    async def sleep(seconds: float) -> None:
        paused.append(seconds)

    store = disk.open()
    await store.put(DIGEST, BODY, OCTET_STREAM)
    await store.scrub(1 << 20, sleep)
    assert paused == [1.0, 1.0, 1.0]


async def test_small_pauses_are_saved_up() -> None:
    paused: list[float] = []

    async def sleep(seconds: float) -> None:
        paused.append(seconds)

    pace = Pace(1000, sleep)
    for _ in range(100):
        await pace.spend(5)
    assert sum(paused) == pytest.approx(0.5)
    assert len(paused) <= 25
