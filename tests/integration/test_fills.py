"""One fetch from the upstream for all who want a blob, and nobody's leaving ends it."""

import asyncio
import ssl
from contextlib import AsyncExitStack

import pytest

from tests.integration.blobs import BLOBS, BROKEN, Layer, make_blob
from tests.integration.conftest import Setting
from tests.integration.waiting import eventually, fills_to_end
from tests.support.client import Connection, Head, ProxyClient
from tests.support.faults import Hold

HELD_AT = 1_000_000  # what of a blob the upstream sends before a gate
SEEN_AT = 900_000  # what of that a reader can have: the last piece waits to be verified


@pytest.fixture
def layer(setting: Setting) -> Layer:
    return Layer(setting, make_blob())


async def rest_of(connection: Connection, head: Head) -> bytes:
    """What is still to be read after SEEN_AT bytes were."""
    assert head.length is not None
    return await connection.reader.readexactly(head.length - SEEN_AT)


async def test_twenty_cold_clients_are_one_fetch_and_late_ones_need_not_wait(
    setting: Setting, layer: Layer
) -> None:
    gate = setting.registry.gate()
    setting.registry.fault(Hold(HELD_AT, gate), path=BLOBS)
    client = setting.start()
    async with AsyncExitStack() as open_streams, asyncio.timeout(30):
        streams = []
        for _ in range(2):  # ten who come cold, and ten while half of it is there
            streams += await asyncio.gather(
                *(
                    open_streams.enter_async_context(client.stream("GET", layer.url))
                    for _ in range(10)
                )
            )
            begun = await asyncio.gather(
                *(connection.reader.readexactly(SEEN_AT) for connection, _ in streams[-10:])
            )
            assert set(begun) == {layer.content.body[:SEEN_AT]}
        assert setting.registry.blob_bytes == HELD_AT
        gate.open()
        rests = await asyncio.gather(*(rest_of(*stream) for stream in streams))
    assert set(rests) == {layer.content.body[SEEN_AT:]}
    said = [head.headers["cache-status"] for _, head in streams]
    assert said.count("Entrepot; fwd=uri-miss; stored") == 1
    assert said.count("Entrepot; fwd=uri-miss; collapsed") == 19
    assert (layer.ranges, setting.registry.blob_bytes) == ([""], layer.content.size)


async def test_the_first_client_leaves_and_the_fill_ends_well(
    setting: Setting, layer: Layer
) -> None:
    gate = setting.registry.gate()
    setting.registry.fault(Hold(HELD_AT, gate), path=BLOBS)
    client = setting.start()
    async with client.stream("GET", layer.url) as (first, _):
        await first.reader.readexactly(SEEN_AT)
    await readers_gone(setting)
    gate.open()
    await fills_to_end(setting.proxy)
    setting.registry.die()
    answer = await layer.get(client)
    assert (answer.body, layer.ranges) == (layer.content.body, [""])


async def test_the_first_client_leaves_and_the_second_stays(setting: Setting, layer: Layer) -> None:
    gate = setting.registry.gate()
    setting.registry.fault(Hold(HELD_AT, gate), path=BLOBS)
    client = setting.start()
    async with AsyncExitStack() as streams:
        first, _ = await streams.enter_async_context(client.stream("GET", layer.url))
        async with client.stream("GET", layer.url) as (second, head):
            await second.reader.readexactly(SEEN_AT)
            await first.reader.readexactly(SEEN_AT)
            first.abort()
            gate.open()
            assert await rest_of(second, head) == layer.content.body[SEEN_AT:]
    assert layer.ranges == [""]


async def test_a_client_leaves_while_it_waits_for_the_first_byte(
    setting: Setting, layer: Layer
) -> None:
    gate = setting.registry.gate()
    setting.registry.fault(Hold(-1, gate), path=BLOBS)
    client = setting.start()
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(layer.get(client))
        await setting.registry.log.wait_until_async(lambda: layer.ranges == [""])
        waiting.cancel()
    await exchanges_over(setting)
    gate.open()
    await fills_to_end(setting.proxy)
    setting.registry.die()
    assert (await layer.get(client)).body == layer.content.body
    assert layer.ranges == [""]


async def test_a_slow_reader_holds_up_nobody_and_loses_nothing(
    setting: Setting,
) -> None:
    layer = Layer(setting, make_blob(12_000_000))  # more than sockets hold
    client = setting.start()
    async with client.stream("GET", layer.url) as (slow, head):
        begun = await slow.reader.readexactly(1000)
        fast = await layer.get(client)
        assert fast.body == layer.content.body
        await fills_to_end(setting.proxy)
        setting.registry.die()
        pieces = [piece async for piece in slow.pieces(Head(200, shorter(head, by=1000)))]
    assert begun + b"".join(pieces) == layer.content.body
    assert layer.ranges == [""]


