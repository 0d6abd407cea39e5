"""Small records as rows. Deadlines are by our clock: diskcache's `expire` asks the system's."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path

from entrepot.clock import Clock
from entrepot.storage.disk.database import Database
from entrepot.storage.disk.workers import Workers

_PAGE = 256
# Rows are of what clients ask for: what they make of it must not fill the disk. Rows of half a
# KiB, keys and indexes with them; what is forgotten costs a question.
_ROWS_MAX = 2_000_000
_BYTES_MAX = 512 << 20  # of values
_SURROGATES = range(0xD800, 0xE000)  # no text in UTF-8 holds these
_PUT = (
    "INSERT INTO Cache (key, raw, expire_time, size, value) VALUES (?, 1, ?, ?, ?)"
    " ON CONFLICT (key, raw) DO UPDATE SET expire_time = excluded.expire_time,"
    " size = excluded.size, value = excluded.value"
)
# What lives for moments is somebody's word that something is so, such as a hold on writes: it is
# relied on, and goes by itself soon.
_SPARED_S = 60
_FIRST_TO_EXPIRE = "SELECT rowid FROM Cache WHERE expire_time > ? ORDER BY expire_time LIMIT ?"
_EXPIRED = "SELECT rowid FROM Cache WHERE expire_time <= ? ORDER BY expire_time LIMIT ?"


class LedgerTable(Database):
    """diskcache's table and index of expiry times, one statement an operation."""

    def find(self, key: str, now: float) -> bytes | None:
        found = self._sql(
            "SELECT value FROM Cache WHERE key = ? AND raw = 1 AND expire_time > ?", (key, now)
        ).fetchone()
        return None if found is None else found[0]

    def record(self, key: str, value: bytes, deadline: float) -> None:
        self._sql(_PUT, (key, deadline, len(value), value))

    def forget(self, key: str) -> None:
        self._sql("DELETE FROM Cache WHERE key = ? AND raw = 1", (key,))

    def page(self, prefix: str, after: str | int, now: float) -> list[tuple[str, bytes]]:
        """In order of key: a range of the unique index."""
        rows: list[tuple[str, bytes]] = self._sql(
            "SELECT key, value FROM Cache WHERE key >= ? AND key > ? AND key < ? AND raw = 1"
            " AND expire_time > ? ORDER BY key LIMIT ?",
            (prefix, after, _behind(prefix), now, _PAGE),
        ).fetchall()
        return rows

    def expire(self, now: float, limit: int) -> int:
        count: int = self._sql(
            f"DELETE FROM Cache WHERE rowid IN ({_EXPIRED})",  # noqa: S608 - constant
            (now, limit),
        ).rowcount
        return count

    def trim(self, now: float, limit: int) -> int:
        """Remove some of what expires first while there is too much."""
        self.count_again()
        rows, size = self.counters
        if rows <= _ROWS_MAX and size <= _BYTES_MAX:
            return 0
        count: int = self._sql(
            f"DELETE FROM Cache WHERE rowid IN ({_FIRST_TO_EXPIRE})",  # noqa: S608 - constant
            (now + _SPARED_S, limit),
        ).rowcount
        return count


class DiskLedger:
    """A `Ledger`."""

    def __init__(self, directory: Path, clock: Clock, workers: Workers) -> None:
        self._clock = clock
        self._workers = workers
        self._table = LedgerTable(directory, clock)

    async def get(self, key: str) -> bytes | None:
        return await self._workers.read(self._table.find, key, self._clock.now())

    async def put(self, key: str, value: bytes, ttl_s: float) -> None:
        deadline = self._clock.now() + ttl_s
        await self._workers.write(self._table.record, key, bytes(value), deadline)

    async def delete(self, key: str) -> None:
        await self._workers.write(self._table.forget, key)

    async def scan(self, prefix: str) -> AsyncIterator[tuple[str, bytes]]:
        after: str | int = 0  # every number is less than every TEXT
        while page := await self._workers.read(self._table.page, prefix, after, self._clock.now()):
            for record in page:
                yield record
            after = page[-1][0]

    async def expire(self) -> int:
        """Remove what is past its deadline, and what is too much, little by little: others write in
        between.
        """
        total = 0
        while count := await self._workers.write(self._table.expire, self._clock.now(), _PAGE):
            total += count
        while count := await self._workers.write(self._table.trim, self._clock.now(), _PAGE):
            total += count
        return total

    def close_connection(self) -> None:
        """Of the calling thread."""
        self._table.close()


def _behind(prefix: str) -> str | bytes:
    """What comes after all keys with this prefix, in SQLite's order: by code point."""
    for end in range(len(prefix), 0, -1):
        successor = ord(prefix[end - 1]) + 1
        if successor == _SURROGATES.start:
            successor = _SURROGATES.stop
        if successor <= sys.maxunicode:
            return prefix[: end - 1] + chr(successor)
    return b""  # every BLOB is greater than every TEXT
