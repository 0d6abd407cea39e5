"""A store of many objects: `python -m bench.store_probe DIRECTORY COUNT`, figures as JSON.

It is filled with COUNT objects first; one in ten is a file (sparse: what is
measured is the number of things, not the disk), the others are rows as manifests are.
"""

import asyncio
import json
import random
import statistics
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from entrepot.clock import SystemClock
from entrepot.config.kinds import Bytes, Seconds
from entrepot.config.model import Storage
from entrepot.oci.digest import Digest
from entrepot.storage.disk import DiskStore, open_disk_store
from entrepot.storage.disk.database import Adoption
from entrepot.storage.disk.index import ContentIndex
from entrepot.storage.disk.layout import Layout, content_name

_BATCH = 2_000
_LOOK_UPS = 4_000
_FILE_EVERY, _FILE_SIZE = 10, 1 << 20
_ROW_SIZE = 500
_MEDIA_TYPE = "application/vnd.oci.image.manifest.v1+json"
_ENOUGH = 1 << 50


@dataclass(frozen=True, slots=True)
class Probe:
    open_s: float
    median_ms: float
    tail_ms: float
    evicting_worst_ms: float
    evicting_s: float
    evicted: int


def body(number: int) -> bytes:
    return random.Random(number).randbytes(_ROW_SIZE)


def digest(number: int) -> Digest:
    return Digest.of(body(number))


def is_file(number: int) -> bool:
    return number % _FILE_EVERY == 0


def fill(directory: Path, count: int) -> None:
    layout = Layout(directory / "cache")
    layout.prepare()
    index = ContentIndex(layout.root, SystemClock())
    for start in range(0, count, _BATCH):
        # One transaction for many, as only a bench may: readers see nothing until it ends.
        with index.transaction():
            for number in range(start, min(start + _BATCH, count)):
                index.set(str(digest(number)), _value(layout, number), tag=_MEDIA_TYPE)
    index.close()


def _value(layout: Layout, number: int) -> bytes | Adoption:
    if not is_file(number):
        return body(number)
    source = layout.fills / f"{number}.part"
    with source.open("wb") as file:
        file.truncate(_FILE_SIZE)
    return Adoption(source, content_name(digest(number)), _FILE_SIZE)


async def probe(directory: Path, count: int) -> Probe:
    began = time.monotonic()
    store = open_disk_store(directory, settings(_ENOUGH), SystemClock())
    opened = time.monotonic() - began
    wanted = [random.Random(1).randrange(count) for _ in range(_LOOK_UPS)]
    times = [seconds async for seconds in _look_ups(store, wanted)]
    held = store.statistics().size_bytes
    await store.aclose()
    worst, spent, evicted = await _evicting(directory, count, held)
    return Probe(
        open_s=opened,
        median_ms=statistics.median(times) * 1000,
        tail_ms=statistics.quantiles(times, n=100)[98] * 1000,
        evicting_worst_ms=worst * 1000,
        evicting_s=spent,
        evicted=evicted,
    )


async def _look_ups(store: DiskStore, numbers: list[int]) -> AsyncIterator[float]:
    for number in numbers:
        name = digest(number)
        began = time.monotonic()
        content = await store.open(name)
        if content is not None:
            content.close()
        yield time.monotonic() - began


async def _evicting(directory: Path, count: int, held: int) -> tuple[float, float, int]:
    """The longest look-up while a tenth of what is there goes, how long that takes, how much."""
    store = open_disk_store(directory, settings(held * 9 // 10), SystemClock())
    began = time.monotonic()
    worst = 0.0
    async with asyncio.TaskGroup() as tasks:
        eviction = tasks.create_task(store.tend())
        numbers = _numbers(count)
        while not eviction.done():
            wanted = [next(numbers) for _ in range(20)]
            worst = max([worst, *[seconds async for seconds in _look_ups(store, wanted)]])
    spent = time.monotonic() - began
    evicted = store.statistics().evictions
    await store.aclose()
    return worst, spent, evicted


def _numbers(count: int) -> Iterator[int]:
    chance = random.Random(2)
    while True:
        yield chance.randrange(count)


def settings(max_size: int) -> Storage:
    return Storage(max_size=Bytes(max_size), min_free=Bytes(0), scrub_interval=Seconds(0))


def main() -> None:
    directory, count = Path(sys.argv[1]), int(sys.argv[2])
    fill(directory, count)
    print(json.dumps(asdict(asyncio.run(probe(directory, count)))))


if __name__ == "__main__":
    main()
