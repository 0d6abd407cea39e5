"""A store in memory: for tests, and the plainest statement of what `base` means.

It evicts nothing: what it holds is bounded by who uses it.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from entrepot.clock import Clock, SystemClock
from entrepot.errors import DigestMismatch
from entrepot.oci.digest import Digest
from entrepot.storage.base import Entry, Statistics


@dataclass(slots=True)
class _Stored:
    body: bytes
    media_type: str
    last_used: float


class MemoryContent:
    def __init__(self, entry: Entry, body: bytes) -> None:
        self._entry = entry
        self._body = body
        self._is_closed = False

    @property
    def entry(self) -> Entry:
        return self._entry

    @property
    def file(self) -> None:
        return None

    async def read(self, offset: int, size: int) -> bytes:
        if self._is_closed:
            raise ValueError("read of closed content")
        return self._body[offset : offset + size]

    def close(self) -> None:
        self._is_closed = True


class MemoryStore:
    """A `ContentStore`."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._stored: dict[Digest, _Stored] = {}
        self._pinned: set[Digest] = set()
        self._suspended: dict[Digest, bytearray] = {}

    async def open(self, digest: Digest) -> MemoryContent | None:
        stored = self._stored.get(digest)
        if stored is None:
            return None
        stored.last_used = self._clock.now()
        return MemoryContent(self._entry(digest, stored), stored.body)

    async def draft(self, digest: Digest) -> "MemoryDraft":
        return MemoryDraft(self, digest, self._suspended.pop(digest, bytearray()))

    async def intake(self) -> "MemoryIntake":
        return MemoryIntake(self)

    async def put(self, digest: Digest, body: bytes, media_type: str) -> None:
        if not digest.matches(body):
            raise DigestMismatch(f"not the bytes of {digest}")
        self._stored.setdefault(digest, _Stored(bytes(body), media_type, self._clock.now()))

    async def remove(self, digest: Digest) -> None:
        self._stored.pop(digest, None)

    async def pin(self, digest: Digest, *, pinned: bool) -> None:
        (self._pinned.add if pinned else self._pinned.discard)(digest)

    async def entries(self) -> AsyncIterator[Entry]:
        for digest, stored in list(self._stored.items()):
            yield self._entry(digest, stored)

    def statistics(self) -> Statistics:
        size = sum(len(stored.body) for stored in self._stored.values())
        return Statistics(len(self._stored), size, evictions=0, evicted_bytes=0)

    def keep_for_later(self, digest: Digest, written: bytearray) -> None:
        self._suspended[digest] = written

    def _entry(self, digest: Digest, stored: _Stored) -> Entry:
        return Entry(
            digest, len(stored.body), stored.media_type, stored.last_used, digest in self._pinned
        )


class MemoryDraft:
    def __init__(self, store: MemoryStore, digest: Digest, written: bytearray) -> None:
        self._store = store
        self._digest = digest
        self._written = written
        self._has_ended = False
        self._is_closed = False

    @property
    def size(self) -> int:
        return len(self._written)

    @property
    def file(self) -> None:
        return None

    async def expect(self, size: int) -> None:
        """All fits."""

    async def write(self, data: bytes) -> None:
        if self._has_ended:
            raise ValueError("write to a draft that has ended")
        self._written += data

    async def read(self, offset: int, size: int) -> bytes:
        if self._is_closed:
            raise ValueError("read of a closed draft")
        return bytes(self._written[offset : offset + size])

    async def verify(self) -> None:
        if not self._digest.matches(bytes(self._written)):
            self._has_ended = True
            raise DigestMismatch(f"not the bytes of {self._digest}")

    async def commit(self, media_type: str) -> None:
        with self._ending() as is_first:
            if is_first:
                await self._store.put(self._digest, bytes(self._written), media_type)

    async def suspend(self) -> None:
        with self._ending() as is_first:
            if is_first and self._written:
                # A copy: the readers of this one see no byte of the next attempt.
                self._store.keep_for_later(self._digest, bytearray(self._written))

    async def discard(self) -> None:
        self._has_ended = True

    def close(self) -> None:
        self._has_ended = self._is_closed = True

    @contextmanager
    def _ending(self) -> Iterator[bool]:
        is_first, self._has_ended = not self._has_ended, True
        yield is_first


class MemoryIntake:
    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._written = bytearray()
        self._has_ended = False

    @property
    def size(self) -> int:
        return len(self._written)

    async def write(self, data: bytes) -> None:
        if self._has_ended:
            raise ValueError("write to an intake that has ended")
        self._written += data

    async def commit(self, digest: Digest, media_type: str) -> None:
        if not self._has_ended:
            self._has_ended = True
            await self._store.put(digest, bytes(self._written), media_type)

    async def discard(self) -> None:
        self._has_ended = True

    def close(self) -> None:
        self._has_ended = True


@dataclass(slots=True)
class MemoryLedger:
    """A `Ledger`."""

    clock: Clock = field(default_factory=SystemClock)
    _records: dict[str, tuple[bytes, float]] = field(default_factory=dict, init=False)

    async def get(self, key: str) -> bytes | None:
        value, deadline = self._records.get(key, (None, 0.0))
        return value if self.clock.now() < deadline else None

    async def put(self, key: str, value: bytes, ttl_s: float) -> None:
        self._records[key] = (bytes(value), self.clock.now() + ttl_s)

    async def delete(self, key: str) -> None:
        self._records.pop(key, None)

    async def scan(self, prefix: str) -> AsyncIterator[tuple[str, bytes]]:
        for key in sorted(self._records):
            value, deadline = self._records.get(key, (b"", 0.0))
            if key.startswith(prefix) and self.clock.now() < deadline:
                yield key, value
