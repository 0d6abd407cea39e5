"""Upstreams that break off, stall or lie: what is right comes through, what is wrong breaks."""

import pytest

from tests.integration.blobs import BLOBS, BROKEN, Layer, make_blob, misnamed, new_layer
from tests.integration.conftest import Setting
from tests.integration.waiting import eventually, fills_to_end
from tests.support.client import Answer, ProxyClient
from tests.support.content import Given
from tests.support.faults import (
    AnswerWith,
    Chunked,
    Corrupt,
    Fault,
    Hold,
    IgnoreRange,
    Truncate,
    WrongContentRange,
    WrongLength,
)

SIZE = 2_000_000
AT_60_PERCENT = SIZE * 6 // 10


@pytest.fixture
def layer(shared: Setting) -> Layer:
    return new_layer(shared, SIZE)


async def test_what_breaks_off_at_60_percent_is_resumed(shared: Setting, layer: Layer) -> None:
    shared.registry.fault(Truncate(fraction=0.6), path=layer.path, times=1)
    client = shared.client
    assert (await layer.get(client)).body == layer.content.body
    assert layer.ranges == ["", f"bytes={AT_60_PERCENT}-"]
    assert layer.upstream_bytes == SIZE


async def test_what_is_reset_again_and_again_is_resumed_each_time(
    shared: Setting, layer: Layer
) -> None:
    shared.registry.fault(Truncate(700_000, resets=True), path=layer.path)
    client = shared.client
    assert (await layer.get(client)).body == layer.content.body
    # Of what was on its way when the connection was reset some is lost, so more than two may do.
    assert len(layer.ranges) >= 3


async def test_an_upstream_that_knows_no_ranges_sends_all_of_it_again(
    shared: Setting, layer: Layer
) -> None:
    shared.registry.fault(Truncate(fraction=0.6), path=layer.path, times=1)
    shared.registry.fault(IgnoreRange(), path=layer.path)
    client = shared.client
    assert (await layer.get(client)).body == layer.content.body
    assert layer.upstream_bytes == AT_60_PERCENT + SIZE


async def test_an_upstream_that_answers_another_range_is_asked_again(
    shared: Setting, layer: Layer
) -> None:
    shared.registry.fault(Truncate(fraction=0.6), path=layer.path, times=1)
    shared.registry.fault(WrongContentRange(), path=layer.path, skip=1, times=1)
    client = shared.client
    assert (await layer.get(client)).body == layer.content.body
    assert layer.ranges == ["", *[f"bytes={AT_60_PERCENT}-"] * 2]


async def test_resuming_outlasts_answers_of_503(shared: Setting, layer: Layer) -> None:
    shared.registry.fault(Truncate(fraction=0.6), path=layer.path, times=1)
    shared.registry.fault(AnswerWith(503), path=layer.path, skip=1, times=2)
    client = shared.client
    assert (await layer.get(client)).body == layer.content.body
    assert layer.upstream_bytes == SIZE


async def test_what_stalls_for_ever_is_given_up_and_resumed(setting: Setting) -> None:
    setting.config["upstream"] = {"read_timeout": "500ms"}
    setting.registry.fault(Hold(AT_60_PERCENT), path=BLOBS, times=1)
    layer = new_layer(setting, SIZE)
    client = setting.start()
    assert (await layer.get(client)).body == layer.content.body
    assert layer.ranges == ["", f"bytes={AT_60_PERCENT}-"]


async def test_a_length_that_is_not_told_is_no_hindrance(shared: Setting, layer: Layer) -> None:
    shared.registry.fault(Chunked(), path=layer.path)
    client = shared.client
    cold = await layer.get(client)
    assert (cold.length, cold.body) == (None, layer.content.body)
    warm = await layer.get(client)
    assert (warm.length, warm.body) == (SIZE, layer.content.body)
    assert layer.ranges == [""]


async def test_what_tells_no_length_and_breaks_off_is_resumed(
    shared: Setting, layer: Layer
) -> None:
    shared.registry.fault(Chunked(), path=layer.path)
    shared.registry.fault(Truncate(AT_60_PERCENT), path=layer.path, times=1)
    client = shared.client
    assert (await layer.get(client)).body == layer.content.body
    assert layer.upstream_bytes == SIZE


