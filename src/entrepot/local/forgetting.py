"""What was deleted is served from the cache no more, in whichever process.

Processes believe what they have in memory for a second: who must be sure waits for `settle`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence

from entrepot.cache.record import Binding, decode, holder_of, member_key, member_prefix, tag_prefix
from entrepot.config.kinds import DAY
from entrepot.local.records import doomed_key, doomed_prefix
from entrepot.oci.digest import Digest
from entrepot.oci.reference import Repository, Tag
from entrepot.storage.base import Ledger

# Longer than `engine.facts` keeps to what it has in memory.
_SETTLED_S = 1.2
_DOOMED_AT_ONCE = 1000
_DOOMED_TTL_S = 30 * DAY


class Forgetting:
    """StorageError where the ledger cannot forget."""

    def __init__(
        self,
        ledger: Ledger,
        registry: str,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._ledger = ledger
        self._registry = registry
        self._sleep = sleep

    async def tag(self, repository: Repository, tag: Tag) -> None:
        await self._erase(tag_prefix(self._registry, repository, tag))
        await self.lists()

    async def version(self, repository: Repository, digest: Digest) -> None:
        """With the tags that are known to point to it."""
        await self._ledger.delete(member_key(self._registry, repository, digest))
        prefix = f"tag/{self._registry}/{repository}:"
        for key, data in [record async for record in self._ledger.scan(prefix)]:
            known = decode(data)
            if isinstance(known, Binding) and known.digest == digest:
                await self._ledger.delete(key)
        await self.lists()

    async def blobs(self, digests: Iterable[Digest]) -> None:
        """From all repositories of this registry: what is collected is nowhere in it."""
        for digest in digests:
            for repository in await self.holders(digest):
                await self._ledger.delete(member_key(self._registry, repository, digest))

    async def holders(self, digest: Digest) -> list[Repository]:
        """Those of this registry that the cache knows to hold it."""
        keys = [key async for key, _ in self._ledger.scan(member_prefix(digest))]
        holders = [holder_of(key) for key in keys]
        return [repository for registry, repository in holders if registry == self._registry]

    async def doom(self, digests: Sequence[Digest]) -> None:
        """Say what is about to be removed: should the job be killed meanwhile, `see_to_doomed`
        forgets it before anything is written again.
        """
        for number, start in enumerate(range(0, len(digests), _DOOMED_AT_ONCE)):
            names = " ".join(map(str, digests[start : start + _DOOMED_AT_ONCE]))
            await self._ledger.put(
                doomed_key(self._registry, number), names.encode(), _DOOMED_TTL_S
            )

    async def see_to_doomed(self) -> None:
        prefix = doomed_prefix(self._registry)
        for key, data in [record async for record in self._ledger.scan(prefix)]:
            await self.blobs(Digest.parse(name) for name in data.decode().split())
            await self._ledger.delete(key)

    async def lists(self) -> None:
        await self._erase(f"list/{self._registry}/")

    async def settle(self) -> None:
        await self._sleep(_SETTLED_S)

    async def _erase(self, prefix: str) -> None:
        for key in [key async for key, _ in self._ledger.scan(prefix)]:
            await self._ledger.delete(key)
