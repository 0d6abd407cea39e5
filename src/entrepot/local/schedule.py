"""Retention and collection by the clock, in one of the proxy's processes."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from entrepot.clock import Clock
from entrepot.config.kinds import DAY
from entrepot.config.model import Config
from entrepot.errors import EntrepotError
from entrepot.local.collection import Collection
from entrepot.local.failure import JobFailed
from entrepot.local.premises import Premises, open_premises
from entrepot.local.records import slot_key
from entrepot.local.retention import Retention
from entrepot.storage.base import Ledger

_LOOK_S = 20.0
_SLOT_KEPT_S = 8 * DAY
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")

logger = logging.getLogger(__name__)


def due(schedule: str, after: float, until: float) -> float | None:
    """The last time at which it was to run in this span, by the local clock."""
    *day, clock = schedule.split()
    hour, _, minute = clock.partition(":")
    today = datetime.fromtimestamp(until)  # noqa: DTZ006 - the operator's own time
    for back in range(8):
        moment = (today - timedelta(days=back)).replace(
            hour=int(hour), minute=int(minute), second=0, microsecond=0
        )
        if day and _DAYS[moment.weekday()] != day[0]:
            continue
        if after < moment.timestamp() <= until:
            return moment.timestamp()
    return None


class Schedule:
    """`config` is what is in force when it is asked."""

    def __init__(self, config: Callable[[], Config], ledger: Ledger, clock: Clock) -> None:
        self._config = config
        self._ledger = ledger
        self._clock = clock
        self._looked_at = clock.now()

    async def run(self, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep) -> None:
        """Until cancelled. What it slept through, or was down for, is left for the next time."""
        while True:
            await sleep(_LOOK_S)
            await self.look()

    async def look(self) -> None:
        """Do what has come due since the last time."""
        after, self._looked_at = self._looked_at, self._clock.now()
        config = self._config()
        for name, local in config.local_registries.items():
            slot = due(local.gc.schedule, after, self._looked_at) if local.gc.schedule else None
            if slot is not None:
                await self._see_to(config, name, slot)

    async def _see_to(self, config: Config, name: str, slot: float) -> None:
        try:
            async with open_premises(config, name, self._ledger, self._clock) as premises:
                if await self._is_ours(premises, slot):
                    await _retain(premises)
                    await _collect(premises)
        except EntrepotError as error:
            logger.error("%s is not cleaned up: %s", name, error)  # noqa: TRY400 - told in full
        except Exception:
            logger.exception("%s is not cleaned up", name)

    async def _is_ours(self, premises: Premises, slot: float) -> bool:
        """Of several processes the first one has it, and the others nothing to do."""
        key = slot_key(premises.name)
        try:
            async with premises.claimed("it is to be cleaned up"):
                if await self._ledger.get(key) == str(slot).encode():
                    return False
                await self._ledger.put(key, str(slot).encode(), _SLOT_KEPT_S)
                return True
        except JobFailed:
            return False


async def _retain(premises: Premises) -> None:
    for expired in await Retention(premises).run():
        tags = ", ".join(aged.tag for aged in expired.tags)
        logger.info("%s/%s: deleted by retention: %s", premises.name, expired.repository, tags)


async def _collect(premises: Premises) -> None:
    gone = await Collection(premises).run(untagged=premises.settings.gc.untagged)
    freed = "" if gone.size is None else f", {gone.size} bytes freed"
    logger.info("%s: garbage collected: %d blobs%s", premises.name, len(gone.blobs), freed)
    for warning in gone.warnings:
        logger.warning("%s: %s", premises.name, warning)
