"""Room for what comes: which entries go, when, and how many at a time."""

import asyncio
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NoReturn

from entrepot.config.convert import format_bytes
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
# A store without room says so at each pull otherwise.
_WARN_EVERY_S = 300

_log = logging.getLogger(__name__)


def free_bytes(path: Path) -> int:
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize


@dataclass(frozen=True, slots=True)
class _Lack:
    """Bytes that must go; none if negative."""

    in_size: int  # for max_size
    on_disk: int  # for min_free

    @property
    def is_none(self) -> bool:
        return self.in_size <= 0 and self.on_disk <= 0


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
        self._warned_at = float("-inf")
        self.evictions = 0
        self.evicted_bytes = 0
        self.refusals = 0
        self.shortage = ""  # while there is no room: why, in plain words

    @property
    def stride(self) -> int:
        return min(_STRIDE, self._settings.max_size // _STRIDE_FRACTION)

    def room(self) -> int:
        """Bytes that may come before anything has to go; less than none where too much is here.
        Blocks.
        """
        lack = self._measure(0)
        return -max(lack.in_size, lack.on_disk)

    async def make_room(self, wanted: int, *, known: int = -1) -> None:
        """For `wanted` more bytes, or raise StorageError. `known` is what `room` told before."""
        self.refuse_if_too_large(wanted)
        if known < wanted and not await self._has_room(wanted):
            await self._find_room(wanted)
        self.shortage = ""

    async def _find_room(self, wanted: int) -> None:
        async with self._lock:
            if await self._evict_for(wanted):
                return
            # Unfinished fills that nobody holds are worth less than one that is running.
            await self._workers.file(sweep_parts, self._layout.fills, before=None)
            lack = await self._lack(wanted)
            if not lack.is_none:
                self._refuse(lack)

    def _refuse(self, lack: _Lack) -> NoReturn:
        self.refusals += 1
        limit, size = "max_size", self._settings.max_size
        if lack.on_disk > 0:
            limit, size = "min_free", self._settings.min_free
        self.shortage = (
            f"the cache cannot grow: storage.{limit} ({format_bytes(size)}) leaves no room"
            f" on {self._layout.root}; pulls go on uncached"
        )
        if self._clock.now() - self._warned_at >= _WARN_EVERY_S:
            self._warned_at = self._clock.now()
            _log.warning("%s", self.shortage)
        raise StorageError(f"full: storage.{limit} leaves no room")

    def refuse_if_too_large(self, size: int) -> None:
        if size > self._settings.max_size:
            self.refusals += 1
            raise StorageError("full: larger than max_size allows")

    async def evict(self) -> None:
        """What is over the limits, and what nobody has used for long."""
        async with self._lock:
            if await self._evict_for(0):
                self.shortage = ""
            await self._evict_unused()

    async def _has_room(self, wanted: int) -> bool:
        return (await self._lack(wanted)).is_none

    async def _lack(self, wanted: int) -> _Lack:
        return await self._workers.file(self._measure, wanted)

    def _measure(self, wanted: int) -> _Lack:
        _, stored = self._index.counters
        used = stored + _total_size(self._layout.fills)
        free = self._free(self._layout.root)
        return _Lack(
            in_size=used + wanted - self._settings.max_size,
            on_disk=self._settings.min_free + wanted - free,
        )

    async def _evict_for(self, wanted: int) -> bool:
        """Whether there is room then."""
        # Who waited for the lock finds that there is room by now, and evicts nothing.
        await self._workers.read(self._index.count_again)
        # Once, reckoned by the sizes of entries: the disk frees nothing while readers hold a
        # file, and evicting until it does would empty the store. Rows would free nothing at all.
        lack = await self._lack(wanted)
        await self._evict(lack.on_disk, files_only=True)
        # Until there is nothing to evict: another process may store as fast as this one evicts.
        lack = await self._lack(wanted)
        while await self._evict(lack.in_size, files_only=False):
            lack = await self._lack(wanted)
        return lack.is_none

    async def _evict(self, excess: int, *, files_only: bool) -> bool:
        """Whether anything went."""
        if excess <= 0:
            return False
        await self._uses.flush()
        excess += self._settings.max_size // _SLACK_FRACTION
        before = self.evictions
        evict = partial(self._index.evict_bytes, limit=_BATCH, files_only=files_only)
        while excess > 0 and (evicted := await self._workers.write(evict, excess)).count:
            excess -= evicted.size
            await self._remove(evicted)
        return self.evictions > before

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
