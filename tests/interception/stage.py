"""Exchanges on connections in memory: what answers them is the test's, what they need is given."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import h11

from entrepot.config.model import Clients
from entrepot.engine.message import Exchange, Request, Response
from entrepot.interception.client_port import ClientPort
from entrepot.interception.exchange import ExchangeRunner
from entrepot.interception.http_layer import ClientExchange, Entrance, HttpLayer, Place
from tests.interception.line import Line

type Answer = Callable[[Request], Awaitable[Response]]

OWN = Place("http", None)
PROXIED = Place("http", None, is_proxied=True)
REGISTRY = Place("https", "registry.test:443")
GET = b"GET /v2/ HTTP/1.1\r\nHost: registry.test\r\n\r\n"
HEAD = b"HEAD /v2/ HTTP/1.1\r\nHost: registry.test\r\n\r\n"
OLD = b"GET /v2/ HTTP/1.0\r\nHost: registry.test\r\n\r\n"
MIB = 1 << 20


@dataclass
class Given:
    """A body that gives these bytes, and then ends or fails."""

    data: bytes
    failure: Exception | None = None
    is_closed: bool = False
    sizes: list[int] = field(default_factory=list)

    async def read(self, size: int) -> bytes:
        self.sizes.append(size)
        piece, self.data = self.data[:size], self.data[size:]
        if not piece and self.failure:
            raise self.failure
        return piece

    async def aclose(self) -> None:
        self.is_closed = True


@dataclass
class Held(Given):
    """One that gives nothing until it is told."""

    may_go_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def read(self, size: int) -> bytes:
        await self.may_go_on.wait()
        return await super().read(size)


class Stage:
    """Runs exchanges, and remembers what was asked and what was observed."""

    def __init__(self, answer: Answer) -> None:
        self.requests: list[Request] = []
        self.entrances: list[Entrance] = []
        self.observed: list[Exchange] = []
        self.is_draining = False
        self.runner = ExchangeRunner(self._respond, self.observed.append)
        self._answer = answer
        self.clients = Clients()

    def line(self, place: Place = REGISTRY, *, window: int | None = None) -> Line:
        addon = _Addon(self)
        addon.line = line = Line(
            lambda context: HttpLayer(context, place, header_timeout_s=60), addon, window=window
        )
        return line

    async def _respond(self, request: Request, entrance: Entrance) -> Response:
        self.requests.append(request)
        self.entrances.append(entrance)
        return await self._answer(request)

    def port(self, line: Line) -> ClientPort:
        return ClientPort(line.handler, self.clients, is_draining=lambda: self.is_draining)


class _Addon:
    line: Line

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    async def entrepot_exchange(self, exchange: ClientExchange) -> None:
        await self._stage.runner.run(exchange, self._stage.port(self.line))


def answering(response: Response) -> Stage:
    async def answer(_: Request) -> Response:
        return response

    return Stage(answer)


async def ask(stage: Stage, request: bytes = GET, place: Place = REGISTRY) -> bytes:
    """The only request of a connection: what the client has when nothing more comes."""
    async with stage.line(place) as line:
        line.say(request)
        await line.until(lambda: bool(stage.observed))
        async with asyncio.timeout(5):
            await stage.runner.wait_for_running()
    return bytes(line.transport.taken)


def read(data: bytes, method: str = "GET") -> tuple[h11.Response, bytes, bool]:
    """As a client reads it: head, body, and whether the body was whole."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("host", "registry.test")]))
    client.send(h11.EndOfMessage())
    client.receive_data(data)
    client.receive_data(b"")
    response, body = client.next_event(), b""
    assert isinstance(response, h11.Response)
    try:
        while isinstance(event := client.next_event(), h11.Data):
            body += event.data
    except h11.RemoteProtocolError:
        return response, body, False
    return response, body, isinstance(event, h11.EndOfMessage)


def field_of(response: h11.Response, name: bytes) -> bytes | None:
    found = [value for each, value in response.headers if each == name]
    assert len(found) <= 1
    return found[0] if found else None
