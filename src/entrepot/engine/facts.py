"""The ledger in the engine's terms, with what was just used kept in memory."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace

from entrepot.cache.record import (
    Absence,
    Binding,
    Fact,
    Verdict,
    absence_key,
    absence_prefix,
    decode,
    encode,
    holder_of,
    listing_prefix,
    member_key,
    member_prefix,
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

# Records are renewed by use, but not by each.
_RENEWED_AFTER_S = 86400.0
# Other processes write to the same ledger: what is in memory is believed for this long only.
_MEMORY_TTL_S = 1.0
_MEMORY_ENTRIES = 20_000


class Facts:
    """What the ledger cannot tell is not known: the upstream then decides. What it cannot forget
    is not believed: that fails closed, for as long as this process lives.
    """

    def __init__(
        self, ledger: Ledger, clock: Clock, *, keep_s: float, passing_s: float = float("inf")
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._keep_s = keep_s
        self._passing_s = min(keep_s, passing_s)  # of who is never seen again
        self._memory: OrderedDict[str, tuple[float, Fact | None]] = OrderedDict()
        self._erasures = 0
        self.unbindings = 0  # grows when names change their meaning here
        self._undeleted: set[str] = set()  # keys, and stems of keys up to their #
        self._believed_since = float("-inf")

    async def tag(
        self, registry: str, repository: Repository, tag: Tag, accept: str
    ) -> Binding | None:
        fact = await self._get(tag_key(registry, repository, tag, accept))
        return fact if isinstance(fact, Binding) else None

    async def bind(
        self, registry: str, repository: Repository, tag: Tag, accept: str, binding: Binding
    ) -> None:
        await self._put(tag_key(registry, repository, tag, accept), binding, self._keep_s)

    async def keep_binding(
        self, registry: str, repository: Repository, tag: Tag, accept: str, binding: Binding
    ) -> None:
        """As it is, because it is used: an immutable tag is never bound again."""
        now = self._clock.now()
        if _is_old(binding, now):
            await self.bind(registry, repository, tag, accept, replace(binding, checked_at=now))

    async def unbind(self, registry: str, repository: Repository, tag: Tag) -> None:
        """Forget what the tag pointed to, whatever was accepted."""
        self.unbindings += 1
        await self._forget(tag_prefix(registry, repository, tag))

    async def unbind_where(
        self,
        registry: str,
        repository: Repository,
        tag: Tag | None,
        is_meant: Callable[[Binding], bool],
    ) -> None:
        """Of one tag, or of all tags of the repository."""
        self.unbindings += 1
        try:
            known = await self._bindings(registry, repository, tag)
        except StorageError:
            if tag:
                await self._forget(tag_prefix(registry, repository, tag))
            return
        for key, binding in known:
            if is_meant(binding):
                await self._forget(key)

    async def bindings(self, registry: str, repository: Repository, tag: Tag) -> list[Binding]:
        """What the tag points to, for clients that accept one thing or another."""
        try:
            return [binding for _, binding in await self._bindings(registry, repository, tag)]
        except StorageError:
            return []

    async def _bindings(
        self, registry: str, repository: Repository, tag: Tag | None
    ) -> list[tuple[str, Binding]]:
        prefix = tag_prefix(registry, repository, tag) if tag else f"tag/{registry}/{repository}:"
        keys = [key async for key, _ in self._ledger.scan(prefix)]
        facts = [(key, await self._get(key)) for key in keys]
        return [(key, fact) for key, fact in facts if isinstance(fact, Binding)]

    async def absence(
        self, registry: str, path: str, identity: Identity, accept: str
    ) -> Absence | None:
        fact = await self._get(absence_key(registry, path, identity.key, accept))
        return fact if isinstance(fact, Absence) else None

    async def mark_absent(
        self, registry: str, path: str, identity: Identity, accept: str, *, status: int
    ) -> None:
        absence = Absence(status, self._clock.now())
        key = absence_key(registry, path, identity.key, accept)
        await self._put(key, absence, NEGATIVE_TTL_S)

    async def unmark_absent(self, registry: str, path: str) -> None:
        """It has been written, whoever was told that it was not there."""
        await self._forget(absence_prefix(registry, path))

    async def forget_listings(self, registry: str, repository: Repository) -> None:
        """What was listed of it, and of the registry, to whomever."""
        for each in (repository, None):
            await self._forget(listing_prefix(registry, each))

    async def verdict(
        self, registry: str, repository: Repository | None, identity: Identity
    ) -> Verdict | None:
        for key in (identity.key, *identity.former_keys):
            fact = await self._get(verdict_key(registry, repository, key))
            if isinstance(fact, Verdict):
                return fact
        return None

    async def allow(self, registry: str, repository: Repository | None, identity: Identity) -> None:
        verdict = Verdict(self._clock.now())
        keep_s = self._passing_s if identity.is_passing else self._keep_s
        await self._put(verdict_key(registry, repository, identity.key), verdict, keep_s)

    async def revoke(
        self, registry: str, repository: Repository | None, identity: Identity
    ) -> None:
        for key in (identity.key, *identity.former_keys):
            await self._forget(verdict_key(registry, repository, key))

    async def is_member(self, registry: str, repository: Repository, digest: Digest) -> bool:
        """Use keeps it, as it keeps the content: how long it is kept is no matter of rights."""
        key = member_key(registry, repository, digest)
        fact = await self._get(key)
        now = self._clock.now()
        if fact is not None and _is_old(fact, now):
            await self._put(key, Verdict(now), self._keep_s)
        return fact is not None

    async def add_members(
        self, registry: str, repository: Repository, digests: tuple[Digest, ...]
    ) -> None:
        now = self._clock.now()
        for digest in digests:
            key = member_key(registry, repository, digest)
            known = self._memory.get(key)
            if known is None or known[1] is None or _is_old(known[1], now):
                await self._put(key, Verdict(now), self._keep_s)

    async def drop_member(self, registry: str, repository: Repository, digest: Digest) -> None:
        await self._forget(member_key(registry, repository, digest))

    async def holders(self, digest: Digest) -> list[tuple[str, Repository]]:
        """Registries and repositories that are known to hold this content."""
        try:
            keys = [key async for key, _ in self._ledger.scan(member_prefix(digest))]
        except StorageError:
            return []
        return [holder_of(key) for key in keys if not await self._is_undeleted(key)]

    async def _get(self, key: str) -> Fact | None:
        remembered = self._memory.get(key)
        now = self._clock.now()
        if remembered is not None and 0 <= now - remembered[0] < _MEMORY_TTL_S:
            return remembered[1]
        if await self._is_undeleted(key):
            return None
        erasures = self._erasures
        try:
            fact = decode(await self._ledger.get(key))
        except StorageError:
            return None
        if fact is not None and fact.checked_at <= self._believed_since:
            return None
        # What was learned or forgotten while the ledger was asked is newer than its answer.
        if self._memory.get(key) is remembered and self._erasures == erasures:
            self._remember(key, fact, now)
        return fact

    async def _put(self, key: str, fact: Fact, ttl_s: float) -> None:
        self._remember(key, fact, self._clock.now())
        try:
            await self._ledger.put(key, encode(fact), ttl_s)
            self._undeleted.discard(key)
        except StorageError:
            return  # known for this moment only: costs a question later, never an answer now

    async def _forget(self, stem: str) -> None:
        """A key, or all keys that go on after `stem` and its #."""
        self._forget_in_memory(stem)
        await self._erase(stem)
        # Once more: who read the ledger in between may have remembered what was on its way out.
        self._forget_in_memory(stem)

    def _forget_in_memory(self, stem: str) -> None:
        self._erasures += 1
        self._memory.pop(stem, None)
        if stem.endswith("#"):
            for key in [key for key in self._memory if key.startswith(stem)]:
                del self._memory[key]

    async def _erase(self, stem: str) -> bool:
        try:
            if stem.endswith("#"):
                for key in [key async for key, _ in self._ledger.scan(stem)]:
                    await self._ledger.delete(key)
            else:
                await self._ledger.delete(stem)
        except StorageError:
            self._undeleted.add(stem)
            if len(self._undeleted) > _MEMORY_ENTRIES:
                self._undeleted.clear()
                self._believed_since = self._clock.now()
            return False
        self._undeleted.discard(stem)
        return True

    async def _is_undeleted(self, key: str) -> bool:
        """Whether the ledger holds on to what it was to forget, and still does."""
        stems = {key, key[: key.find("#") + 1]} & self._undeleted
        return not all([await self._erase(stem) for stem in stems])

    def _remember(self, key: str, fact: Fact | None, now: float) -> None:
        self._memory[key] = (now, fact)
        self._memory.move_to_end(key)
        if len(self._memory) > _MEMORY_ENTRIES:
            self._memory.popitem(last=False)


def _is_old(fact: Fact, now: float) -> bool:
    return now - fact.checked_at > _RENEWED_AFTER_S
