"""The storage protocols: few methods wide, so that other stores can stand in."""

from collections.abc import AsyncIterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from entrepot.oci.digest import Digest


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of stored content."""

    digest: Digest
    size: int
    media_type: str
    last_used: float
    is_pinned: bool = False


@dataclass(frozen=True, slots=True)
class Statistics:
    entries: int
    size_bytes: int
    evictions: int
    evicted_bytes: int
    corrupt: int = 0  # entries found wrong, and dropped
    refusals: int = 0  # what there was no room for


class StoredFile(Protocol):
    """A file that has content at the same offsets: for threads that read it themselves."""

    def borrowed(self) -> AbstractContextManager[int]:
        """A descriptor that nobody closes meanwhile; ValueError when it was closed before."""
        ...


class Content(Protocol):
    """Stored content, opened: stays readable when the entry is removed meanwhile."""

    @property
    def entry(self) -> Entry: ...

    @property
    def file(self) -> StoredFile | None:
        """None where the content is in no file."""
        ...

    async def read(self, offset: int, size: int) -> bytes:
        """`size` bytes, fewer only where the content ends."""
        ...

    def close(self) -> None: ...


class Draft(Protocol):
    """Content that is coming in: one writer, any number of readers, visible to nobody else.

    What `write` has taken may be read at once. `commit` checks the digest of all that was
    written and admits it, or raises DigestMismatch; a draft that was suspended is found again
    by `ContentStore.draft` of the same digest, in this process or a later one, where the store can.
    What came before may be wrong itself: after DigestMismatch nothing of the draft is kept.
    StorageError means that the store cannot take it: full, or broken. What was written before
    can still be read. A draft that has ended takes no `write` (ValueError); to end it again,
    in whatever way, does nothing.
    """

    @property
    def size(self) -> int:
        """Bytes written so far."""
        ...

    @property
    def file(self) -> StoredFile | None:
        """Like `Content.file`, of what is written."""
        ...

    async def expect(self, size: int) -> None:
        """How large the whole will be, as soon as that is known: what can never fit is refused
        (StorageError) before anything is evicted for it.
        """
        ...

    async def write(self, data: bytes) -> None: ...

    async def read(self, offset: int, size: int) -> bytes:
        """Like `Content.read`, of what is written; works on after `commit`, until `close`."""
        ...

    async def verify(self) -> None:
        """Raise DigestMismatch unless what was written is what the digest names."""
        ...

    async def commit(self, media_type: str) -> None: ...

    async def suspend(self) -> None:
        """Keep what is written for another attempt."""
        ...

    async def discard(self) -> None: ...

    def close(self) -> None:
        """No more reading."""
        ...


class Intake(Protocol):
    """A draft whose name comes last: what somebody sends before saying what it is. It cannot be
    read, and is not found again. `commit` checks that what was written is what the digest names,
    and admits it, or raises DigestMismatch; either way, as by `discard`, it has ended, and takes
    no `write` (ValueError). StorageError is as of drafts. Whoever has it closes it.
    """

    @property
    def size(self) -> int:
        """Bytes written so far."""
        ...

    async def write(self, data: bytes) -> None: ...

    async def commit(self, digest: Digest, media_type: str) -> None: ...

    async def discard(self) -> None: ...

    def close(self) -> None: ...


class ContentStore(Protocol):
    async def open(self, digest: Digest) -> Content | None: ...

    async def draft(self, digest: Digest) -> Draft:
        """Begin or go on."""
        ...

    async def intake(self) -> Intake: ...

    async def put(self, digest: Digest, body: bytes, media_type: str) -> None:
        """Admit small content, or raise DigestMismatch."""
        ...

    async def remove(self, digest: Digest) -> None: ...

    async def pin(self, digest: Digest, *, pinned: bool) -> None:
        """Spare it from eviction. Remembered of the digest, whether it is stored or not."""
        ...

    def entries(self) -> AsyncIterator[Entry]: ...


class Ledger(Protocol):
    """Small records by key, last writer wins. A record may be forgotten after its `ttl_s`."""

    async def get(self, key: str) -> bytes | None: ...

    async def put(self, key: str, value: bytes, ttl_s: float) -> None: ...

    async def delete(self, key: str) -> None: ...

    def scan(self, prefix: str) -> AsyncIterator[tuple[str, bytes]]: ...
