"""Room for what comes: which entries go, when, and how many at a time."""

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from entrepot.errors import StorageError
from entrepot.storage.disk.index import Evicted
from entrepot.storage.disk.parts import sweep_parts
from entrepot.storage.disk.shelf import Shelf

# Rows in a transaction; 64 are removed in 1 to 3 ms, and other writers wait no longer than that.
_BATCH = 64
# A draft asks for room once in so many bytes, and may overshoot by as much. Small caches get a
# fraction of their size instead.
_STRIDE, _STRIDE_FRACTION = 8 << 20, 64
# What is evicted beyond need, so that a full store does not evict for each write.
_SLACK_FRACTION = 100


def free_bytes(path: Path) -> int:
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize


class Evictor:
    """Files are unlinked after their rows, by another thread: unlinking 10 GB takes a while."""

    def __init__(self, shelf: Shelf, free: Callable[[Path], int]) -> None:
        self._layout = shelf.layout
        self._settings = shelf.settings
        self._clock = shelf.clock
        self._index = shelf.index
        self._workers = shelf.workers
        self._uses = shelf.uses
        self._free = free
        self._lock = asyncio.Lock()
        self.evictions = 0
        self.evicted_bytes = 0

    @property
    def stride(self) -> int:
        return min(_STRIDE, self._settings.max_size // _STRIDE_FRACTION)

    async def make_room(self, wanted: int) -> None:
        """For `wanted` more bytes, or raise StorageError."""
        if wanted > self._settings.max_size:
            raise StorageError("full: larger than max_size allows")
        if await self._lacking(wanted) <= 0:
            return
        async with self._lock:
            # Who waited for the lock may find that there is room by now.
            if (lacking := await self._lacking(wanted)) <= 0:
                return
            await self._evict(lacking)
            if await self._lacking(wanted) > 0:
                # Unfinished fills of others are worth less than the one that is running.
                await self._workers.file(sweep_parts, self._layout.fills, before=None)
            if await self._lacking(wanted) > 0:
                raise StorageError("full: max_size or min_free leaves no room")

    async def evict(self) -> None:
        """What is over the limits, and what nobody has used for long."""
        async with self._lock:
            if (lacking := await self._lacking(0)) > 0:
                await self._evict(lacking)
            await self._evict_unused()

    async def _lacking(self, wanted: int) -> int:
        return await self._workers.file(self._measure, wanted)

    def _measure(self, wanted: int) -> int:
        """Bytes that must go before `wanted` more fit."""
        _, stored = self._index.counters
        used = stored + _total_size(self._layout.fills)
        free = self._free(self._layout.root)
        return wanted + max(used - self._settings.max_size, self._settings.min_free - free)

    async def _evict(self, excess: int) -> None:
        """Reckons with the sizes of entries: the disk frees nothing while readers hold a file,
        and evicting until it does would empty the store.
        """
        await self._uses.flush()
        excess += self._settings.max_size // _SLACK_FRACTION
        while excess > 0:
            evicted = await self._workers.write(self._index.evict_bytes, excess, _BATCH)
            if not evicted.count:
                return
            excess -= evicted.size
            await self._remove(evicted)

    async def _evict_unused(self) -> None:
        await self._uses.flush()
        before = self._clock.now() - self._settings.inactive
        while (
            evicted := await self._workers.write(self._index.evict_unused, before, _BATCH)
        ).count:
            await self._remove(evicted)

    async def _remove(self, evicted: Evicted) -> None:
        self.evictions += evicted.count
        self.evicted_bytes += evicted.size
        if evicted.filenames:
            await self._workers.file(self._index.unlink, evicted.filenames)


def _total_size(directory: Path) -> int:
    """Of the files in it: fills of this process and of others, and abandoned ones."""
    total = 0
    with os.scandir(directory) as files:
        for file in files:
            with suppress(FileNotFoundError):
                total += file.stat(follow_symlinks=False).st_size
    return total
