"""`entrepot cache`: what the store can be asked from outside."""

import asyncio
import json
from pathlib import Path

import click

from entrepot.cli.options import config_option, load_for_cli
from entrepot.clock import SystemClock
from entrepot.config.model import Config
from entrepot.errors import StorageError
from entrepot.storage.disk.scrub import ScrubReport
from entrepot.storage.disk.store import open_disk_store


@click.group("cache")
def cache_group() -> None:
    """Look after what is stored. Safe while the proxy runs."""


@cache_group.command("scrub")
@config_option
@click.option("--data", metavar="DIR", help="Data directory, in place of the settings'.")
@click.option("--rate", metavar="SIZE", help="Bytes a second to read at most; default: no limit.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def scrub(config_path: Path | None, data: str | None, rate: str | None, *, as_json: bool) -> None:
    """Read everything, and remove what is not what its digest says.

    Exits with 1 when something was wrong; what was removed is fetched again when asked for.
    """
    overrides = {"data": data, "storage.scrub_rate": rate or "1000g"}
    config = load_for_cli(config_path, {k: v for k, v in overrides.items() if v is not None})
    if not (config.data / "cache").is_dir():
        raise click.ClickException(f"there is no cache in {config.data} (data)")
    try:
        report = asyncio.run(_scrub(config))
    except StorageError as error:
        raise click.ClickException(str(error)) from error
    corrupt = [str(digest) for digest in report.corrupt]
    if as_json:
        click.echo(
            json.dumps({"checked": report.checked, "bytes": report.size_bytes, "corrupt": corrupt})
        )
    else:
        click.echo(f"{report.checked} entries, {report.size_bytes} bytes checked")
        for digest in corrupt:
            click.echo(f"corrupt, removed: {digest}")
    raise SystemExit(1 if corrupt else 0)


async def _scrub(config: Config) -> ScrubReport:
    store = open_disk_store(config.data, config.storage, SystemClock())
    try:
        return await store.scrub(config.storage.scrub_rate)
    finally:
        await store.aclose()
