"""Results of `entrepot registry` on stdout, for people and for machines; the rest on stderr."""

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import click

from entrepot.local.collection import Collected
from entrepot.local.images import Image
from entrepot.local.records import Pushed
from entrepot.local.retention import Expired
from entrepot.web.pages import readable_size

type Value = str | int | list[str] | None
type Row = dict[str, Value]

_SHORT_HEX = 12


class Teller:
    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json

    def lines(self, rows: Sequence[Row], column: str) -> None:
        if self._as_json:
            _print_json(rows)
        else:
            for row in rows:
                click.echo(row[column])

    def table(self, rows: Sequence[Row]) -> None:
        if self._as_json:
            _print_json(rows)
            return
        cells = [[_cell(name, value) for name, value in row.items()] for row in rows]
        titles = [name.upper() for name in rows[0]]
        widths = [max(map(len, column)) for column in zip(titles, *cells, strict=True)]
        for line in (titles, *cells):
            padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
            click.echo("  ".join(padded).rstrip())

    def usage(self, rows: Sequence[Row], size: int, stored: int | None) -> None:
        if self._as_json:
            _print_json({"repositories": rows, "size": size, "stored": stored})
            return
        sums = {"(all, shared counted once)": size, "(in the storage)": stored}
        last: list[Row] = [
            {"repository": name, "tags": None, "size": total}
            for name, total in sums.items()
            if total is not None
        ]
        self.table([*rows, *last])

    def deleted(self, names: Iterable[str], *, is_dry: bool) -> None:
        names = list(names)
        if self._as_json:
            _print_json({_key(is_dry=is_dry): names})
            return
        for name in names:
            click.echo(f"{_verb(is_dry=is_dry)} {name}")
        if not names:
            click.echo("Nothing to delete.", err=True)

    def expired(self, found: Iterable[Expired], *, is_dry: bool) -> None:
        self.deleted(
            (f"{one.repository}:{aged.tag}" for one in found for aged in one.tags), is_dry=is_dry
        )

    def collected(self, gone: Collected, *, is_dry: bool) -> None:
        versions = [f"{repository}@{digest}" for repository, digest in gone.versions]
        blobs = [str(digest) for digest in gone.blobs]
        if self._as_json:
            _print_json(
                {
                    f"{_key(is_dry=is_dry)}_manifests": versions,
                    f"{_key(is_dry=is_dry)}_blobs": blobs,
                    "bytes": gone.size,
                    "warnings": gone.warnings,
                }
            )
        else:
            for name in (*versions, *blobs):
                click.echo(f"{_verb(is_dry=is_dry)} {name}")
            click.echo(_summary(gone, is_dry=is_dry))
        for warning in gone.warnings:
            click.echo(f"Warning: {warning}", err=True)


def tag_row(image: Image, pushed: Pushed | None) -> Row:
    is_known = pushed is not None and pushed.digest in {"", str(image.digest)}
    return {
        "tag": image.tag,
        "digest": str(image.digest),
        "platforms": list(image.platforms),
        "size": image.size,
        "pushed": _time(pushed.at) if pushed and is_known and not pushed.is_seen else None,
        "created": _time(image.created),
    }


def _summary(gone: Collected, *, is_dry: bool) -> str:
    size = "" if gone.size is None else f", {readable_size(gone.size)} ({gone.size} bytes)"
    would = "would be freed" if is_dry else "freed"
    return f"{len(gone.versions)} manifests, {len(gone.blobs)} blobs{size} {would}"


def _key(*, is_dry: bool) -> str:
    return "would_delete" if is_dry else "deleted"


def _verb(*, is_dry: bool) -> str:
    return "would delete" if is_dry else "deleted"


def _time(moment: float | None) -> str | None:
    return None if moment is None else datetime.fromtimestamp(moment, UTC).isoformat("T", "seconds")


def _cell(name: str, value: Value) -> str:
    if value is None or value == []:
        return "-"
    if isinstance(value, list):
        return ",".join(value)
    if name == "size":
        return readable_size(int(value))
    if name == "digest":
        algorithm, _, digits = str(value).partition(":")
        return f"{algorithm}:{digits[:_SHORT_HEX]}"
    return str(value)


def _print_json(value: object) -> None:
    click.echo(json.dumps(value, indent=2))
