import asyncio
import json
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import pytest

from entrepot.engine.message import Exchange, Request, Response
from entrepot.errors import UpstreamError
from entrepot.interception.exchange import ExchangeRunner
from tests.interception.stage import (
    GET,
    HEAD,
    MIB,
    OLD,
    Given,
    Held,
    Stage,
    answering,
    ask,
    field_of,
    read,
)


class TestFraming:
    async def test_a_body_in_memory(self) -> None:
        stage = answering(Response(200, {"X-One": "1"}, b"hello"))
        response, body, is_whole = read(await ask(stage))
        assert (response.status_code, body, is_whole) == (200, b"hello", True)
        assert field_of(response, b"content-length") == b"5"
        assert field_of(response, b"x-one") == b"1"
        assert field_of(response, b"date")
        assert field_of(response, b"connection") is None

    async def test_a_body_of_known_length(self) -> None:
        body = Given(bytes(range(256)) * 20_000)
        data = body.data
        response, received, is_whole = read(
            await ask(answering(Response(200, {}, body, len(data))))
        )
        assert received == data
        assert is_whole
        assert field_of(response, b"content-length") == str(len(data)).encode()
        assert body.is_closed

    async def test_one_of_unknown_length_comes_in_chunks(self) -> None:
        body = Given(b"x" * 3 * MIB)
        response, received, is_whole = read(await ask(answering(Response(200, {}, body))))
        assert received == b"x" * 3 * MIB
        assert is_whole
        assert field_of(response, b"transfer-encoding") == b"chunked"
        assert field_of(response, b"content-length") is None

    async def test_for_http_1_0_it_ends_with_the_connection(self) -> None:
        stage = answering(Response(200, {}, Given(b"hello")))
        async with stage.line() as line:
            line.say(OLD.replace(b"\r\n\r\n", b"\r\nConnection: keep-alive\r\n\r\n"))
            response, received, is_whole = read(await line.heard_all())
        assert (received, is_whole) == (b"hello", True)
        assert field_of(response, b"transfer-encoding") is None
        assert field_of(response, b"connection") == b"close"

    @pytest.mark.parametrize("body", [b"hello", Given(b"hello")], ids=["memory", "stream"])
    async def test_head_has_the_length_and_no_body(self, body: bytes | Given) -> None:
        data = await ask(answering(Response(200, {}, body, 5)), HEAD)
        response, received, is_whole = read(data, "HEAD")
        assert (received, is_whole) == (b"", True)
        assert field_of(response, b"content-length") == b"5"
        assert data.endswith(b"\r\n\r\n")

    async def test_head_of_unknown_length(self) -> None:
        data = await ask(answering(Response(200, {}, Given(b"hello"))), HEAD)
        response, _, is_whole = read(data, "HEAD")
        assert is_whole
        assert field_of(response, b"content-length") is None

    @pytest.mark.parametrize("status", [204, 304])
    async def test_answers_that_have_no_body(self, status: int) -> None:
        data = await ask(answering(Response(status, {"ETag": '"a"'}, b"")))
        response, _, is_whole = read(data)
        assert is_whole
        assert field_of(response, b"content-length") is None
        assert data.endswith(b"\r\n\r\n")

    async def test_a_length_that_the_engine_named_itself_is_not_said_twice(self) -> None:
        data = await ask(answering(Response(200, {"content-length": "99"}, b"hello")))
        assert field_of(read(data)[0], b"content-length") == b"5"


