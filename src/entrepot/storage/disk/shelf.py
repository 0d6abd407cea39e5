"""What all parts of the store work on."""

from dataclasses import dataclass

from entrepot.clock import Clock
from entrepot.config.model import Storage
from entrepot.storage.disk.index import ContentIndex
from entrepot.storage.disk.layout import Layout
from entrepot.storage.disk.workers import Workers

_BATCH = 500


class Uses:
    """When entries were last used: kept here for some seconds, so that a hit writes nothing."""

    def __init__(self, index: ContentIndex, workers: Workers, clock: Clock) -> None:
        self._index = index
        self._workers = workers
        self._clock = clock
        self._times: dict[str, float] = {}

    def note(self, key: str) -> None:
        self._times[key] = self._clock.now()

    def last(self, key: str, otherwise: float) -> float:
        return max(otherwise, self._times.get(key, otherwise))

    async def flush(self) -> None:
        uses, self._times = list(self._times.items()), {}
        try:
            while uses:
                await self._workers.write(self._index.touch, uses[:_BATCH])
                del uses[:_BATCH]
        finally:
            self._times = dict(uses) | self._times


@dataclass(frozen=True, slots=True)
class Shelf:
    layout: Layout
    settings: Storage
    clock: Clock
    index: ContentIndex
    workers: Workers
    uses: Uses
