"""What the store does by itself, again and again."""

import asyncio
import fcntl
import logging
import os
from collections.abc import Awaitable, Callable

from entrepot.errors import StorageError
from entrepot.storage.disk.evictor import Evictor
from entrepot.storage.disk.ledger import DiskLedger
from entrepot.storage.disk.parts import sweep_lost_parts
from entrepot.storage.disk.scrub import Pace, Scrubber, ScrubReport, Sleep
from entrepot.storage.disk.shelf import Shelf
from entrepot.storage.disk.sweep import Sweeper, SweepReport

# What a crash may lose of last uses, and what other processes may see late of the counters.
_TEND_S = 10
# Crashes are rare, and a walk over a million files is not free.
_SWEEP_S = 6 * 3600
_SCRUB_CHECK_S = 600
# In one go: 4 MiB, well below 50 ms.
_SHRINK_PAGES = 1024

_log = logging.getLogger(__name__)


class Upkeep:
    def __init__(
        self, shelf: Shelf, ledger: DiskLedger, evictor: Evictor, scrubber: Scrubber
    ) -> None:
        self._shelf = shelf
        self._ledger = ledger
        self._evictor = evictor
        self._scrubber = scrubber
        self._sweeper = Sweeper(shelf)

    async def run(self, sleep: Sleep) -> None:
        """Until cancelled. What goes wrong is said, and tried again the next time."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_repeat(self.tend, _TEND_S, sleep))
            tasks.create_task(_repeat(self.sweep, _SWEEP_S, sleep))
            if self._shelf.settings.scrub_interval > 0:
                tasks.create_task(_repeat(self.scrub_if_due, _SCRUB_CHECK_S, sleep))

    async def tend(self) -> None:
        """Uses to the disk, expired records away, what is over the limits away, and what nobody can
        go on with: the layers that a killed process was taking in, gigabytes maybe.
        """
        shelf = self._shelf
        await shelf.uses.flush()
        await self._ledger.expire()
        await shelf.workers.read(shelf.index.count_again)
        await shelf.workers.file(sweep_lost_parts, shelf.layout.fills)
        await self._evictor.evict()
        await shelf.workers.write(shelf.index.shrink, _SHRINK_PAGES)

    async def sweep(self) -> SweepReport:
        report = await self._sweeper.sweep()
        if report.parts or report.orphans or report.missing:
            _log.info(
                "swept %d abandoned fills, %d files without entry, %d entries without file",
                report.parts,
                report.orphans,
                report.missing,
            )
        return report

    async def scrub(self, rate_bytes_s: float, sleep: Sleep) -> ScrubReport:
        return await self._scrubber.scrub(Pace(rate_bytes_s, sleep))

    async def scrub_if_due(self, sleep: Sleep = asyncio.sleep) -> ScrubReport | None:
        """By one process of those that share the directory."""
        shelf = self._shelf
        marker = await shelf.workers.acquire_file(self._lock_marker_if_due, _close)
        if marker is None:
            return None
        try:
            report = await self.scrub(shelf.settings.scrub_rate, sleep)
            now = shelf.clock.now()
            await shelf.workers.file(os.utime, marker, (now, now))
        finally:
            os.close(marker)
        return report

    def _lock_marker_if_due(self) -> int | None:
        path = self._shelf.layout.scrubbed
        now = self._shelf.clock.now()
        try:
            marker = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            marker = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        else:
            os.utime(marker, (now, now))  # a new store: the first scrub is one interval away
        try:
            fcntl.flock(marker, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(marker).st_mtime + self._shelf.settings.scrub_interval <= now:
                return marker
        except BlockingIOError:
            pass
        os.close(marker)
        return None


def _close(marker: int | None) -> None:
    if marker is not None:
        os.close(marker)


async def _repeat(job: Callable[[], Awaitable[object]], interval_s: float, sleep: Sleep) -> None:
    while True:
        await sleep(interval_s)
        try:
            await job()
        except StorageError as error:
            _log.error("upkeep of the store: %s", error)
        except Exception:  # noqa: BLE001 - it would end the proxy; a cache untended still serves
            _log.exception("upkeep of the store failed")
