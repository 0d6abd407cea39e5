"""The content store on a disk, put together."""

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import diskcache

from entrepot.clock import Clock
from entrepot.config.model import Storage
from entrepot.errors import DigestMismatch, StorageError
from entrepot.oci.digest import Digest
from entrepot.storage.base import Content, Entry, Statistics
from entrepot.storage.disk.content import Broken, Found, open_content
from entrepot.storage.disk.draft import Admission, DiskDraft, DiskIntake
from entrepot.storage.disk.evictor import Evictor, free_bytes
from entrepot.storage.disk.index import ROW_MAX, ContentIndex, Row
from entrepot.storage.disk.layout import Layout
from entrepot.storage.disk.ledger import DiskLedger
from entrepot.storage.disk.parts import Part, open_intake_part, open_part, open_private_part
from entrepot.storage.disk.reading import FileReader
from entrepot.storage.disk.scrub import Scrubber, ScrubReport, Sleep
from entrepot.storage.disk.shelf import Shelf, Uses
from entrepot.storage.disk.sweep import SweepReport
from entrepot.storage.disk.upkeep import Upkeep
from entrepot.storage.disk.workers import Workers

_PAGE = 200

_log = logging.getLogger(__name__)


def open_disk_store(
    directory: Path,
    settings: Storage,
    clock: Clock,
    *,
    free: Callable[[Path], int] = free_bytes,
) -> "DiskStore":
    """In cache/ of the data directory `directory`, whatever there is. Blocks: for the start."""
    layout = Layout(directory / "cache")
    workers = Workers()
    try:
        layout.prepare()
        layout.probe()
        index = ContentIndex(layout.root, clock)
        ledger = DiskLedger(layout.ledger, clock, workers)
    except (OSError, sqlite3.Error, diskcache.Timeout) as error:
        raise StorageError(f"{layout.root} cannot be used: {error}") from error
    shelf = Shelf(layout, settings, clock, index, workers, Uses(index, workers, clock))
    return DiskStore(shelf, ledger, Evictor(shelf, free))


