"""HEAD, Range, If-Range and If-None-Match, alike on hit, miss and in the middle of a fill."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Literal

import pytest

from tests.integration.blobs import Layer, new_layer
from tests.integration.conftest import Setting
from tests.integration.waiting import fills_to_end
from tests.support.client import Answer, ProxyClient
from tests.support.faults import Hold

SIZE = 2_000_000
HELD_AT = 1_000_000
MIB = 1 << 20

State = Literal["miss", "filling", "hit"]
states = pytest.mark.parametrize("state", ["miss", "filling", "hit"])


@pytest.fixture
def setting(shared: Setting) -> Setting:
    return shared


@pytest.fixture
def layer(setting: Setting) -> Layer:
    return new_layer(setting, SIZE)


class Stage:
    """The proxy at a moment of a blob's life."""

    def __init__(self, client: ProxyClient, layer: Layer) -> None:
        self._client = client
        self._layer = layer
        self.etag = f'"{layer.content.digest}"'

    async def ask(self, method: str = "GET", **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self._client.request(method, self._layer.url, named)


@asynccontextmanager
async def stage(setting: Setting, layer: Layer, state: State) -> AsyncIterator[Stage]:
    client = setting.client
    if state == "hit":
        await layer.get(client)
        await fills_to_end(setting.proxy)  # who has it all may be ahead of the store
    if state != "filling":
        yield Stage(client, layer)
        assert layer.heads <= (state == "miss")  # what is stored is known without asking
        return
    gate = setting.registry.gate()
    setting.registry.fault(Hold(HELD_AT, gate), path=layer.path, method="GET")
    async with client.stream("GET", layer.url) as (connection, _):
        await connection.reader.readexactly(HELD_AT - 100_000)
        yield Stage(client, layer)
        gate.open()


def assert_names(answer: Answer, layer: Layer) -> None:
    digest = layer.content.digest
    assert answer.headers["docker-content-digest"] == digest
    assert answer.headers["etag"] == f'"{digest}"'


@states
async def test_head(setting: Setting, layer: Layer, state: State) -> None:
    async with stage(setting, layer, state) as proxy:
        answer = await proxy.ask("HEAD")
    assert (answer.status, answer.length, answer.body) == (200, SIZE, b"")
    assert answer.headers["accept-ranges"] == "bytes"
    assert_names(answer, layer)
    assert layer.ranges == ([] if state == "miss" else [""])  # HEAD stays HEAD


@states
@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("0-0", 0, 1),
        ("1000-1999", 1000, 2000),
        ("700000-799999", 700_000, 800_000),
        (" 5 - 9 ", 5, 10),
    ],
)
async def test_a_range(
    setting: Setting, layer: Layer, state: State, asked: str, start: int, stop: int
) -> None:
    async with stage(setting, layer, state) as proxy:
        answer = await proxy.ask(Range=f"bytes={asked}")
    assert answer.status == 206
    assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{SIZE}"
    assert (answer.body, answer.length) == (layer.content.body[start:stop], stop - start)
    assert_names(answer, layer)


@pytest.mark.parametrize("state", ["miss", "hit"])
@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("1500000-", 1_500_000, SIZE),
        ("0-", 0, SIZE),
        ("1999999-3000000", SIZE - 1, SIZE),
        ("-1", SIZE - 1, SIZE),
        ("-3000000", 0, SIZE),
    ],
)
async def test_a_range_to_the_end(
    setting: Setting, layer: Layer, state: State, asked: str, start: int, stop: int
) -> None:
    await test_a_range(setting, layer, state, asked, start, stop)
    assert layer.ranges == [""]  # whatever part was asked for, all of it is kept


async def test_an_open_range_and_a_suffix_wait_for_the_end_of_a_fill(
    setting: Setting, layer: Layer
) -> None:
    client = setting.client
    gate = setting.registry.gate()
    setting.registry.fault(Hold(HELD_AT, gate), path=layer.path)
    async with asyncio.TaskGroup() as group, client.stream("GET", layer.url) as (first, _):
        await first.reader.readexactly(1000)
        asking = [group.create_task(layer.get(client, asked)) for asked in ("500000-", "-500000")]
        assert (await layer.get(client, "500000-500009")).status == 206  # they have come by now
        gate.open()
    from_half, last = (task.result() for task in asking)
    assert from_half.headers["content-range"] == f"bytes 500000-{SIZE - 1}/{SIZE}"
    assert from_half.body == layer.content.body[500_000:]
    assert last.body == layer.content.body[-500_000:]
    assert layer.ranges == [""]


