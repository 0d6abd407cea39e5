"""Content that is coming in: a part file, its running hash, and its admission."""

import enum
import errno
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from entrepot.errors import DigestMismatch
from entrepot.oci.digest import Digest
from entrepot.storage.disk.database import Adoption, sync_directory
from entrepot.storage.disk.evictor import Evictor
from entrepot.storage.disk.index import ROW_MAX, ContentIndex
from entrepot.storage.disk.layout import content_name
from entrepot.storage.disk.parts import INTAKE_ALGORITHM, Part, hash_file, unlock_part
from entrepot.storage.disk.reading import FileReader, OpenFile
from entrepot.storage.disk.workers import Workers

_READ_ONLY = 0o400


class _State(enum.Enum):
    OPEN = enum.auto()
    COMMITTED = enum.auto()
    SUSPENDED = enum.auto()
    DISCARDED = enum.auto()


@dataclass(frozen=True, slots=True)
class Admission:
    """What a draft needs of the store."""

    index: ContentIndex
    workers: Workers
    reader: FileReader
    evictor: Evictor


class DiskDraft:
    """Its steps run in threads and go on there when who awaits them is cancelled: the lock
    keeps the next step from overtaking. State and size change in these steps only.
    """

    def __init__(self, part: Part, store: Admission, *, room: int = -1) -> None:
        self._given_digest = part.digest
        self._path = part.path
        self._is_private = part.is_private
        self._file = OpenFile(part.descriptor)
        self._hasher = part.hasher
        self._size = part.size
        self._store = store
        self._room = room  # as it was found to be when this was opened
        self._roomy_until = part.size
        self._state = _State.OPEN
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        return self._size

    @property
    def file(self) -> OpenFile:
        return self._file

    @property
    def is_closed(self) -> bool:
        return self._file.is_closed

    @property
    def _digest(self) -> Digest:
        assert self._given_digest is not None, "an intake is named before it is committed"
        return self._given_digest

    async def name(self, digest: Digest) -> None:
        """Of an intake, at its end."""
        await self._step(partial(self._name, digest))

    async def expect(self, size: int) -> None:
        evictor = self._store.evictor
        evictor.refuse_if_too_large(size)
        await evictor.make_room(max(0, size - self._size), known=self._room)
        self._room = -1
        # Others take from the same room meanwhile: it is looked after again on the way.
        self._roomy_until = min(size, self._size + evictor.stride)

    async def write(self, data: bytes) -> None:
        end = self._size + len(data)
        if end > self._roomy_until:
            evictor = self._store.evictor
            await evictor.make_room(len(data))
            self._roomy_until = end + evictor.stride
        await self._store.workers.file(self._append, data)

    async def read(self, offset: int, size: int) -> bytes:
        size = min(size, self._size - offset)
        return await self._store.reader.read(self._file, offset, size) if size > 0 else b""

    async def verify(self) -> None:
        await self._step(self._check)

    async def commit(self, media_type: str) -> None:
        if self._file.is_closed:
            return
        await self._step(self._seal)
        directory = await self._store.workers.write(self._admit, media_type)
        if directory is not None:
            await self._store.workers.file(self._settle, directory)

    async def suspend(self) -> None:
        if not self._file.is_closed:
            await self._step(self._let_go)

    async def discard(self) -> None:
        if not self._file.is_closed:
            await self._step(self._remove)

    def close(self) -> None:
        # Without an end before it: like a crash, the part file stays and nobody holds it.
        self._file.close()

    async def _step(self, step: Callable[[int], None]) -> None:
        await self._store.workers.file(self._exclusively, step)

    def _exclusively(self, step: Callable[[int], None]) -> None:
        with self._lock, self._file.borrowed() as descriptor:
            step(descriptor)

    def _append(self, data: bytes) -> None:
        with self._lock, self._file.borrowed() as descriptor:
            if self._state is not _State.OPEN:
                raise ValueError("write to a draft that has ended")
            try:
                end = _write_all(descriptor, data, self._size)
            except OSError:
                # What can be written later must follow what was hashed.
                os.ftruncate(descriptor, self._size)
                raise
            self._hasher.update(data)
            self._size = end

    def _name(self, digest: Digest, descriptor: int) -> None:
        self._given_digest = digest
        if digest.algorithm != INTAKE_ALGORITHM and self._state is _State.OPEN:
            self._hasher = digest.hasher()
            hash_file(descriptor, self._hasher)

    def _check(self, descriptor: int) -> None:
        if self._hasher.hexdigest() != self._digest.hex:
            self._remove(descriptor)
            raise DigestMismatch(f"not the bytes of {self._digest}")

    def _seal(self, descriptor: int) -> None:
        if self._state is not _State.OPEN:
            return
        self._check(descriptor)
        try:
            os.fdatasync(descriptor)
        except OSError:
            # Which of its pages are on the disk, nobody knows after this.
            self._remove(descriptor)
            raise

    def _admit(self, media_type: str) -> Path | None:
        """Where the file is that was adopted, if it was."""
        with self._lock, self._file.borrowed() as descriptor:
            if self._state is not _State.OPEN:
                return None
            if self._is_stored():
                self._remove(descriptor)
                return None
            value = self._value(descriptor)
            self._store.index.admit(str(self._digest), value, media_type)
            self._state = _State.COMMITTED
            if isinstance(value, Adoption):
                return self._store.index.path(value.name).parent
            self._path.unlink(missing_ok=True)
            return None

    def _settle(self, directory: Path) -> None:
        """After the row: one that outlives its file through power loss is dropped when met, and
        the writer thread need not wait for the disk. The mode: not before, for a part that a
        crash leaves must be open to who resumes it.
        """
        with self._file.borrowed() as descriptor:
            os.fchmod(descriptor, _READ_ONLY)
        sync_directory(directory)

    def _value(self, descriptor: int) -> bytes | Adoption:
        if self._size <= ROW_MAX:
            body = os.pread(descriptor, self._size, 0)
            if not self._digest.matches(body):
                raise OSError(errno.EIO, "a part file does not hold what was written")
            return body
        return Adoption(self._path, content_name(self._digest), self._size)

    def _is_stored(self) -> bool:
        """Whether another was first, and what it stored is there."""
        found = self._store.index.find(str(self._digest))
        if found is None:
            return False
        row, _ = found
        if row.filename is None:
            return True
        try:
            return self._store.index.path(row.filename).stat().st_size == row.size
        except FileNotFoundError:
            return False

    def _let_go(self, descriptor: int) -> None:
        if self._is_private or not self._size:
            self._remove(descriptor)
        elif self._state is _State.OPEN:
            self._state = _State.SUSPENDED
            unlock_part(descriptor)

    def _remove(self, _: int) -> None:
        # Only while it is ours: after the end the path may be another draft's.
        if self._state is _State.OPEN:
            self._state = _State.DISCARDED
            self._path.unlink(missing_ok=True)


class DiskIntake:
    """A draft that is named at its end. Its part file is its own: nobody else would find it."""

    def __init__(self, draft: DiskDraft) -> None:
        self._draft = draft

    @property
    def size(self) -> int:
        return self._draft.size

    async def write(self, data: bytes) -> None:
        await self._draft.write(data)

    async def commit(self, digest: Digest, media_type: str) -> None:
        if self._draft.is_closed:
            return
        await self._draft.name(digest)
        try:
            await self._draft.commit(media_type)
        finally:
            await self._draft.discard()

    async def discard(self) -> None:
        await self._draft.discard()

    def close(self) -> None:
        self._draft.close()


def _write_all(descriptor: int, data: bytes, offset: int) -> int:
    rest = memoryview(data)
    while rest:
        count = os.pwrite(descriptor, rest, offset)
        rest, offset = rest[count:], offset + count
    return offset