class DiskStore:
    """A `ContentStore`, with the `Ledger` beside it and the upkeep of both."""

    def __init__(self, shelf: Shelf, ledger: DiskLedger, evictor: Evictor) -> None:
        self.ledger = ledger
        self._shelf = shelf
        self._index = shelf.index
        self._workers = shelf.workers
        self._evictor = evictor
        self._reader = FileReader(shelf.workers)
        self._admission = Admission(shelf.index, shelf.workers, self._reader, evictor)
        scrubber = Scrubber(shelf.index, shelf.workers, self._condemn)
        self._upkeep = Upkeep(shelf, ledger, evictor, scrubber)
        self._corrupt = 0

    async def open(self, digest: Digest) -> Content | None:
        key = str(digest)
        content = await self._workers.acquire(partial(self._look, key), _close)
        if content is None:
            return None
        if isinstance(content, Broken):
            await self._drop(content)
            return None
        self._shelf.uses.note(key)
        return content

    async def draft(self, digest: Digest) -> DiskDraft:
        # In one hop: the first byte of a cold pull waits for this.
        find = partial(self._open_part, digest)
        part, room = await self._workers.acquire_file(find, lambda found: found[0].give_up())
        draft = DiskDraft(part, self._admission, room=room)
        try:
            await self._evictor.make_room(0, known=room)
        except StorageError:
            await draft.suspend()  # an empty part file is not worth keeping
            draft.close()
            raise
        except BaseException:
            draft.close()
            raise
        return draft

    async def intake(self) -> DiskIntake:
        await self._evictor.make_room(0)
        part = await self._part(partial(open_intake_part, self._shelf.layout))
        return DiskIntake(DiskDraft(part, self._admission))

    async def put(self, digest: Digest, body: bytes, media_type: str) -> None:
        if len(body) > ROW_MAX:
            await self._put_file(digest, body, media_type)
            return
        if not digest.matches(body):
            raise DigestMismatch(f"not the bytes of {digest}")
        await self._evictor.make_room(len(body))
        await self._workers.write(self._put_row, str(digest), bytes(body), media_type)

    async def remove(self, digest: Digest) -> None:
        await self._workers.write(self._remove, str(digest))

    async def pin(self, digest: Digest, *, pinned: bool) -> None:
        await self._workers.write(self._index.set_pin, str(digest), pinned=pinned)

    async def entries(self) -> AsyncIterator[Entry]:
        last = 0
        while rows := await self._workers.read(self._index.page, last, _PAGE):
            last = rows[-1].rowid
            for row in rows:
                yield row.entry(self._shelf.uses.last(row.key, row.last_used))

    def statistics(self) -> Statistics:
        """Entries and size as of the last change by this process, or ten seconds ago."""
        count, size = self._index.counters
        evictor = self._evictor
        return Statistics(
            count, size, evictor.evictions, evictor.evicted_bytes, self._corrupt, evictor.refusals
        )

    @property
    def shortage(self) -> str:
        """Why nothing more can be stored, while that is so; empty otherwise."""
        return self._evictor.shortage

    async def maintain(self, sleep: Sleep = asyncio.sleep) -> None:
        """Keeps the limits, tidies up and scrubs when it is time, until cancelled."""
        await self._upkeep.run(sleep)

    async def tend(self) -> None:
        """What `maintain` does every ten seconds."""
        await self._upkeep.tend()

    async def sweep(self) -> SweepReport:
        """What `maintain` does every few hours: collects what crashes left."""
        return await self._upkeep.sweep()

    async def scrub(self, rate_bytes_s: float, sleep: Sleep = asyncio.sleep) -> ScrubReport:
        return await self._upkeep.scrub(rate_bytes_s, sleep)

    async def check_writable(self) -> None:
        """Raise StorageError unless content could be stored."""
        await self._workers.file(self._shelf.layout.probe)
        await self._workers.write(self._index.probe)

    async def aclose(self) -> None:
        try:
            await self._shelf.uses.flush()
        except StorageError as error:
            _log.warning("the last uses of entries are lost: %s", error)
        await self._workers.aclose(self._close_connections)

    def _look(self, key: str) -> Found | None:
        return open_content(self._index, self._reader, key)

    def _open_part(self, digest: Digest) -> tuple[Part, int]:
        part = open_part(self._shelf.layout, digest)
        try:
            return part, self._evictor.room()
        except BaseException:
            part.close()
            raise

    async def _part(self, find: Callable[[], Part]) -> Part:
        return await self._workers.acquire_file(find, Part.give_up)

    async def _put_file(self, digest: Digest, body: bytes, media_type: str) -> None:
        # Not the shared part file: a fill may have left something there.
        part = await self._part(partial(open_private_part, self._shelf.layout, digest))
        draft = DiskDraft(part, self._admission)
        try:
            await draft.write(body)
            await draft.commit(media_type)
        finally:
            await draft.discard()
            draft.close()

    def _put_row(self, key: str, body: bytes, media_type: str) -> None:
        if self._index.find(key) is None:
            self._index.admit(key, body, media_type)

    def _remove(self, key: str) -> None:
        found = self._index.find(key)
        if found is not None:
            self._index.drop(found[0])

    async def _drop(self, broken: Broken) -> None:
        if broken.is_missing:
            await self._workers.write(self._index.drop, broken.row)
        else:
            await self._condemn(broken.row)

    async def _condemn(self, row: Row) -> bool:
        """Drop what is corrupt, unless it went by itself."""
        is_dropped = await self._workers.write(self._index.drop, row)
        if is_dropped:
            self._corrupt += 1
            _log.warning("%s was corrupt in the store and is dropped", row.key)
        return is_dropped

    def _close_connections(self) -> None:
        self._index.close()
        self.ledger.close_connection()


def _close(content: Found | None) -> None:
    if content is not None:
        content.close()
