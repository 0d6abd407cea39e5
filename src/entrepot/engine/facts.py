"""The ledger in the engine's terms, with what was just used kept in memory."""

from collections import OrderedDict

from entrepot.cache.record import (
    Absence,
    Binding,
    Fact,
    Verdict,
    absence_key,
    decode,
    encode,
    member_key,
    tag_key,
    tag_prefix,
    verdict_key,
)
from entrepot.cache.rules import NEGATIVE_TTL_S
from entrepot.clock import Clock
from entrepot.engine.identity import Identity
from entrepot.errors import StorageError
from entrepot.oci.digest import Digest
from entrepot.oci.reference import Repository, Tag
from entrepot.storage.base import Ledger

# Other processes write to the same ledger: what is in memory is believed for this long only.
_MEMORY_TTL_S = 1.0
_MEMORY_ENTRIES = 20_000


class Facts:
    """Reads fail open to "not known" where the ledger is broken; the upstream then decides."""

    def __init__(self, ledger: Ledger, clock: Clock, *, keep_s: float) -> None:
        self._ledger = ledger
        self._clock = clock
        self._keep_s = keep_s
        self._memory: OrderedDict[str, tuple[float, Fact | None]] = OrderedDict()

    async def tag(
        self, registry: str, repository: Repository, tag: Tag, accept: str
    ) -> Binding | Absence | None:
        fact = await self._get(tag_key(registry, repository, tag, accept))
        return fact if isinstance(fact, Binding | Absence) else None

    async def bind(
        self, registry: str, repository: Repository, tag: Tag, accept: str, binding: Binding
    ) -> None:
        await self._put(tag_key(registry, repository, tag, accept), binding, self._keep_s)

    async def unbind(self, registry: str, repository: Repository, tag: Tag) -> None:
        """Forget what the tag pointed to, whatever was accepted."""
        prefix = tag_prefix(registry, repository, tag)
        for key in [key for key in self._memory if key.startswith(prefix)]:
            del self._memory[key]
        try:
            keys = [key async for key, _ in self._ledger.scan(prefix)]
            for key in keys:
                await self._ledger.delete(key)
        except StorageError:
            return

    async def absence(self, registry: str, path: str, identity: Identity) -> Absence | None:
        fact = await self._get(absence_key(registry, path, identity.key))
        return fact if isinstance(fact, Absence) else None

    async def mark_absent(self, registry: str, path: str, identity: Identity, status: int) -> None:
        absence = Absence(status, self._clock.now())
        await self._put(absence_key(registry, path, identity.key), absence, NEGATIVE_TTL_S)

    async def verdict(
        self, registry: str, repository: Repository | None, identity: Identity
    ) -> Verdict | None:
        fact = await self._get(verdict_key(registry, repository, identity.key))
        return fact if isinstance(fact, Verdict) else None

    async def allow(self, registry: str, repository: Repository | None, identity: Identity) -> None:
        verdict = Verdict(self._clock.now())
        await self._put(verdict_key(registry, repository, identity.key), verdict, self._keep_s)

    async def revoke(
        self, registry: str, repository: Repository | None, identity: Identity
    ) -> None:
        await self._delete(verdict_key(registry, repository, identity.key))

    async def is_member(self, registry: str, repository: Repository, digest: Digest) -> bool:
        return await self._get(member_key(registry, repository, digest)) is not None

    async def add_members(
        self, registry: str, repository: Repository, digests: tuple[Digest, ...]
    ) -> None:
        now = self._clock.now()
        for digest in digests:
            key = member_key(registry, repository, digest)
            known = self._memory.get(key)
            if known is None or known[1] is None:
                await self._put(key, Verdict(now), self._keep_s)

    async def drop_member(self, registry: str, repository: Repository, digest: Digest) -> None:
        await self._delete(member_key(registry, repository, digest))

    async def _get(self, key: str) -> Fact | None:
        remembered = self._memory.get(key)
        now = self._clock.now()
        if remembered is not None and 0 <= now - remembered[0] < _MEMORY_TTL_S:
            return remembered[1]
        try:
            fact = decode(await self._ledger.get(key))
        except StorageError:
            return None
        self._remember(key, fact, now)
        return fact

    async def _put(self, key: str, fact: Fact, ttl_s: float) -> None:
        self._remember(key, fact, self._clock.now())
        try:
            await self._ledger.put(key, encode(fact), ttl_s)
        except StorageError:
            return  # known for this moment only: costs a question later, never an answer now

    async def _delete(self, key: str) -> None:
        self._memory.pop(key, None)
        try:
            await self._ledger.delete(key)
        except StorageError:
            return

    def _remember(self, key: str, fact: Fact | None, now: float) -> None:
        self._memory[key] = (now, fact)
        self._memory.move_to_end(key)
        if len(self._memory) > _MEMORY_ENTRIES:
            self._memory.popitem(last=False)