async def test_one_that_is_dead_for_good_breaks_the_transfer_and_is_resumed_once_back(
    setting: Setting,
) -> None:
    setting.config["upstream"] = {"retries": 1}
    gate = setting.registry.gate()
    undo = setting.registry.fault(Hold(AT_60_PERCENT, gate), path=BLOBS)
    layer = new_layer(setting, SIZE)
    client = setting.start()
    async with client.stream("GET", layer.url) as (connection, _):
        await connection.reader.readexactly(AT_60_PERCENT - 100_000)
        setting.registry.die()
        with pytest.raises(BROKEN):
            await connection.reader.readexactly(SIZE)
    await fills_to_end(setting.proxy)
    assert (await layer.get(client)).status == 502  # nothing of it was admitted
    undo()
    setting.registry.revive()
    assert (await layer.get(client)).body == layer.content.body
    assert setting.registry.blob_bytes < SIZE * 1.1


class TestWrongBytes:
    """Never whole, never a clean end, never kept."""

    @pytest.mark.parametrize("size", [0, 10, 1000, 65_536, 65_537, SIZE])
    @pytest.mark.parametrize("is_chunked", [False, True])
    async def test_of_another_digest(self, shared: Setting, size: int, *, is_chunked: bool) -> None:
        layer = Layer(shared, misnamed(make_blob(size).body, make_blob().digest))
        if is_chunked:
            shared.registry.fault(Chunked(), path=layer.path)
        client = shared.client
        for _ in range(2):
            await assert_broken(layer, client)
        assert len(layer.ranges) == 2  # it was not kept: the upstream is asked each time

    @pytest.mark.parametrize(
        "fault", [Corrupt(1_500_000), Corrupt(SIZE - 1), Corrupt(0), WrongLength(-10)]
    )
    async def test_once(self, shared: Setting, layer: Layer, fault: Fault) -> None:
        undo = shared.registry.fault(fault, path=layer.path)
        client = shared.client
        await assert_broken(layer, client)
        undo()
        assert (await layer.get(client)).body == layer.content.body
        assert layer.ranges == ["", ""]

    async def test_more_length_than_there_is(self, shared: Setting, layer: Layer) -> None:
        """What came is right, so it is kept; the client was promised more and has to ask again."""
        undo = shared.registry.fault(WrongLength(10), path=layer.path)
        client = shared.client
        await assert_broken(layer, client)
        undo()
        assert (await layer.get(client)).body == layer.content.body

    async def test_in_what_a_killed_proxy_left(self, setting: Setting) -> None:
        gate = setting.registry.gate()
        undo = setting.registry.fault(Hold(AT_60_PERCENT, gate), path=BLOBS)
        layer = new_layer(setting, SIZE)
        client = setting.start()
        async with client.stream("GET", layer.url) as (connection, _):
            await connection.reader.readexactly(AT_60_PERCENT - 100_000)
            setting.proxy.kill9()
        undo()
        (part,) = (setting.proxy.data / "cache" / "fills").iterdir()
        with part.open("r+b") as file:
            file.seek(1000)
            file.write(b"rotten")
        setting.proxy.start()
        await assert_broken(layer, setting.client)
        assert (await layer.get(setting.client)).body == layer.content.body

    async def test_of_a_manifest(self, shared: Setting) -> None:
        image = shared.registry.add_image("app", "1.0")
        undo = shared.registry.fault(Corrupt(5), path="/v2/*/manifests/*")
        client = shared.client
        for reference in ("1.0", image.digest):
            url = f"{shared.url}/v2/app/manifests/{reference}"
            assert (await client.request("GET", url)).status == 502
        undo()
        assert (await client.pull(shared.url, "app", "1.0")).digest == image.digest


async def assert_broken(layer: Layer, client: ProxyClient) -> None:
    """An error, or a transfer that nobody can take for whole."""
    try:
        answer = await layer.get(client)
    except BROKEN:
        return
    assert answer.status >= 500, f"{answer.status} with {len(answer.body)} bytes"


async def test_an_empty_blob_is_a_blob(shared: Setting) -> None:
    layer = Layer(shared, Given(b""))
    client = shared.client
    for _ in range(2):
        answer = await layer.get(client)
        assert (answer.status, answer.body, answer.length) == (200, b"", 0)
    assert layer.ranges == [""]


async def test_a_refusal_in_the_middle_breaks_the_transfer_at_once(setting: Setting) -> None:
    setting.config["tags"] = {"ttl": "1s"}  # no is believed no longer either
    setting.registry.fault(Truncate(fraction=0.6), path=BLOBS, times=1)
    undo = setting.registry.fault(AnswerWith(404), path=BLOBS, skip=1)
    layer = new_layer(setting, SIZE)
    client = setting.start()
    with pytest.raises(BROKEN):
        await layer.get(client)
    assert len(layer.ranges) == 2
    undo()

    async def again() -> Answer:
        return await layer.get(client)

    answer = await eventually(again, lambda answer: answer.status == 200)
    assert answer.body == layer.content.body
