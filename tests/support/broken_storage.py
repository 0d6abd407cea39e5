"""Stores in memory that fail where the test says so."""

from collections.abc import AsyncIterator

from entrepot.clock import Clock
from entrepot.errors import StorageError
from entrepot.oci.digest import Digest
from entrepot.storage.memory import (
    MemoryContent,
    MemoryDraft,
    MemoryIntake,
    MemoryLedger,
    MemoryStore,
)


class BreakableLedger:
    """A `Ledger`; `broken` names the methods that raise StorageError."""

    def __init__(self, clock: Clock) -> None:
        self.inner = MemoryLedger(clock)
        self.broken: set[str] = set()
        self.calls: list[tuple[str, str]] = []

    async def get(self, key: str) -> bytes | None:
        self._called("get", key)
        return await self.inner.get(key)

    async def put(self, key: str, value: bytes, ttl_s: float) -> None:
        self._called("put", key)
        await self.inner.put(key, value, ttl_s)

    async def delete(self, key: str) -> None:
        self._called("delete", key)
        await self.inner.delete(key)

    async def scan(self, prefix: str) -> AsyncIterator[tuple[str, bytes]]:
        self._called("scan", prefix)
        async for record in self.inner.scan(prefix):
            yield record

    def break_down(self) -> None:
        self.broken = {"get", "put", "delete", "scan"}

    def recover(self) -> None:
        self.broken = set()

    def _called(self, method: str, key: str) -> None:
        self.calls.append((method, key))
        if method in self.broken:
            raise StorageError(f"{method} is broken")


class BreakableStore(MemoryStore):
    """`broken` names the methods that raise StorageError, those of drafts, intakes and contents
    too.
    """

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.broken: set[str] = set()
        self.write_limit: int | None = None  # what a draft may hold: a disk that is full then

    async def open(self, digest: Digest) -> "BreakableContent | None":
        self.check("open")
        content = await super().open(digest)
        return None if content is None else BreakableContent(self, content)

    async def draft(self, digest: Digest) -> "BreakableDraft":
        self.check("draft")
        draft = await super().draft(digest)
        return BreakableDraft(self, digest, draft._written)

    async def intake(self) -> "BreakableIntake":
        self.check("intake")
        return BreakableIntake(self)

    async def put(self, digest: Digest, body: bytes, media_type: str) -> None:
        self.check("put")
        await super().put(digest, body, media_type)

    def check(self, method: str) -> None:
        if method in self.broken:
            raise StorageError(f"{method} is broken")


class BreakableContent(MemoryContent):
    def __init__(self, store: BreakableStore, content: MemoryContent) -> None:
        super().__init__(content.entry, content._body)
        self._store = store

    async def read(self, offset: int, size: int) -> bytes:
        self._store.check("content.read")
        if "content.short" in self._store.broken:
            return (await super().read(offset, size))[:-1]
        return await super().read(offset, size)


class BreakableDraft(MemoryDraft):
    def __init__(self, store: BreakableStore, digest: Digest, written: bytearray) -> None:
        super().__init__(store, digest, written)
        self._breakable = store

    async def expect(self, size: int) -> None:
        self._breakable.check("expect")
        await super().expect(size)

    async def write(self, data: bytes) -> None:
        self._breakable.check("write")
        limit = self._breakable.write_limit
        if limit is not None and self.size + len(data) > limit:
            raise StorageError("the disk is full")
        await super().write(data)

    async def read(self, offset: int, size: int) -> bytes:
        self._breakable.check("read")
        return await super().read(offset, size)

    async def verify(self) -> None:
        self._breakable.check("verify")
        await super().verify()

    async def commit(self, media_type: str) -> None:
        self._breakable.check("commit")
        await super().commit(media_type)

    async def suspend(self) -> None:
        self._breakable.check("suspend")
        await super().suspend()

    async def discard(self) -> None:
        self._breakable.check("discard")
        await super().discard()


class BreakableIntake(MemoryIntake):
    def __init__(self, store: BreakableStore) -> None:
        super().__init__(store)
        self._breakable = store

    async def write(self, data: bytes) -> None:
        self._breakable.check("write")
        limit = self._breakable.write_limit
        if limit is not None and self.size + len(data) > limit:
            raise StorageError("the disk is full")
        await super().write(data)

    async def commit(self, digest: Digest, media_type: str) -> None:
        self._breakable.check("commit")
        await super().commit(digest, media_type)

    async def discard(self) -> None:
        self._breakable.check("discard")
        await super().discard()
