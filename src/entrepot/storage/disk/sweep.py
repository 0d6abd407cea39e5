"""What crashes leave behind: abandoned fills, files without a row, rows without their file."""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from entrepot.storage.disk.index import Row
from entrepot.storage.disk.layout import content_key
from entrepot.storage.disk.parts import sweep_parts
from entrepot.storage.disk.shelf import Shelf

# A fill that nobody resumed for a day is not going to be.
_PART_AGE_S = 86_400
# Between the rename of a file and its row are milliseconds, in whatever process.
_ORPHAN_AGE_S = 3_600
_BATCH = 500


@dataclass(frozen=True, slots=True)
class SweepReport:
    parts: int
    orphans: int
    missing: int


class Sweeper:
    def __init__(self, shelf: Shelf) -> None:
        self._layout = shelf.layout
        self._clock = shelf.clock
        self._index = shelf.index
        self._workers = shelf.workers

    async def sweep(self) -> SweepReport:
        now = self._clock.now()
        return SweepReport(
            parts=await self._workers.file(sweep_parts, self._layout.fills, now - _PART_AGE_S),
            orphans=await self._remove_orphans(now - _ORPHAN_AGE_S),
            missing=await self._drop_missing(),
        )

    async def _remove_orphans(self, before: float) -> int:
        total = 0
        for directory in await self._workers.file(_directories, self._layout.content):
            names = await self._workers.file(_names_older_than, directory, before)
            while names:
                batch, names = names[:_BATCH], names[_BATCH:]
                orphans = await self._workers.read(self._without_row, directory.name, batch)
                await self._workers.file(self._index.unlink, orphans)
                total += len(orphans)
        return total

    def _without_row(self, directory: str, names: list[str]) -> list[str]:
        filenames = {f"content/{directory}/{name}": content_key(name) for name in names}
        return [
            filename for filename, key in filenames.items() if self._index.filename(key) != filename
        ]

    async def _drop_missing(self) -> int:
        total = last = 0
        while rows := await self._workers.read(self._index.page, last, _BATCH):
            last = rows[-1].rowid
            for row in await self._workers.file(self._without_file, rows):
                # The file was there before its row: a row that still names it names nothing.
                total += await self._workers.write(self._index.drop, row)
        return total

    def _without_file(self, rows: list[Row]) -> list[Row]:
        return [row for row in rows if row.filename and not self._index.path(row.filename).exists()]


def _directories(content: Path) -> list[Path]:
    return sorted(content.iterdir())


def _names_older_than(directory: Path, before: float) -> list[str]:
    """By the time of the last rename, which is what adoption does to a file."""
    names = []
    with os.scandir(directory) as files:
        for file in files:
            with suppress(FileNotFoundError):
                if file.stat(follow_symlinks=False).st_ctime < before:
                    names.append(file.name)
    return names
