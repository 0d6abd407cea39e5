"""A layer that a client pushes, written to the store beside its way to the upstream.

The push comes first: it is never failed for the store's sake, and held up for a moment at the
most. What cannot keep up, or does not fit, is given up silently; the upstream has it all the same.
"""

import asyncio
from collections.abc import Callable

from entrepot.errors import DigestMismatch, StorageError
from entrepot.oci.digest import Digest
from entrepot.oci.media_type import OCTET_STREAM
from entrepot.storage.base import ContentStore, Intake

# Written while the next is collected: a thread, a hash and a write for each.
STEP = 1 << 20
# How long a push may wait for a disk that is slower than its network, all waits together: for a
# page cache that is being written back, or a processor that is busy. More, and it is not kept.
_PATIENCE_S, _PATIENCE_SHARE = 2.0, 0.2


class LayerIntake:
    """Of one upload session, whose steps follow each other. Ends by `finish` or by `give_up`.

    `backlog`: how much may wait while the disk writes. A MiB takes it 2 ms; but to hear of that
    from the thread takes a busy event loop 10 and more, in which the next have come.
    """

    def __init__(
        self, store: ContentStore, tasks: asyncio.TaskGroup, backlog: Callable[[], int]
    ) -> None:
        self._store = store
        self._tasks = tasks
        self._backlog = backlog
        self._intake: Intake | None = None
        self._pieces: list[bytes] = []
        self._collected = 0
        self._writing: asyncio.Task[None] | None = None
        self._began = asyncio.get_running_loop().time()
        self._waited_s = 0.0
        self.size = 0
        self.is_lost = False

    async def take(self, piece: bytes) -> None:
        """Wait for the disk only as long as there is patience left."""
        if self.is_lost:
            return
        self._pieces.append(piece)
        self._collected += len(piece)
        self.size += len(piece)
        if self._collected >= self._backlog():
            await self._wait_for_disk()
        if self._collected >= STEP and not self._is_writing:
            self._write_on()

    @property
    def _is_writing(self) -> bool:
        return self._writing is not None and not self._writing.done()

    async def finish(self, digest: Digest) -> bool:
        """Admit what was taken, if that is its digest; whether it was."""
        if self.is_lost:
            return False
        try:
            await self._settled()
            self._write_on()
            await self._settled()
            if self.is_lost:
                return False
            intake = self._intake = self._intake or await self._store.intake()
            await intake.commit(digest, OCTET_STREAM)
        except (StorageError, DigestMismatch):
            return False
        finally:
            self.is_lost = True
            await self._let_go()
        return True

    async def give_up(self) -> None:
        self.is_lost = True
        self._pieces.clear()
        await self._settled()
        await self._let_go()

    def _write_on(self) -> None:
        if self._pieces and not self.is_lost:
            data = b"".join(self._pieces)
            self._pieces.clear()
            self._collected = 0
            self._writing = self._tasks.create_task(self._write(data), name="keep a push")

    async def _write(self, data: bytes) -> None:
        try:
            if self._intake is None:
                self._intake = await self._store.intake()
            await self._intake.write(data)
        except StorageError:
            self._lose()

    async def _wait_for_disk(self) -> None:
        if self._writing is None or not self._is_writing:
            return
        loop = asyncio.get_running_loop()
        began = loop.time()
        patience_s = _PATIENCE_S + _PATIENCE_SHARE * (began - self._began) - self._waited_s
        await asyncio.wait({self._writing}, timeout=min(max(0.0, patience_s), _PATIENCE_S))
        self._waited_s += loop.time() - began
        if not self._writing.done():
            self._lose()

    def _lose(self) -> None:
        """At once, not when the push ends: what there is of it takes room that others lack."""
        self.is_lost = True
        self._tasks.create_task(self.give_up(), name="lose a push")

    async def _settled(self) -> None:
        if self._writing is not None:
            await asyncio.wait({self._writing})

    async def _let_go(self) -> None:
        intake, self._intake = self._intake, None
        if intake is None:
            return
        try:
            await intake.discard()
        except StorageError:
            pass  # a part file that nobody holds, which the sweep collects
        finally:
            intake.close()
