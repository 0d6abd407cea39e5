"""When tags were pushed, as far as it was seen: what retention goes by."""

import logging
from collections.abc import Mapping

from entrepot.clock import Clock
from entrepot.config.kinds import DAY
from entrepot.errors import StorageError
from entrepot.local.records import Pushed, decode_pushed, encode, pushed_key, pushed_prefix
from entrepot.oci.reference import Repository, Tag
from entrepot.storage.base import Ledger

# Longer than any keep_for of use. The registry itself does not tell.
_KEEP_S = 20 * 365 * DAY

logger = logging.getLogger(__name__)


class PushTimes:
    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock

    async def note(self, registry: str, repository: Repository, tag: Tag, digest: str) -> None:
        """Now. What cannot be noted is taken for pushed when retention comes by: later, so that
        nothing goes too soon.
        """
        pushed = Pushed(self._clock.now(), digest)
        try:
            await self._ledger.put(pushed_key(registry, repository, tag), encode(pushed), _KEEP_S)
        except StorageError as error:
            logger.warning(
                "when %s/%s:%s was pushed is not kept: %s", registry, repository, tag, error
            )

    async def note_seen(
        self, registry: str, repository: Repository, seen: Mapping[Tag, Pushed]
    ) -> None:
        """StorageError: a tag whose time cannot be kept would never be old enough."""
        for tag, pushed in seen.items():
            key = pushed_key(registry, repository, tag)
            await self._ledger.put(key, encode(pushed), _KEEP_S)

    async def of(self, registry: str, repository: Repository) -> dict[Tag, Pushed]:
        prefix = pushed_prefix(registry, repository)
        found: dict[Tag, Pushed] = {}
        async for key, data in self._ledger.scan(prefix):
            pushed = decode_pushed(data)
            if pushed is not None:
                found[Tag(key.removeprefix(prefix))] = pushed
        return found

    async def forget(self, registry: str, repository: Repository, tag: Tag) -> None:
        await self._ledger.delete(pushed_key(registry, repository, tag))
