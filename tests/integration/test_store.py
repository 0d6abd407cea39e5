"""The store when it is hurt, small, full or closed: pulls are right, at worst uncached."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.blobs import Layer, new_layer
from tests.integration.conftest import Setting
from tests.integration.waiting import eventually, fills_to_end
from tests.support.faults import Chunked
from tests.support.processes import Seat, clean_environment
from tests.support.proxy import ProxyProcess

MIB = 1 << 20
SIZE = 4 * MIB
IS_ROOT = os.geteuid() == 0
# A root that is bound by the modes of files, as everybody else is.
BOUND = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search") if IS_ROOT else ()


def file_of(setting: Setting, layer: Layer) -> Path:
    """Where the store keeps it."""
    content = setting.proxy.data / "cache" / "content"
    name = layer.content.digest.partition(":")[2]
    (found,) = [path for path in content.rglob("*") if name in path.name]
    return found


def overwrite(path: Path, offset: int, data: bytes) -> None:
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


async def scrub(setting: Setting) -> tuple[int, dict[str, object]]:
    """`entrepot cache scrub`, beside the running proxy: its exit status and what it found."""
    command = [sys.executable, "-m", "entrepot", "cache", "scrub", "--json"]
    command += ["--data", str(setting.proxy.data)]
    done = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, env=clean_environment(), check=False
    )
    return done.returncode, json.loads(done.stdout)


class TestHurt:
    async def test_what_is_corrupt_is_found_by_scrub_and_not_served_after(
        self, shared: Setting
    ) -> None:
        layers = [new_layer(shared, SIZE) for _ in range(3)]
        client = shared.client
        for layer in layers:
            await layer.get(client)
        await fills_to_end(shared.proxy)
        assert (await scrub(shared))[0] == 0
        overwrite(file_of(shared, layers[1]), SIZE // 2, b"rotten")
        status, report = await scrub(shared)
        assert (status, report["corrupt"]) == (1, [layers[1].content.digest])
        assert (await scrub(shared))[0] == 0
        for layer in layers:
            assert (await layer.get(client)).body == layer.content.body
        assert [len(layer.ranges) for layer in layers] == [1, 2, 1]

    @pytest.mark.parametrize("size", [0, 1000, SIZE - 1, SIZE + 1])
    async def test_a_file_of_another_length_is_not_served(self, shared: Setting, size: int) -> None:
        layer = new_layer(shared, SIZE)
        client = shared.client
        await layer.get(client)
        await fills_to_end(shared.proxy)
        path = file_of(shared, layer)
        path.chmod(0o600)
        os.truncate(path, size)
        for _ in range(2):
            assert (await layer.get(client)).body == layer.content.body
        assert len(layer.ranges) == 2

    async def test_a_file_that_is_gone_is_fetched_again(self, shared: Setting) -> None:
        layer = new_layer(shared, SIZE)
        client = shared.client
        await layer.get(client)
        await fills_to_end(shared.proxy)
        file_of(shared, layer).unlink()
        for _ in range(2):
            assert (await layer.get(client)).body == layer.content.body
        assert len(layer.ranges) == 2

    async def test_a_file_that_is_cut_under_a_reader_breaks_its_transfer(
        self, shared: Setting
    ) -> None:
        layer = new_layer(shared, 30 * MIB)
        client = shared.client
        await layer.get(client)
        await fills_to_end(shared.proxy)
        async with client.stream("GET", layer.url) as (connection, _):
            await connection.reader.readexactly(1000)
            os.truncate(file_of(shared, layer), 20 * MIB)
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await connection.reader.readexactly(layer.content.size - 1000)


async def test_a_small_store_keeps_to_its_size_while_it_is_pulled_through(
    setting: Setting,
) -> None:
    setting.config["storage"] = {"max_size": "20m", "min_free": 0}
    layers = [new_layer(setting, SIZE) for _ in range(12)]
    client = setting.start()
    cache = setting.proxy.data / "cache"
    for pair in zip(layers[::2], layers[1::2], strict=True):
        answers = await asyncio.gather(*(layer.get(client) for layer in pair))
        assert [answer.body for answer in answers] == [layer.content.body for layer in pair]
        await fills_to_end(setting.proxy)  # files that make room go after their rows
        assert size_of_files(cache / "content") <= 20 * MIB
    metrics = await asyncio.to_thread(setting.proxy.metrics)
    assert 0 < metrics.value("entrepot_store_bytes") <= 20 * MIB
    assert metrics.value("entrepot_store_evictions_total") > 0
    setting.registry.die()
    assert (await layers[-1].get(client)).body == layers[-1].content.body
    assert (await layers[0].get(client)).status == 502


def size_of_files(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


async def test_what_can_never_fit_passes(setting: Setting) -> None:
    setting.config["storage"] = {"max_size": "2m", "min_free": 0}
    layer = new_layer(setting, SIZE)
    client = setting.start()
    for _ in range(2):
        assert (await layer.get(client)).body == layer.content.body
    assert (await layer.get(client, "1000-1999")).body == layer.content.body[1000:2000]


@pytest.mark.skipif(not IS_ROOT, reason="mounts a small file system")
class TestFullDisk:
    @pytest.fixture
    def disk(self, setting: Setting) -> Iterator[Path]:
        """Of 16 MiB, with the data directory on it."""
        data = setting.proxy.data
        data.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "entrepot-test", str(data)]
        subprocess.run(mount, check=True)
        setting.config["storage"] = {"min_free": 0}
        yield data
        setting.close()
        subprocess.run(["umount", str(data)], check=True)

    @pytest.mark.parametrize("is_told", [True, False], ids=["length told", "length not told"])
    async def test_a_blob_that_does_not_fit_passes(
        self, setting: Setting, disk: Path, *, is_told: bool
    ) -> None:
        """At once where that can be known; else the rest of it is asked for with Range."""
        layer = new_layer(setting, 40 * MIB)
        if not is_told:
            setting.registry.fault(Chunked(), path=layer.path)
        client = setting.start()
        for count in (1, 2):
            assert (await layer.get(client)).body == layer.content.body
            metrics = await asyncio.to_thread(setting.proxy.metrics)
            fetched = metrics.value("entrepot_fetched_bytes_total")
            assert fetched < count * 1.1 * layer.content.size
        assert len(layer.ranges) == 4

    async def test_several_readers_of_what_does_not_fit_all_get_it(
        self, setting: Setting, disk: Path
    ) -> None:
        layer = new_layer(setting, 40 * MIB)
        client = setting.start()
        answers = await asyncio.gather(*(layer.get(client) for _ in range(3)))
        assert {answer.body for answer in answers} == {layer.content.body}

    async def test_no_byte_free_at_all_fails_no_pull_and_is_got_over(
        self, setting: Setting, disk: Path
    ) -> None:
        image = setting.registry.add_image("app", "1.0", (2 * MIB,))
        layer = new_layer(setting, SIZE)
        client = setting.start()
        fill_up(disk / "filler")
        assert shutil.disk_usage(disk).free == 0
        for _ in range(2):
            assert (await client.pull(setting.url, "app", "1.0")).digest == image.digest
            assert (await layer.get(client)).body == layer.content.body
            for asked, start, stop in (("5-9", 5, 10), ("-7", SIZE - 7, SIZE)):
                answer = await layer.get(client, asked)
                assert (answer.status, answer.body) == (206, layer.content.body[start:stop])
            several = await layer.get(client, "0-1,5-6")
            assert (several.status, several.body) == (200, layer.content.body)
            assert (await layer.get(client, f"{SIZE}-")).status == 416
        (disk / "filler").unlink()
        await layer.get(client)
        await fills_to_end(setting.proxy)
        count = len(layer.ranges)
        assert (await layer.get(client)).body == layer.content.body
        assert len(layer.ranges) == count  # it is kept again


def fill_up(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        for size in (MIB, 4096, 1):
            try:
                while file.write(b"x" * size):
                    pass
            except OSError:
                continue


async def test_a_directory_that_became_read_only_fails_no_pull(
    setting: Setting, tmp_path: Path
) -> None:
    kept, new = new_layer(setting, SIZE), new_layer(setting, SIZE)
    image = setting.registry.add_image("app", "1.0", (MIB,))
    setting.proxy = ProxyProcess(setting.config, tmp_path / "bound", seat=Seat(prefix=BOUND))
    client = setting.start()
    await kept.get(client)
    await fills_to_end(setting.proxy)
    directories = [setting.proxy.data, *setting.proxy.data.rglob("*")]
    for path in directories:
        path.chmod(path.stat().st_mode & ~0o222)
    try:
        assert not setting.proxy.is_ready()
        for _ in range(2):
            assert (await client.pull(setting.url, "app", "1.0")).digest == image.digest
            assert (await new.get(client)).body == new.content.body
            assert (await kept.get(client)).body == kept.content.body
        assert len(kept.ranges) == 1
    finally:
        for path in directories:
            path.chmod(path.stat().st_mode | 0o200)

    async def is_ready() -> bool:
        return await asyncio.to_thread(setting.proxy.is_ready)

    await eventually(is_ready, bool)