@states
@pytest.mark.parametrize("asked", [f"{SIZE}-", f"{SIZE + 5}-{SIZE + 9}", "-0"])
async def test_a_range_beyond_the_end(
    setting: Setting, layer: Layer, state: State, asked: str
) -> None:
    async with stage(setting, layer, state) as proxy:
        answer = await proxy.ask(Range=f"bytes={asked}")
    assert answer.status == 416
    assert answer.headers["content-range"] == f"bytes */{SIZE}"


@pytest.mark.parametrize("state", ["miss", "hit"])
@pytest.mark.parametrize("asked", ["bytes=0-1,5-6", "lines=0-5", "bytes=9-5", "bytes=-"])
async def test_what_is_no_single_range_is_answered_whole(
    setting: Setting, layer: Layer, state: State, asked: str
) -> None:
    async with stage(setting, layer, state) as proxy:
        answer = await proxy.ask(Range=asked)
    assert (answer.status, answer.body) == (200, layer.content.body)


@states
@pytest.mark.parametrize(("is_same", "status"), [(True, 206), (False, 200)])
async def test_if_range(
    setting: Setting, layer: Layer, state: State, status: int, *, is_same: bool
) -> None:
    async with asyncio.TaskGroup() as group:
        async with stage(setting, layer, state) as proxy:
            etag = proxy.etag if is_same else '"sha256:other"'
            asking = group.create_task(proxy.ask(Range="bytes=5-9", If_Range=etag))
            if is_same or state != "filling":  # the whole of it waits for the fill
                await asking
        answer = await asking
    assert answer.status == status
    assert answer.body == (layer.content.body[5:10] if is_same else layer.content.body)


@states
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_if_none_match(setting: Setting, layer: Layer, state: State, method: str) -> None:
    async with stage(setting, layer, state) as proxy:
        answer = await proxy.ask(method, If_None_Match=f'"other", {proxy.etag}')
    assert (answer.status, answer.body) == (304, b"")
    assert_names(answer, layer)
    assert layer.ranges == ([] if state == "miss" else [""])


@pytest.mark.parametrize("is_ranged", [True, False])
async def test_what_does_not_match_is_sent(
    setting: Setting, layer: Layer, *, is_ranged: bool
) -> None:
    async with stage(setting, layer, "hit") as proxy:
        headers: Mapping[str, str] = {"Range": "bytes=0-4"} if is_ranged else {}
        answer = await proxy.ask(If_None_Match='"sha256:other"', **headers)
    assert answer.body == (layer.content.body[:5] if is_ranged else layer.content.body)


async def test_a_range_far_ahead_of_a_stalled_fill_is_answered_at_once(setting: Setting) -> None:
    layer = new_layer(setting, 20 * MIB)
    client = setting.client
    setting.registry.fault(Hold(MIB), path=layer.path, times=1)
    async with client.stream("GET", layer.url) as (first, _), asyncio.timeout(10):
        await first.reader.readexactly(1000)
        answer = await layer.get(client, f"{19 * MIB}-{19 * MIB + 9}")
    assert answer.status == 206
    assert answer.headers["content-range"] == f"bytes {19 * MIB}-{19 * MIB + 9}/{20 * MIB}"
    assert answer.body == layer.content.body[19 * MIB : 19 * MIB + 10]
    assert layer.ranges == ["", f"bytes={19 * MIB}-{19 * MIB + 9}"]


async def test_parallel_ranges_of_a_cold_layer_are_one_download(setting: Setting) -> None:
    """As containerd asks for them."""
    layer = new_layer(setting, 12 * MIB)
    client = setting.client
    parts = [(start, start + 2 * MIB) for start in range(0, 12 * MIB, 2 * MIB)]
    answers = await asyncio.gather(
        *(layer.get(client, f"{start}-{stop - 1}") for start, stop in parts)
    )
    assert b"".join(answer.body for answer in answers) == layer.content.body
    assert layer.ranges == [""]
    assert layer.upstream_bytes == layer.content.size


async def test_parallel_ranges_of_a_large_cold_layer_are_not_as_many_downloads(
    setting: Setting,
) -> None:
    layer = new_layer(setting, 64 * MIB)
    client = setting.client
    parts = [(start, start + 8 * MIB) for start in range(0, 64 * MIB, 8 * MIB)]
    answers = await asyncio.gather(
        *(layer.get(client, f"{start}-{stop - 1}") for start, stop in parts)
    )
    assert b"".join(answer.body for answer in answers) == layer.content.body
    assert layer.ranges.count("") == 1
    # Once as a whole, and the parts far ahead by themselves.
    assert layer.upstream_bytes < 2 * layer.content.size
