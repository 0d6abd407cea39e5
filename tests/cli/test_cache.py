"""`entrepot cache` as people and scripts call it."""

import asyncio
import json
from pathlib import Path

from click.testing import CliRunner, Result

from entrepot.cli.cache import cache_group
from entrepot.clock import SystemClock
from entrepot.config.kinds import Bytes
from entrepot.config.model import Storage
from entrepot.oci.digest import Digest
from entrepot.oci.media_type import OCTET_STREAM
from entrepot.storage.disk import open_disk_store

BODY = b"content"


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cache_group, [str(argument) for argument in arguments])


async def fill(directory: Path) -> None:
    store = open_disk_store(directory, Storage(min_free=Bytes(0)), SystemClock())
    await store.put(Digest.of(BODY), BODY, OCTET_STREAM)
    await store.aclose()


def test_scrub_says_what_it_checked(tmp_path: Path) -> None:
    asyncio.run(fill(tmp_path))
    result = run("scrub", "--json", "--data", tmp_path)
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"checked": 1, "bytes": len(BODY), "corrupt": []}


def test_scrub_makes_no_store_where_none_is(tmp_path: Path) -> None:
    """A typo would be told that all is well."""
    (tmp_path / "empty").mkdir()
    for name in ("typo", "empty"):
        result = run("scrub", "--data", tmp_path / name)
        assert result.exit_code == 1
        assert f"there is no cache in {tmp_path / name}" in result.stderr
    assert [path.name for path in tmp_path.rglob("*")] == ["empty"]
