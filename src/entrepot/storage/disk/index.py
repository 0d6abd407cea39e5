"""The rows of stored content: what `content/` holds and when it was used."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from entrepot.oci.digest import Digest
from entrepot.storage.base import Entry
from entrepot.storage.disk.database import Adoption, Database

# Content up to this size is kept in its row (diskcache's own threshold, where SQLite is still
# faster than a file).
ROW_MAX = 32 << 10
_SCHEMA = (
    # A table of its own: pins outlive the entry, and say no more than that they are.
    "CREATE TABLE IF NOT EXISTS Pin (key TEXT PRIMARY KEY) WITHOUT ROWID",
    # The order of eviction: files before rows, which weigh nothing and, being manifests, cost
    # Docker Hub quota to fetch again.
    "CREATE INDEX IF NOT EXISTS Cache_eviction ON Cache (filename IS NULL, access_time)",
)
_COLUMNS = (
    "SELECT rowid, key, tag, size, filename, access_time,"
    " EXISTS (SELECT 1 FROM Pin WHERE Pin.key = Cache.key)"
)
_EVICTABLE = (
    "SELECT rowid, size, filename FROM Cache"
    " WHERE NOT EXISTS (SELECT 1 FROM Pin WHERE Pin.key = Cache.key)"
)


@dataclass(frozen=True, slots=True)
class Row:
    rowid: int
    key: str
    media_type: str
    size: int
    filename: str | None  # None: the content is in the row
    last_used: float
    is_pinned: bool

    def entry(self, last_used: float) -> Entry:
        digest = Digest.parse(self.key)
        return Entry(digest, self.size, self.media_type, last_used, self.is_pinned)


@dataclass(frozen=True, slots=True)
class Evicted:
    """What left the index. Its files are still there, and the caller's to unlink."""

    count: int = 0
    size: int = 0
    filenames: tuple[str, ...] = ()


class ContentIndex(Database):
    """Keys are digests."""

    def _prepare(self) -> None:
        for statement in _SCHEMA:
            self._sql(statement)
        super()._prepare()

    def path(self, filename: str) -> Path:
        return Path(self._directory, filename)

    def find(self, key: str) -> tuple[Row, bytes | None] | None:
        found = self._sql(
            f"{_COLUMNS}, value FROM Cache WHERE key = ? AND raw = 1",
            (key,),
        ).fetchone()
        return None if found is None else (_row(found[:-1]), found[-1])

    def filename(self, key: str) -> str | None:
        found = self._sql("SELECT filename FROM Cache WHERE key = ? AND raw = 1", (key,)).fetchone()
        return None if found is None else found[0]

    def page(self, after_rowid: int, limit: int) -> list[Row]:
        """Rows in an order that stays while others come and go."""
        rows = self._sql(
            f"{_COLUMNS} FROM Cache WHERE rowid > ? ORDER BY rowid LIMIT ?",
            (after_rowid, limit),
        )
        return [_row(columns) for columns in rows]

    def admit(self, key: str, value: bytes | Adoption, media_type: str) -> None:
        """Replaces what was there."""
        try:
            self.set(key, value, tag=media_type)
        except BaseException:
            if isinstance(value, Adoption):
                self.unlink([value.name])
            raise
        self.count_again()

    def drop(self, row: Row) -> bool:
        """Remove it, unless other content took its place. Its file goes, too."""
        with self.transaction() as sql:
            dropped = sql(
                "DELETE FROM Cache WHERE key = ? AND raw = 1 AND filename IS ?",
                (row.key, row.filename),
            )
        if dropped.rowcount and row.filename is not None:
            self.unlink([row.filename])
        return dropped.rowcount > 0

    def unlink(self, filenames: Iterable[str]) -> None:
        for filename in filenames:
            with suppress(OSError):  # an orphan then, which the sweep collects
                self.path(filename).unlink(missing_ok=True)

    def set_pin(self, key: str, *, pinned: bool) -> None:
        if pinned:
            self._sql("INSERT OR IGNORE INTO Pin VALUES (?)", (key,))
        else:
            self._sql("DELETE FROM Pin WHERE key = ?", (key,))

    def touch(self, uses: Sequence[tuple[str, float]]) -> None:
        with self.transaction() as sql:
            for key, time in uses:
                sql(
                    "UPDATE Cache SET access_time = max(access_time, ?) WHERE key = ? AND raw = 1",
                    (time, key),
                )

    def evict_bytes(self, excess: int, limit: int, *, files_only: bool = False) -> Evicted:
        """The least recently used, until `excess` bytes have gone; at most `limit` rows."""
        query = (
            f"{_EVICTABLE} AND (filename IS NULL) <= ?"
            " ORDER BY filename IS NULL, access_time LIMIT ?"
        )
        return self._evict(query, (0 if files_only else 1, limit), excess)

    def evict_unused(self, before: float, limit: int) -> Evicted:
        """Those not used since `before`; at most `limit` rows of each kind."""
        evicted = [
            self._evict(
                f"{_EVICTABLE} AND (filename IS NULL) = ? AND access_time < ?"
                " ORDER BY access_time LIMIT ?",
                (is_row, before, limit),
                excess=None,
            )
            for is_row in (0, 1)
        ]
        return Evicted(
            sum(each.count for each in evicted),
            sum(each.size for each in evicted),
            tuple(name for each in evicted for name in each.filenames),
        )

    def _evict(self, query: str, arguments: tuple[float, ...], excess: int | None) -> Evicted:
        with self.transaction() as sql:
            chosen = list(_enough(sql(query, arguments).fetchall(), excess))
            if not chosen:
                return Evicted()  # "IN ()" would look at every row
            marks = ",".join("?" * len(chosen))
            sql(
                f"DELETE FROM Cache WHERE rowid IN ({marks})",  # noqa: S608 - marks only
                [rowid for rowid, _, _ in chosen],
            )
        return Evicted(
            len(chosen),
            sum(size for _, size, _ in chosen),
            tuple(filename for _, _, filename in chosen if filename is not None),
        )


def _row(columns: tuple[int, str, str, int, str | None, float, int]) -> Row:
    rowid, key, media_type, size, filename, last_used, is_pinned = columns
    return Row(rowid, key, media_type, size, filename, last_used, bool(is_pinned))


def _enough(
    rows: list[tuple[int, int, str | None]], excess: int | None
) -> Iterator[tuple[int, int, str | None]]:
    """As many as make up the excess; all, where none is named."""
    taken = 0
    for row in rows:
        if excess is not None and taken >= excess:
            return
        taken += row[1]
        yield row
