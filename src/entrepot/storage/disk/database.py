"""diskcache as we use it: for its schema, counters, connections and files. It pickles nothing."""

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diskcache
from diskcache.core import MODE_BINARY, MODE_RAW, UNKNOWN

from entrepot.clock import Clock

# As long as a writer waits for one of another process before it gives up. Theirs take 50 ms.
_BUSY_TIMEOUT_S = 10
_SETTINGS = {
    "eviction_policy": "none",  # it knows neither pins nor the disk: `evictor` does
    "cull_limit": 0,
    "statistics": 0,  # would make every look-up a write
    "tag_index": 0,
    "sqlite_journal_mode": "wal",  # readers never wait for writers
    "sqlite_synchronous": 1,  # NORMAL: power loss may take the last commits, never consistency
    "sqlite_auto_vacuum": 2,  # INCREMENTAL; FULL moves pages in every commit that deletes
    "sqlite_cache_size": 2048,  # pages, per thread
    "sqlite_mmap_size": 0,  # a bad sector under a mapping is a SIGBUS, not an error
}


@dataclass(frozen=True, slots=True)
class Adoption:
    """A finished file, to become the value of a row by rename."""

    source: Path
    name: str  # relative to the cache's directory
    size: int


class ValueDisk(diskcache.Disk):  # type: ignore[misc] # diskcache has no types
    """Keys are text; values are bytes, kept in the row, or an `Adoption`."""

    def put(self, key: object) -> tuple[str, bool]:
        if type(key) is not str:
            raise TypeError(f"keys are text, not {type(key).__name__}")
        return key, True

    def get(self, key: object, raw: object) -> str:
        if type(key) is not str or not raw:
            raise TypeError("the key of a row is not text")
        return key

    def store(
        self,
        value: object,
        read: object,
        key: object = UNKNOWN,  # noqa: ARG002 - diskcache's
    ) -> tuple[int, int, str | None, bytes | None]:
        if read:
            raise TypeError("files are adopted, not copied")
        if type(value) is bytes:
            # With its size, unlike in diskcache: the sum of sizes is what the content weighs.
            return len(value), MODE_RAW, None, value
        if isinstance(value, Adoption):
            _move(value.source, Path(self._directory, value.name))
            return value.size, MODE_BINARY, value.name, None
        raise TypeError(f"values are bytes or an adoption, not {type(value).__name__}")

    def fetch(self, mode: object, filename: object, value: object, read: object) -> bytes:  # noqa: ARG002 - diskcache's
        if mode != MODE_RAW or type(value) is not bytes:
            raise TypeError("the value of a row is not bytes")
        return value

    def remove(self, file_path: str) -> None:
        """Leaves empty directories: to remove them races with who is about to move a file in."""
        with suppress(OSError):
            Path(self._directory, file_path).unlink()


def _move(source: Path, target: Path) -> None:
    try:
        source.rename(target)
    except FileNotFoundError:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        source.rename(target)


class Database(diskcache.Cache):  # type: ignore[misc] # diskcache has no types
    """Its methods block; each thread has a connection of its own, and closes it by `close`."""

    def __init__(self, directory: Path, clock: Clock) -> None:
        self._clock = clock
        self.counters = (0, 0)
        try:
            super().__init__(str(directory), _BUSY_TIMEOUT_S, ValueDisk, **_SETTINGS)
            self._prepare()
        finally:
            self.close()  # of the calling thread; others get their own

    def _prepare(self) -> None:
        self.count_again()

    def count_again(self) -> None:
        """Read diskcache's counters, which other processes move, too."""
        rows = dict(self._sql("SELECT key, value FROM Settings WHERE key IN ('count', 'size')"))
        self.counters = (rows["count"], rows["size"])

    def probe(self) -> None:
        """Raise unless the database can be written."""
        with self.transaction() as sql:
            sql("UPDATE Settings SET value = value WHERE key = 'count'")

    def shrink(self, pages: int) -> None:
        """Give some pages that hold nothing back to the file system."""
        self._sql(f"PRAGMA incremental_vacuum({pages:d})").fetchall()

    @contextmanager
    def transaction(self) -> Iterator[Callable[..., sqlite3.Cursor]]:
        with self._transact() as (sql, _):
            yield sql
        self.count_again()

    @contextmanager
    def _transact(self, retry: bool = False, filename: str | None = None) -> Iterator[Any]:  # noqa: FBT001, FBT002, ARG002 - diskcache's signature
        try:
            # Never its own retry: that is an endless loop on errors other than "locked".
            with super()._transact(retry=False, filename=filename) as handles:
                yield handles
        except BaseException:
            # A COMMIT that fails (disk full) leaves the transaction open, and the connection
            # useless: each BEGIN after it would fail.
            if self._txn_id is None and self._con.in_transaction:
                self._con.rollback()
            raise

    def _row_insert(self, key: str, raw: bool, now: float, columns: tuple[Any, ...]) -> None:  # noqa: ARG002, FBT001 - diskcache's signature
        super()._row_insert(key, raw, self._clock.now(), columns)

    def _row_update(self, rowid: int, now: float, columns: tuple[Any, ...]) -> None:  # noqa: ARG002 - diskcache's signature
        super()._row_update(rowid, self._clock.now(), columns)


def sync_directory(path: Path) -> None:
    """Make names in it last."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
