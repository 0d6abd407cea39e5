"""Memory stays bounded, whatever the number of readers and the size of what they read."""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from tests.integration.blobs import new_layer
from tests.integration.conftest import Setting
from tests.support.client import Connection, ProxyClient
from tests.support.content import Generated
from tests.support.faults import Hold
from tests.support.registry import ScriptedRegistry

MIB, GIB = 1 << 20, 1 << 30
READERS = 1000
AT_ONCE = 50  # handshakes; more would only queue for two processors
SEEN = 1000

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


class Gauge:
    """The most anonymous memory that the proxy was seen to hold."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self.most_mib = 0.0

    async def watch(self) -> None:
        while True:
            now = await asyncio.to_thread(self._setting.proxy.anonymous_memory)
            self.most_mib = max(self.most_mib, now / MIB)
            await asyncio.sleep(0.1)


@asynccontextmanager
async def watched(setting: Setting) -> AsyncIterator[Gauge]:
    gauge = Gauge(setting)
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(gauge.watch())
        yield gauge
        watching.cancel()


@pytest.mark.parametrize("is_filling", [True, False], ids=["filling", "stored"])
async def test_a_thousand_readers_of_one_blob(setting: Setting, *, is_filling: bool) -> None:
    layer = new_layer(setting, 2 * MIB)
    client = setting.start()
    gate = setting.registry.gate()
    if is_filling:
        setting.registry.fault(Hold(MIB, gate), path=layer.path)
    else:
        await layer.get(client)
    handshakes = asyncio.Semaphore(AT_ONCE)
    began = time.monotonic()

    async def open_and_wait(streams: AsyncExitStack) -> Connection:
        async with handshakes:
            connection, _ = await streams.enter_async_context(client.stream("GET", layer.url))
        assert await connection.reader.readexactly(SEEN) == layer.content.body[:SEEN]
        return connection

    async def read_on(connection: Connection) -> None:
        rest = await connection.reader.readexactly(layer.content.size - SEEN)
        assert rest == layer.content.body[SEEN:]

    async with watched(setting) as gauge, AsyncExitStack() as streams:
        connections = await asyncio.gather(*(open_and_wait(streams) for _ in range(READERS)))
        if is_filling:
            metrics = await asyncio.to_thread(setting.proxy.metrics)
            assert metrics.value("entrepot_readers") == READERS
        gate.open()
        await asyncio.gather(*(read_on(connection) for connection in connections))
    what = "1000 readers, " + ("filling" if is_filling else "stored")
    report(what, gauge, READERS * layer.content.size, time.monotonic() - began)
    assert layer.ranges == [""]
    assert gauge.most_mib < 300


async def test_four_gibibytes(setting: Setting, tmp_path: Path) -> None:
    """Without TLS on both sides: what is measured is memory, and two processors are few."""
    if shutil.disk_usage(tmp_path).free < 6 * GIB:
        pytest.skip("needs 6 GiB of disk")
    content = Generated(1, 4 * GIB)
    with ScriptedRegistry() as plain:
        plain.add_blob("app", content)
        setting.upstream["endpoints"] = [plain.url]
        client = setting.start()
        url = f"http://registry.test/v2/app/blobs/{content.digest}"
        try:
            for kind in ("cold", "warm"):
                began = time.monotonic()
                async with watched(setting) as gauge:
                    size = await read_through(client, url)
                report(kind, gauge, size, time.monotonic() - began)
                assert size == content.size
                assert gauge.most_mib < 150
            assert plain.blob_bytes == content.size
        finally:
            setting.close()
            shutil.rmtree(setting.proxy.data)


async def read_through(client: ProxyClient, url: str) -> int:
    size = 0
    async with client.stream("GET", url) as (connection, head):
        async for piece in connection.pieces(head):
            size += len(piece)
    return size


def report(what: str, gauge: Gauge, size: int, seconds: float) -> None:
    """Seen with `pytest -s`."""
    speed = size / seconds / 1e6
    print(f"\n{what}: {gauge.most_mib:.0f} MiB anonymous, {seconds:.1f} s, {speed:.0f} MB/s")  # noqa: T201
