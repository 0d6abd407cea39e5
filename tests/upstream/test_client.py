"""Endpoints, attempts, rests and counters, over real connections."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from aiohttp import web

from entrepot.upstream.message import UpstreamRequest
from entrepot.upstream.standing import RateLimit
from tests.upstream.bench import (
    SECRET,
    Bench,
    Handler,
    answering,
    failure,
    fetch,
    get,
    manifest,
    timeouts,
)

REFUSED = "http://127.0.0.1:1"  # nobody listens there


def in_turn(*statuses: int) -> Handler:
    """Answers with these, and with the last one ever after."""
    left: Iterator[int] = iter(statuses)

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(status=next(left, statuses[-1]), text="content")

    return answer


async def silence(*_: object) -> None:
    await asyncio.Event().wait()


async def test_any_status_is_an_answer(bench: Bench) -> None:
    for status in (200, 206, 404, 429, 500, 501):
        server = await bench.serve(answering(status))
        assert (await fetch(bench.upstream(server.url())))[0] == status
        assert len(server.seen) == 1


# Attempts.


@pytest.mark.parametrize("status", [502, 503, 504])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_what_usually_passes_is_waited_out(bench: Bench, status: int, method: str) -> None:
    server = await bench.serve(in_turn(status, status, 200))
    assert (await fetch(bench.upstream(server.url()), get(method=method)))[0] == 200
    assert len(server.seen) == 3


async def test_what_does_not_pass_is_the_answer(bench: Bench) -> None:
    server = await bench.serve(in_turn(503))
    assert await fetch(bench.upstream(server.url())) == (503, b"content")
    assert len(server.seen) == 3


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_the_answer_to_a_write_is_final(bench: Bench, method: str) -> None:
    server = await bench.serve(in_turn(503))
    other = await bench.serve(answering())
    upstream = bench.upstream(server.url(), other.url())
    assert (await fetch(upstream, get(method=method)))[0] == 503
    assert (len(server.seen), len(other.seen)) == (1, 0)


async def test_a_connection_that_breaks_is_tried_again(bench: Bench) -> None:
    attempts = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal attempts
        attempts += 1
        await reader.readuntil(b"\r\n\r\n")
        if attempts > 3:  # each of ours is two, with aiohttp's own
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    port = await bench.listen(talk)
    assert (await fetch(bench.upstream(f"http://127.0.0.1:{port}")))[0] == 200


async def test_with_something_stale_at_hand_nothing_is_repeated(bench: Bench) -> None:
    server = await bench.serve(in_turn(503))
    assert (await fetch(bench.upstream(server.url()), get(header_timeout_s=5.0)))[0] == 503
    assert len(server.seen) == 1


# Endpoints.


async def test_the_next_endpoint_takes_over(bench: Bench) -> None:
    second = await bench.serve(answering(text="second"))
    upstream = bench.upstream(REFUSED, second.url())
    assert await fetch(upstream) == (200, b"second")
    assert not upstream.is_resting()


async def test_an_endpoint_that_is_unwell_is_passed_over(bench: Bench) -> None:
    first = await bench.serve(in_turn(503))
    second = await bench.serve(answering(text="second"))
    upstream = bench.upstream(first.url(), second.url())
    assert await fetch(upstream) == (200, b"second")
    assert len(first.seen) == 1


async def test_an_endpoint_that_is_silent_is_passed_over_and_left_alone(bench: Bench) -> None:
    port = await bench.listen(silence)
    second = await bench.serve(answering(text="second"))
    settings = timeouts(header=0.1)
    upstream = bench.upstream(f"http://127.0.0.1:{port}", second.url(), settings=settings)
    assert await fetch(upstream) == (200, b"second")
    loop = asyncio.get_running_loop()
    start = loop.time()
    assert await fetch(upstream) == (200, b"second")
    assert loop.time() - start < 0.1


async def test_endpoints_keep_their_order_once_they_are_well(bench: Bench) -> None:
    first = await bench.serve(answering(text="first"))
    second = await bench.serve(answering(text="second"))
    upstream = bench.upstream(first.url(), second.url())
    rest = upstream._endpoints[0].rest
    rest.failed(bench.clock.now())
    assert await fetch(upstream) == (200, b"second")
    bench.clock.advance(3)
    assert await fetch(upstream) == (200, b"first")
    assert not rest.has_failed


async def test_an_endpoint_may_lie_below_a_path(bench: Bench) -> None:
    server = await bench.serve(answering())
    await fetch(bench.upstream(f"{server.url()}/mirror/"), get("/v2/a"))
    assert server.targets == ["GET /mirror/v2/a"]


async def test_a_write_goes_to_the_next_endpoint_only_if_never_sent(bench: Bench) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"layer"

    second = await bench.serve(answering(202))
    upstream = bench.upstream(REFUSED, second.url())
    request = get(method="PATCH", body=body())
    assert (await fetch(upstream, request))[0] == 202
    assert second.seen[-1].body == b"layer"
    port = await bench.listen(_hang_up)
    upstream = bench.upstream(f"http://127.0.0.1:{port}", second.url())
    before = len(second.seen)
    assert "closed the connection" in str(await failure(upstream.send(get(method="POST"))))
    assert len(second.seen) == before


async def _hang_up(reader: asyncio.StreamReader, _: object) -> None:
    await reader.readuntil(b"\r\n\r\n")


# Rests.


async def test_who_cannot_be_reached_rests(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    upstream = bench.upstream(REFUSED)
    error = await failure(upstream.send(get(f"/v2/?sig={SECRET}")))
    assert str(error) == "127.0.0.1:1: it cannot be reached: Connection refused"
    assert error.status is None
    assert upstream.is_resting()
    assert upstream.statistics().is_resting
    bench.clock.advance(2)
    assert not upstream.is_resting()
    told = [text for text in caplog.messages if "cannot be asked" in text]
    assert told == [f"registry.example cannot be asked: {error}"]


async def test_who_insists_is_served_but_does_not_wait_long(bench: Bench) -> None:
    port = await bench.listen(silence)
    settings = timeouts(header=60, connect=0.1)
    upstream = bench.upstream(f"http://127.0.0.1:{port}", settings=settings)
    upstream._endpoints[0].rest.failed(bench.clock.now())
    start = asyncio.get_running_loop().time()
    await failure(upstream.send(get()))
    assert asyncio.get_running_loop().time() - start < 1


async def test_an_answer_ends_the_rest(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    server = await bench.serve(answering())
    upstream = bench.upstream(server.url())
    upstream._endpoints[0].rest.failed(bench.clock.now())
    assert upstream.is_resting()
    await fetch(upstream)
    assert not upstream.is_resting()
    assert any("registry.example answers again" in text for text in caplog.messages)


async def test_one_probe_at_a_time(bench: Bench) -> None:
    asked, may_answer = asyncio.Event(), asyncio.Event()

    async def answer(_request: web.Request) -> web.Response:
        asked.set()
        await may_answer.wait()
        return web.Response()

    server = await bench.serve(answer)
    upstream = bench.upstream(server.url())
    upstream._endpoints[0].rest.failed(bench.clock.now())
    bench.clock.advance(3)
    assert not upstream.is_resting()
    async with asyncio.TaskGroup() as group:
        group.create_task(fetch(upstream))
        await asked.wait()
        assert upstream.is_resting()
        may_answer.set()
    assert not upstream.is_resting()


async def test_a_budget_bounds_all_of_it(bench: Bench) -> None:
    """Also where it is the token service that is slow."""
    port = await bench.listen(silence)
    realm = f'Bearer realm="http://127.0.0.1:{port}/token"'
    server = await bench.serve(answering(401, WWW_Authenticate=realm))
    upstream = bench.upstream(server.url())
    error = await failure(upstream.send(manifest(header_timeout_s=0.1)))
    assert str(error) == "registry.example: no answer within 0.1 s"
    assert upstream.is_resting()
    assert upstream._slots._value == 64


async def test_an_upload_is_filed_in_its_own_time(bench: Bench) -> None:
    asked, may_answer = asyncio.Event(), asyncio.Event()

    async def answer(request: web.Request) -> web.Response:
        asked.set()
        await may_answer.wait()
        return web.Response(status=201 if request.method == "PUT" else 200)

    server = await bench.serve(answer)
    upstream = bench.upstream(server.url(), settings=timeouts(header=0.1))
    put = UpstreamRequest(method="PUT", path="/v2/a/blobs/uploads/1", headers={}, is_bulk=True)
    async with asyncio.TaskGroup() as group:
        filing = group.create_task(upstream.send(put))
        await asked.wait()
        assert (await failure(upstream.send(get()))).is_late
        may_answer.set()
        async with await filing as response:
            assert response.status == 201


async def test_one_that_only_begins_is_not(bench: Bench) -> None:
    port = await bench.listen(silence)
    upstream = bench.upstream(f"http://127.0.0.1:{port}", settings=timeouts(header=0.1))
    path = "/v2/a/blobs/uploads/"
    post = UpstreamRequest(
        method="POST", path=path, headers={}, is_bulk=True, is_anonymous=True, content_length=0
    )
    async with asyncio.timeout(20):
        assert (await failure(upstream.send(post))).is_late


async def test_a_budget_bounds_several_endpoints(bench: Bench) -> None:
    ports = [await bench.listen(silence) for _ in range(3)]
    upstream = bench.upstream(*(f"http://127.0.0.1:{port}" for port in ports))
    loop = asyncio.get_running_loop()
    start = loop.time()
    await failure(upstream.send(get(header_timeout_s=0.2)))
    assert loop.time() - start < 1


async def test_who_is_cancelled_leaves_nothing_behind(bench: Bench) -> None:
    asked = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        await asyncio.Event().wait()

    port = await bench.listen(talk)
    upstream = bench.upstream(f"http://127.0.0.1:{port}", connections=1)
    for _ in range(3):
        asked.clear()
        task = asyncio.Task(upstream.send(get()))
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert upstream._slots._value == 1
    assert not upstream.is_resting()


async def test_long_bodies_leave_connections_to_what_is_short(bench: Bench) -> None:
    server = await bench.serve(answering(text="x" * 100))
    upstream = bench.upstream(server.url(), settings=timeouts(header=0.2), connections=4)
    held = [await upstream.send(get(is_bulk=True)) for _ in range(3)]
    assert "kept for short" in str(await failure(upstream.send(get(is_bulk=True))))
    await fetch(upstream)
    await held.pop().aclose()
    held.append(await upstream.send(get(is_bulk=True)))
    for response in held:
        await response.aclose()
    assert (upstream._slots._value, upstream._bulk_slots._value) == (4, 3)


async def test_one_connection_is_for_all(bench: Bench) -> None:
    server = await bench.serve(answering(text="x"))
    upstream = bench.upstream(server.url(), connections=1)
    for is_bulk in (True, False, True):
        await fetch(upstream, get(is_bulk=is_bulk))
    assert (upstream._slots._value, upstream._bulk_slots._value) == (1, 1)


# Quota.


async def test_the_quota_is_read(bench: Bench) -> None:
    headers = {
        "ratelimit-limit": "100;w=21600",
        "ratelimit-remaining": "76;w=21600",
        "docker-ratelimit-source": "192.0.2.1",
    }

    async def answer(request: web.Request) -> web.Response:
        return web.Response(headers=headers if "manifests" in request.path else {})

    server = await bench.serve(answer)
    upstream = bench.upstream(server.url())
    assert upstream.rate_limit() is None
    await fetch(upstream, manifest())
    await fetch(upstream)
    assert upstream.rate_limit() == RateLimit(100, 76, 21600, "192.0.2.1", bench.clock.now())
    assert upstream.statistics().rate_limit == upstream.rate_limit()


@pytest.mark.parametrize(("said", "pause"), [("5", 5), ("3600", 60), ("", 10), ("soon", 10)])
async def test_429_is_a_reason_to_rest(bench: Bench, said: str, pause: int) -> None:
    server = await bench.serve(answering(429, Retry_After=said))
    upstream = bench.upstream(server.url())
    assert (await fetch(upstream))[0] == 429
    bench.clock.advance(pause - 1)
    assert upstream.is_resting()
    bench.clock.advance(1)
    assert not upstream.is_resting()


async def test_429_of_a_store_is_not_the_registrys(bench: Bench) -> None:
    store = await bench.serve(answering(429))
    server = await bench.serve(answering(307, Location=store.url()))
    upstream = bench.upstream(server.url())
    assert (await fetch(upstream))[0] == 429
    assert not upstream.is_resting()


async def test_what_is_counted(bench: Bench) -> None:
    server = await bench.serve(in_turn(200, 404, 200))
    upstream = bench.upstream(server.url())
    for _ in range(3):
        await fetch(upstream)
    found = upstream.statistics()
    assert found.name == "registry.example"
    assert found.requests == {"2xx": 2, "4xx": 1}
    assert found.bytes_fetched == 3 * len(b"content")
    assert found.errors == found.token_requests == 0
    assert found.latency_count == 3
    assert found.latency_sum_s > 0
    gone = bench.upstream(REFUSED)
    await failure(gone.send(get()))
    assert gone.statistics().errors == 1
