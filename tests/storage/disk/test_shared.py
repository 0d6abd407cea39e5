"""Two processes, one directory."""

from dataclasses import replace

from entrepot.config.kinds import Bytes
from entrepot.config.model import Storage
from entrepot.oci.media_type import OCTET_STREAM
from tests.storage.disk.child import BODY, DIGEST, SHARED_MAX
from tests.storage.disk.conftest import Disk, child, has


async def test_two_processes_put_open_remove_and_evict(disk: Disk) -> None:
    with (
        child("use", disk.directory, "one", "400") as one,
        child("use", disk.directory, "two", "400") as two,
    ):
        for process in (one, two):
            process.communicate()
            assert process.returncode == 0
    store = disk.open(replace(Storage(), min_free=Bytes(0), max_size=Bytes(SHARED_MAX)))
    await store.tend()
    report = await store.scrub(0)
    assert report.corrupt == ()
    assert report.checked == store.statistics().entries > 0
    assert report.size_bytes == store.statistics().size_bytes <= SHARED_MAX
    assert len([record async for record in store.ledger.scan("one/")]) > 0
    assert disk.parts == []


async def test_what_one_removes_the_other_does_not_serve(disk: Disk) -> None:
    one, two = disk.open(), disk.open()
    await one.put(DIGEST, BODY, OCTET_STREAM)
    reading = await two.open(DIGEST)
    assert reading is not None
    await one.remove(DIGEST)
    assert not await has(two, DIGEST)
    assert await reading.read(0, len(BODY)) == BODY
    reading.close()


async def test_each_counts_what_the_other_did_in_time(disk: Disk) -> None:
    one, two = disk.open(), disk.open()
    await one.put(DIGEST, BODY, OCTET_STREAM)
    await two.tend()
    assert two.statistics() == one.statistics()
