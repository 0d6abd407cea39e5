"""Reads all that is stored, and removes what is not what its digest says."""

import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from entrepot.oci.digest import Digest, Hasher
from entrepot.storage.disk.index import ContentIndex, Row
from entrepot.storage.disk.reading import OpenFile
from entrepot.storage.disk.workers import Workers

_CHUNK = 1 << 20
_PAGE = 100
# Sleeps shorter than this are mostly overhead: what is owed for small entries is saved up.
_SHORTEST_PAUSE_S = 0.02

type Sleep = Callable[[float], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class ScrubReport:
    checked: int
    size_bytes: int
    corrupt: tuple[Digest, ...]


class Pace:
    """So many bytes a second, at the most; any number where the rate is 0."""

    def __init__(self, rate_bytes_s: float, sleep: Sleep) -> None:
        self._rate_bytes_s = rate_bytes_s
        self._sleep = sleep
        self._owed_s = 0.0

    async def spend(self, size: int) -> None:
        if self._rate_bytes_s > 0:
            self._owed_s += size / self._rate_bytes_s
        if self._owed_s >= _SHORTEST_PAUSE_S:
            pause, self._owed_s = self._owed_s, 0.0
            await self._sleep(pause)


class Scrubber:
    def __init__(
        self, index: ContentIndex, workers: Workers, condemn: Callable[[Row], Awaitable[bool]]
    ) -> None:
        self._index = index
        self._workers = workers
        self._condemn = condemn

    async def scrub(self, pace: Pace) -> ScrubReport:
        checked = size_bytes = last = 0
        corrupt: list[Digest] = []
        while rows := await self._workers.read(self._index.page, last, _PAGE):
            last = rows[-1].rowid
            for row in rows:
                if not await self._is_right(row, pace) and await self._condemn(row):
                    corrupt.append(Digest.parse(row.key))
                checked += 1
                size_bytes += row.size
        return ScrubReport(checked, size_bytes, tuple(corrupt))

    async def _is_right(self, row: Row, pace: Pace) -> bool:
        """What has gone meanwhile was removed, and is not wrong."""
        if row.filename is None:
            await pace.spend(row.size)
            return await self._workers.read(self._is_row_right, row)
        path = self._index.path(row.filename)
        file = await self._workers.acquire_file(partial(_open, path), _close)
        if file is None:
            return True
        try:
            return await self._is_file_right(row, file, pace)
        finally:
            file.close()

    def _is_row_right(self, row: Row) -> bool:
        found = self._index.find(row.key)
        if found is None or found[0].filename is not None:
            return True
        return found[1] is not None and Digest.parse(row.key).matches(found[1])

    async def _is_file_right(self, row: Row, file: OpenFile, pace: Pace) -> bool:
        digest = Digest.parse(row.key)
        hasher = digest.hasher()
        offset = 0
        while count := await self._workers.file(_hash_chunk, file, hasher, offset):
            offset += count
            await pace.spend(count)
        return hasher.hexdigest() == digest.hex


def _open(path: Path) -> OpenFile | None:
    try:
        return OpenFile(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW))
    except FileNotFoundError:
        return None


def _close(file: OpenFile | None) -> None:
    if file is not None:
        file.close()


def _hash_chunk(file: OpenFile, hasher: Hasher, offset: int) -> int:
    """0 at the end, and where the disk refuses: what cannot be read is as bad as wrong."""
    with file.borrowed() as descriptor:
        try:
            chunk = os.pread(descriptor, _CHUNK, offset)
        except OSError:
            return 0
        hasher.update(chunk)
        return len(chunk)
