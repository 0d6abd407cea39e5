"""What an exchange makes of a request: where it is for, and how its body comes."""

import asyncio
import logging

import pytest

from entrepot.config.kinds import Seconds
from entrepot.config.model import Clients
from entrepot.engine.message import Request, Response
from entrepot.interception.http_layer import Entrance
from tests.interception.stage import (
    GET,
    MIB,
    OWN,
    PROXIED,
    Stage,
    answering,
    ask,
    read,
)


class TestRequests:
    async def test_what_the_engine_is_told(self) -> None:
        stage = answering(Response(200))
        await ask(stage, b"GET /v2/a?n=1&last=?b HTTP/1.1\r\nHost: REGISTRY.test\r\nX: y\r\n\r\n")
        (request,) = stage.requests
        assert (request.method, request.path, request.query) == ("GET", "/v2/a", "n=1&last=?b")
        assert (request.scheme, request.host) == ("https", "registry.test")
        assert request.client == "192.0.2.7"
        assert request.headers["x"] == "y"
        assert request.body is None
        assert stage.entrances == [Entrance.PROXY]

    async def test_in_a_tunnel_it_is_for_the_host_that_was_connected_to(self) -> None:
        stage = answering(Response(200))
        data = await ask(stage, GET.replace(b"registry.test", b"other.test"))
        assert read(data)[0].status_code == 421
        assert stage.requests == []

    async def test_there_absolute_form_is_for_it_too(self) -> None:
        stage = answering(Response(200))
        await ask(stage, GET.replace(b"/v2/", b"https://registry.test/v2/"))
        assert stage.requests[0].path == "/v2/"

    async def test_absolute_form_outside_of_tunnels(self) -> None:
        stage = answering(Response(200))
        request = b"GET http://Plain.test:80/v2/?a=b HTTP/1.1\r\nHost: elsewhere.test\r\n\r\n"
        await ask(stage, request, PROXIED)
        (found,) = stage.requests
        assert (found.scheme, found.host, found.target) == ("http", "plain.test", "/v2/?a=b")
        assert stage.entrances == [Entrance.PROXY]

    async def test_origin_form_outside_of_tunnels_is_for_our_own_pages(self) -> None:
        stage = answering(Response(200))
        await ask(stage, b"GET /healthz HTTP/1.1\r\nHost: proxy:3128\r\n\r\n", OWN)
        assert stage.entrances == [Entrance.PAGES]
        assert stage.requests[0].host == "proxy:3128"

    @pytest.mark.parametrize(("target", "path"), [("http://a.test", "/"), ("http://a.test?x", "/")])
    async def test_paths_begin_with_a_slash(self, target: str, path: str) -> None:
        stage = answering(Response(200))
        await ask(stage, f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode(), PROXIED)
        assert stage.requests[0].path == path

    async def test_on_a_connection_to_our_own_pages_nothing_else_is_asked_for(self) -> None:
        """Who is served, and what may be reached, is judged where a connection begins."""
        stage = answering(Response(200))
        data = await ask(stage, b"GET http://plain.test/v2/ HTTP/1.1\r\nHost: a\r\n\r\n", OWN)
        assert read(data)[0].status_code == 421
        assert stage.requests == []

    @pytest.mark.parametrize("target", ["http://ann:secret@a.test/", "http://[a/", "*"])
    async def test_bogus_targets(self, target: str, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        stage = answering(Response(200))
        data = await ask(stage, f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode(), PROXIED)
        assert read(data)[0].status_code == 400
        assert stage.requests == []
        assert "secret" not in caplog.text + repr(stage.observed)


PUT = b"PUT / HTTP/1.1\r\nHost: registry.test\r\nContent-Length: 5\r\n"


class TestRequestBodies:
    @staticmethod
    async def echo(request: Request) -> Response:
        assert request.body is not None
        return Response(201, {}, b"".join([piece async for piece in request.body]))

    async def test_they_are_read_as_they_come(self) -> None:
        stage = Stage(self.echo)
        async with stage.line() as line:
            line.say(PUT + b"\r\nhe")
            line.say(b"llo")
            assert (await line.heard(b"hello")).startswith(b"HTTP/1.1 201 Created\r\n")
        assert stage.requests[0].content_length == 5

    async def test_a_client_that_asks_first_is_told_to_go_on(self) -> None:
        stage = Stage(self.echo)
        async with stage.line() as line:
            line.say(PUT + b"Expect: 100-continue\r\n\r\n")
            assert await line.heard(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            line.say(b"hello")
            assert (await line.heard(b"hello")).startswith(b"HTTP/1.1 201 ")

    async def test_but_not_when_its_body_is_not_wanted(self) -> None:
        stage = answering(Response(405, {}, b"no"))
        async with stage.line() as line:
            line.say(PUT + b"Expect: 100-continue\r\n\r\n")
            assert (await line.heard_all()).startswith(b"HTTP/1.1 405 ")

    async def test_a_fast_client_waits_for_a_slow_reader(self) -> None:
        may_read = asyncio.Event()

        async def answer(request: Request) -> Response:
            await may_read.wait()
            assert request.body is not None
            return Response(201, {}, b"%d" % sum([len(piece) async for piece in request.body]))

        size = 8 * MIB
        async with Stage(answer).line() as line:
            line.say(PUT.replace(b" 5", b" %d" % size) + b"\r\n")
            sent = 0
            while line.transport.is_reading():
                line.say(bytes(65_536))
                sent += 65_536
                await asyncio.sleep(0)
            assert sent < size
            may_read.set()
            while sent < size:
                await line.until(line.transport.is_reading)
                line.say(bytes(65_536))
                sent += 65_536
                await asyncio.sleep(0)
            assert await line.heard(b"%d" % size)

    async def test_a_client_that_falls_silent_is_given_up(self) -> None:
        stage = Stage(self.echo)
        stage.clients = Clients(idle_timeout=Seconds(0.01))
        async with stage.line() as line:
            line.say(PUT + b"\r\nhe")
            assert await line.heard_all() == b""
            assert line.transport.is_aborted
        assert stage.observed[0].trace.error == "the client sent nothing for 0 s"