class TestBrokenBodies:
    """They must never look whole."""

    @pytest.mark.parametrize("length", [10, None], ids=["length", "chunks"])
    async def test_one_that_fails(self, length: int | None) -> None:
        body = Given(b"hello", UpstreamError("broke off"))
        stage = answering(Response(200, {}, body, length))
        async with stage.line() as line:
            line.say(GET)
            _, received, is_whole = read(await line.heard_all())
            assert line.transport.is_aborted
        assert received == b"hello"
        assert not is_whole
        assert body.is_closed
        (exchange,) = stage.observed
        assert not exchange.is_whole
        assert exchange.trace.error == "broke off"

    async def test_one_that_is_too_short(self) -> None:
        stage = answering(Response(200, {}, Given(b"hello"), 10))
        assert not read(await ask(stage))[2]
        assert "after 5 of 10 bytes" in stage.observed[0].trace.error

    async def test_one_that_is_too_long_is_not_taken_for_the_next_answer(self) -> None:
        stage = answering(Response(200, {}, Given(b"helloHTTP/1.1 200 OK\r\n\r\n"), 5))
        data = await ask(stage)
        assert data.count(b"HTTP/1.1") == 1
        assert not stage.observed[0].is_whole

    async def test_one_that_fails_by_a_fault_of_ours(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        stage = answering(Response(200, {}, Given(b"hello", ZeroDivisionError()), 10))
        assert not read(await ask(stage))[2]
        assert "ZeroDivisionError" in caplog.text
        assert stage.observed[0].trace.error == "internal error"

    async def test_one_whose_closing_fails(self) -> None:
        class Stuck(Given):
            async def aclose(self) -> None:
                raise OSError("stuck")

        stage = answering(Response(200, {}, Stuck(b"hello"), 5))
        assert read(await ask(stage))[2]


class TestConnection:
    async def test_it_is_kept(self) -> None:
        stage = answering(Response(200, {}, b"hello"))
        async with stage.line() as line:
            for _ in range(3):
                line.say(GET)
                assert b"Connection" not in await line.heard(b"hello")
        assert len(stage.observed) == 3

    async def test_http_1_0_is_told_so(self) -> None:
        stage = answering(Response(200, {}, b"hello"))
        async with stage.line() as line:
            line.say(OLD.replace(b"\r\n\r\n", b"\r\nConnection: keep-alive\r\n\r\n"))
            assert b"Connection: keep-alive\r\n" in await line.heard(b"hello")
            line.say(OLD)
            assert b"Connection: close\r\n" in await line.heard_all()

    async def test_a_client_that_wants_no_more(self) -> None:
        stage = answering(Response(200, {}, b"hello"))
        async with stage.line() as line:
            line.say(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
            assert b"Connection: close\r\n" in await line.heard_all()

    async def test_a_proxy_that_stops_keeps_none(self) -> None:
        stage = answering(Response(200, {}, b"hello"))
        stage.is_draining = True
        async with stage.line() as line:
            line.say(GET)
            assert b"Connection: close\r\n" in await line.heard_all()

    async def test_a_body_that_nobody_read_ends_it(self) -> None:
        stage = answering(Response(401, {}, b"no"))
        async with stage.line() as line:
            line.say(b"PUT / HTTP/1.1\r\nHost: registry.test\r\nContent-Length: 9\r\n\r\nabc")
            assert b"Connection: close\r\n" in await line.heard_all()
            assert line.transport.is_eof  # and heard out: not closed


class TestFailures:
    async def test_a_responder_that_raises_is_an_answer(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def answer(_: Request) -> Response:
            raise ZeroDivisionError

        stage = Stage(answer)
        response, body, is_whole = read(await ask(stage))
        assert (response.status_code, is_whole) == (500, True)
        assert json.loads(body)["errors"][0]["code"] == "UNKNOWN"
        assert "ZeroDivisionError" in caplog.text

    async def test_an_observer_that_raises_does_not_keep_the_client_waiting(self) -> None:
        def observe(_: Exchange) -> None:
            raise ZeroDivisionError

        stage = answering(Response(200, {}, b"hello"))
        stage.runner = ExchangeRunner(stage._respond, observe)
        async with stage.line() as line:
            line.say(GET)
            await line.heard(b"hello")
            line.say(GET)
            await line.heard(b"hello")

    async def test_a_client_that_leaves_ends_what_is_asked_for_it(self) -> None:
        body = Held(b"hello")
        stage = answering(Response(200, {}, body, 5))
        async with stage.line() as line:
            line.say(GET)
            await line.heard(b"\r\n\r\n")
        assert body.is_closed
        (exchange,) = stage.observed
        assert exchange.trace.error == "the client went away"
        assert not exchange.is_whole
        assert stage.runner.running == 0

    async def test_also_before_there_is_an_answer(self) -> None:
        asked = asyncio.Event()

        async def answer(_: Request) -> Response:
            asked.set()
            await asyncio.Event().wait()
            raise AssertionError

        stage = Stage(answer)
        async with stage.line() as line:
            line.say(GET)
            await asked.wait()
        assert stage.observed[0].trace.error == "the client went away"
        assert stage.observed[0].status == 499

    async def test_a_client_that_is_reset(self) -> None:
        body = Held(b"hello")
        stage = answering(Response(200, {}, body, 5))
        async with stage.line() as line:
            line.say(GET)
            await line.heard(b"\r\n\r\n")
            line.transport.leave(ConnectionResetError("reset"))
            body.may_go_on.set()
        assert body.is_closed
        assert not stage.observed[0].is_whole


@dataclass
class Stepped(Given):
    """One byte for each step."""

    steps: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))

    async def read(self, size: int) -> bytes:
        self.sizes.append(size)
        await self.steps.acquire()
        return b"x"


@pytest.mark.parametrize(("readers", "step"), [(1, MIB // 2), (64, 16 * MIB // 64), (1500, 16_384)])
async def test_a_thousand_readers_share_the_memory_that_a_few_may_take(
    readers: int, step: int
) -> None:
    bodies = [Stepped(b"") for _ in range(readers)]
    waiting = iter(bodies)

    async def answer(_: Request) -> Response:
        return Response(200, {}, next(waiting), 100)

    stage = Stage(answer)
    async with AsyncExitStack() as stack:
        lines = [await stack.enter_async_context(stage.line()) for _ in bodies]
        for line in lines:
            line.say(GET)
            await line.heard(b"\r\n\r\n")
        for line, body in zip(lines, bodies, strict=True):
            body.steps.release()
            await line.heard(b"x")
    assert {body.sizes[1] for body in bodies} == {step}


async def test_who_waits_for_the_running_does_not_wait_for_later_ones() -> None:
    first, second = Held(b"1"), Held(b"2")
    waiting = iter([first, second])

    async def answer(_: Request) -> Response:
        return Response(200, {}, next(waiting), 1)

    stage = Stage(answer)
    await stage.runner.wait_for_running()
    async with stage.line() as one, stage.line() as two:
        one.say(GET)
        await one.heard(b"\r\n\r\n")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(stage.runner.wait_for_running())
            await asyncio.sleep(0)
            two.say(GET)
            await two.heard(b"\r\n\r\n")
            assert stage.runner.running == 2
            first.may_go_on.set()
        assert stage.runner.running == 1
