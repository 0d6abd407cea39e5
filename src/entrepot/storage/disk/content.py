"""Stored content, opened: from a row or from a file."""

import os

from entrepot.oci.digest import Digest
from entrepot.storage.base import Entry
from entrepot.storage.disk.index import ContentIndex, Row
from entrepot.storage.disk.reading import FileReader, OpenFile

# A file may go between the look-up and its opening, when it is evicted or replaced; the second
# look says which. More than a few rounds of that are no coincidence.
_ATTEMPTS = 3


class RowContent:
    def __init__(self, entry: Entry, body: bytes) -> None:
        self._entry = entry
        self._body = body

    @property
    def entry(self) -> Entry:
        return self._entry

    @property
    def file(self) -> None:
        return None

    async def read(self, offset: int, size: int) -> bytes:
        return self._body[offset : offset + size]

    def close(self) -> None:
        pass


class FileContent:
    def __init__(self, entry: Entry, file: OpenFile, reader: FileReader) -> None:
        self._entry = entry
        self._file = file
        self._reader = reader

    @property
    def entry(self) -> Entry:
        return self._entry

    @property
    def file(self) -> OpenFile:
        return self._file

    async def read(self, offset: int, size: int) -> bytes:
        size = min(size, self._entry.size - offset)
        return await self._reader.read(self._file, offset, size) if size > 0 else b""

    def close(self) -> None:
        self._file.close()


class Broken:
    """A row whose content is not what it says."""

    def __init__(self, row: Row, *, is_missing: bool = False) -> None:
        self.row = row
        self.is_missing = is_missing

    def close(self) -> None:
        pass


type Found = RowContent | FileContent | Broken


def open_content(index: ContentIndex, reader: FileReader, key: str) -> Found | None:
    """Blocks, and writes nothing."""
    missing: Row | None = None
    for _ in range(_ATTEMPTS):
        found = index.find(key)
        if found is None:
            return None
        row, body = found
        if row.filename is None:
            return _in_row(row, body)
        if missing is not None and missing.filename == row.filename:
            return Broken(row, is_missing=True)
        try:
            return _in_file(row, index, reader)
        except FileNotFoundError:
            missing = row
    return None


def _in_row(row: Row, body: bytes | None) -> RowContent | Broken:
    # SQLite has no checksums of its own; 2 KiB take 2 µs to hash.
    if body is None or not Digest.parse(row.key).matches(body):
        return Broken(row)
    return RowContent(row.entry(row.last_used), body)


def _in_file(row: Row, index: ContentIndex, reader: FileReader) -> FileContent | Broken:
    assert row.filename is not None
    descriptor = os.open(index.path(row.filename), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    file = OpenFile(descriptor)
    if os.fstat(descriptor).st_size == row.size:
        return FileContent(row.entry(row.last_used), file, reader)
    file.close()
    return Broken(row)