def shorter(head: Head, *, by: int) -> dict[str, str]:
    return {"content-length": str((head.length or 0) - by)}


async def test_a_client_that_speaks_http_1_0(setting: Setting, layer: Layer) -> None:
    client = setting.start()
    for _ in ("cold", "warm"):
        async with await client.connect("registry.test") as connection:
            request = f"GET {layer.path} HTTP/1.0\r\nHost: registry.test\r\n\r\n"
            await connection.send_raw(request.encode())
            head = await connection.head()
            assert "transfer-encoding" not in head.headers
            assert await read_to_end(connection) == layer.content.body


async def read_to_end(connection: Connection) -> bytes:
    pieces = []
    while piece := await connection.reader.read(1 << 16):
        pieces.append(piece)
    return b"".join(pieces)


async def test_sigterm_lets_a_running_transfer_end(setting: Setting, layer: Layer) -> None:
    gate = setting.registry.gate()
    setting.registry.fault(Hold(HELD_AT, gate), path=BLOBS)
    client = setting.start()
    async with client.stream("GET", layer.url) as (connection, head), asyncio.TaskGroup() as group:
        await connection.reader.readexactly(SEEN_AT)
        stopping = group.create_task(asyncio.to_thread(setting.proxy.terminate))
        await eventually(lambda: is_refused(client), bool)
        gate.open()
        assert await rest_of(connection, head) == layer.content.body[SEEN_AT:]
        assert await stopping == 0
    setting.registry.die()
    setting.proxy.start()
    assert (await layer.get(setting.client)).body == layer.content.body


async def test_sigterm_keeps_what_a_fill_without_readers_has(
    setting: Setting, layer: Layer
) -> None:
    gate = setting.registry.gate()
    undo = setting.registry.fault(Hold(HELD_AT, gate), path=BLOBS)
    client = setting.start()
    async with client.stream("GET", layer.url) as (connection, _):
        await connection.reader.readexactly(SEEN_AT)
    assert await asyncio.to_thread(setting.proxy.terminate) == 0
    undo()
    setting.proxy.start()
    assert (await layer.get(setting.client)).body == layer.content.body
    assert_resumed(layer)


async def test_kill_9_in_the_middle_costs_no_second_download(
    setting: Setting, layer: Layer
) -> None:
    gate = setting.registry.gate()
    undo = setting.registry.fault(Hold(HELD_AT, gate), path=BLOBS)
    client = setting.start()
    async with client.stream("GET", layer.url) as (connection, _):
        await connection.reader.readexactly(SEEN_AT)
        setting.proxy.kill9()
        with pytest.raises(BROKEN):
            await connection.reader.readexactly(layer.content.size)
    undo()
    setting.proxy.start()
    assert (await layer.get(setting.client)).body == layer.content.body
    assert_resumed(layer)
    assert setting.registry.blob_bytes < layer.content.size * 1.1


def assert_resumed(layer: Layer) -> None:
    """From what had been on the disk at least: what a reader has seen is there."""
    first, resumed = layer.ranges
    assert first == ""
    assert SEEN_AT <= int(resumed.removeprefix("bytes=").removesuffix("-")) <= HELD_AT


async def is_refused(client: ProxyClient) -> bool:
    """Whether no new connection to the proxy is taken."""
    try:
        async with await client.plain():
            return False
    except (ConnectionError, ssl.SSLError):
        return True


async def readers_gone(setting: Setting) -> None:
    await gauge_is_zero(setting, "entrepot_readers")


async def exchanges_over(setting: Setting) -> None:
    """But for the one that asks: the page with the metrics."""

    async def running() -> float:
        metrics = await asyncio.to_thread(setting.proxy.metrics)
        return metrics.value("entrepot_exchanges")

    await eventually(running, lambda count: count <= 1)


async def gauge_is_zero(setting: Setting, name: str) -> None:
    async def value() -> float:
        return (await asyncio.to_thread(setting.proxy.metrics)).value(name)

    await eventually(value, lambda found: found == 0)


async def test_a_herd_that_asks_a_dead_upstream_waits_as_long_as_one(
    setting: Setting, layer: Layer
) -> None:
    setting.config["upstream"] = {"header_timeout": "1s"}
    setting.registry.fault(Hold(-1), path=BLOBS)
    client = setting.start()
    async with asyncio.timeout(10):
        answers = await asyncio.gather(*(layer.get(client) for _ in range(20)))
    assert {answer.status for answer in answers} == {504}
    assert layer.ranges == [""]


async def test_a_herd_that_asks_for_what_is_not_there_asks_once(setting: Setting) -> None:
    setting.registry.add_image("app", "1.0")
    client = setting.start()
    path = f"/v2/app/blobs/{make_blob().digest}"
    answers = await asyncio.gather(*(client.request("GET", setting.url + path) for _ in range(20)))
    assert {answer.status for answer in answers} == {404}
    assert setting.registry.log.count(path) == 1
