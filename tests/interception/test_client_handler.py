"""The handler in a mitmproxy that does not listen, its socket in memory."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field

import pytest
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.connection import Client
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.layer import CommandGenerator, Layer, NextLayer
from mitmproxy.proxy.layers import modes
from mitmproxy.test import taddons

from entrepot.interception.client_handler import ClientHandler
from entrepot.interception.http_layer import ClientExchange, HttpLayer
from entrepot.interception.registry_mode import ForwardMode, ForwardServer, RegistryTop
from entrepot.interception.tls import ClientTlsLayer
from tests.interception.conversation import make_context
from tests.interception.house import House
from tests.interception.memory_transport import MemoryTransport
from tests.interception.test_front_layer import CLIENT_HELLO

PATIENCE_S = 10.0


@dataclass
class AskHook(commands.StartHook):
    """Something is wanted of an addon."""

    said: list[str]


@dataclass
class TellHook(commands.StartHook):
    """An addon is told, and the layer goes on."""

    said: list[str]
    blocking = False


type Script = Callable[[Layer, bytes], Iterator[commands.Command]]


class Scripted(Layer):
    """Does with data what a test says; ends with its client. Remembers what it has heard."""

    script: Script
    heard: list[str]

    def _handle_event(self, event: events.Event) -> CommandGenerator[None]:
        self.heard.append(type(event).__name__)
        if isinstance(event, events.DataReceived):
            yield from self.script(self, event.data)
        elif isinstance(event, events.ConnectionClosed):
            yield commands.CloseConnection(self.context.client)


def echo(layer: Layer, data: bytes) -> Iterator[commands.Command]:
    yield commands.SendData(layer.context.client, data)


@dataclass
class Starting:
    """The addon that gives each connection its layer."""

    script: Script
    heard: list[str] = field(default_factory=list)

    def next_layer(self, data: NextLayer) -> None:
        layer = Scripted(data.context)
        layer.script, layer.heard = self.script, self.heard
        data.layer = layer


class Stage:
    def __init__(self) -> None:
        self.manager = Proxyserver()
        self.context = taddons.context(self.manager)
        self.heard: list[str] = []
        self._transports: list[MemoryTransport] = []

    def connect(
        self, script: Script, *addons: object, window: int | None = None
    ) -> MemoryTransport:
        starting = Starting(script)
        self.heard = starting.heard
        self.context.master.addons.add(starting, *addons)
        server = ForwardServer(ForwardMode.parse("forward"), self.manager)
        transport = MemoryTransport(server.expect(), window)
        self._transports.append(transport)
        return transport

    async def close(self) -> None:
        for transport in self._transports:
            transport.abort()
        await settle()
        await self.context.master.done()

    @property
    def handler(self) -> ClientHandler:
        (handler,) = self.manager.connections.values()
        assert isinstance(handler, ClientHandler)
        return handler

    def is_over(self) -> bool:
        return not self.manager.connections


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    stage = Stage()
    yield stage
    await stage.close()


async def until(transport: MemoryTransport, holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not holds():
            transport.changed.clear()
            await transport.changed.wait()


async def settle() -> None:
    """Tasks that wait for nothing get to their end."""
    for _ in range(10):
        await asyncio.sleep(0)


class TestEvents:
    async def test_what_is_heard_is_answered_at_once(self, stage: Stage) -> None:
        transport = stage.connect(echo)
        transport.say(b"hello")
        assert transport.taken == b"hello"
        assert stage.heard == ["Start", "DataReceived"]

    async def test_a_layer_that_fails_is_told_of_and_the_connection_ends(
        self, stage: Stage, caplog: pytest.LogCaptureFixture
    ) -> None:
        """What comes after bytes that were lost would be taken for what it is not."""

        def fail(layer: Layer, data: bytes) -> Iterator[commands.Command]:
            if data == b"2":
                raise ZeroDivisionError
            yield from echo(layer, data)

        transport = stage.connect(fail)
        for said in (b"1", b"2"):
            transport.say(said)
        assert "ZeroDivisionError" in caplog.text
        assert transport.taken == b"1"
        assert transport.is_aborted
        assert stage.heard[-1] == "ConnectionClosed"
        await settle()
        assert stage.is_over()

    async def test_timers_ring(self, stage: Stage) -> None:
        def wake(layer: Layer, data: bytes) -> Iterator[commands.Command]:
            yield commands.RequestWakeup(0)

        stage.connect(wake).say(b"x")
        await asyncio.sleep(0.01)
        assert stage.heard[-1] == "Wakeup"

    async def test_not_after_the_end(self, stage: Stage) -> None:
        def wake(layer: Layer, data: bytes) -> Iterator[commands.Command]:
            yield commands.RequestWakeup(0)
            yield commands.CloseConnection(layer.context.client)

        stage.connect(wake).say(b"x")
        await asyncio.sleep(0.01)
        assert "Wakeup" not in stage.heard

    async def test_messages_are_logged(
        self, stage: Stage, caplog: pytest.LogCaptureFixture
    ) -> None:
        def log(layer: Layer, data: bytes) -> Iterator[commands.Command]:
            yield commands.Log(data.decode(), logging.WARNING)

        stage.connect(log).say(b"mind the gap")
        assert "mind the gap" in caplog.text


class Asked:
    def __init__(self, *, is_broken: bool = False, gate: asyncio.Event | None = None) -> None:
        self._is_broken = is_broken
        self._gate = gate

    def ask(self, said: list[str]) -> None:
        self._say(said)

    async def tell(self, said: list[str]) -> None:
        if self._gate is not None:
            await self._gate.wait()
        self._say(said)

    def _say(self, said: list[str]) -> None:
        if self._is_broken:
            raise ZeroDivisionError
        said.append("addon")


class Asking(Asked):
    """As an addon that must wait to know."""

    async def ask(self, said: list[str]) -> None:  # type: ignore[override]
        await asyncio.sleep(0)
        self._say(said)


def ask_then(said: list[str]) -> Script:
    def script(layer: Layer, data: bytes) -> Iterator[commands.Command]:
        yield AskHook(said)
        said.append("layer")

    return script


class TestHooks:
    @pytest.mark.parametrize(
        ("addons", "expected"),
        [
            ([], ["layer"]),
            ([Asked()], ["addon", "layer"]),
            ([Asking()], ["addon", "layer"]),
            ([Asked(), Asking()], ["addon", "addon", "layer"]),
            ([Asked(is_broken=True)], ["layer"]),
            ([Asking(is_broken=True)], ["layer"]),
        ],
        ids=["nobody", "at once", "later", "several", "broken", "broken later"],
    )
    async def test_a_layer_goes_on_when_addons_have_had_their_say(
        self, stage: Stage, addons: list[object], expected: list[str]
    ) -> None:
        said: list[str] = []
        stage.connect(ask_then(said), *_named(addons)).say(b"x")
        await settle()
        assert said == expected

    async def test_what_fails_is_told_of(
        self, stage: Stage, caplog: pytest.LogCaptureFixture
    ) -> None:
        stage.connect(ask_then([]), Asked(is_broken=True)).say(b"x")
        assert "Addon error" in caplog.text
        assert "ZeroDivisionError" in caplog.text

    async def test_nobody_waits_for_some(self, stage: Stage) -> None:
        gate, said = asyncio.Event(), list[str]()

        def script(layer: Layer, data: bytes) -> Iterator[commands.Command]:
            yield TellHook(said)
            said.append("layer")

        transport = stage.connect(script, Asked(gate=gate))
        transport.say(b"x")
        assert said == ["layer"]
        gate.set()
        await settle()
        assert said == ["layer", "addon"]

    async def test_each_may_lead_to_the_next(self, stage: Stage) -> None:
        """Without end: not even the stack ends it."""
        said: list[str] = []

        def script(layer: Layer, data: bytes) -> Iterator[commands.Command]:
            for _ in range(3000):
                yield AskHook(said)

        stage.connect(script, Asked()).say(b"x")
        for _ in range(3000):
            await asyncio.sleep(0)
        assert len(said) == 3000


def _named(addons: list[object]) -> Iterator[object]:
    """Mitmproxy wants each to have a name of its own."""
    for number, addon in enumerate(addons):
        addon.name = f"addon-{number}"  # type: ignore[attr-defined]  # where it looks for it
        yield addon


class Greeter:
    """An addon that looks at each client first."""

    def __init__(self, error: str | None = None) -> None:
        self.error = error
        self.gate = asyncio.Event()
        self.seen: list[str] = []

    async def client_connected(self, client: Client) -> None:
        self.seen.append("connected")
        await self.gate.wait()
        client.error = self.error

    def client_disconnected(self, client: Client) -> None:
        self.seen.append("disconnected")


class TestGreeting:
    async def test_nothing_is_read_before(self, stage: Stage) -> None:
        greeter = Greeter()
        transport = stage.connect(echo, greeter)
        assert not transport.is_reading()
        greeter.gate.set()
        await until(transport, transport.is_reading)
        transport.say(b"x")
        assert transport.taken == b"x"

    async def test_who_is_not_wanted_is_not_heard(self, stage: Stage) -> None:
        greeter = Greeter("not you")
        transport = stage.connect(echo, greeter)
        greeter.gate.set()
        await until(transport, transport.is_closing)
        await settle()
        assert stage.heard == []
        assert greeter.seen == ["connected", "disconnected"]
        assert stage.is_over()


class TestEnd:
    async def test_the_client_leaves(self, stage: Stage) -> None:
        transport = stage.connect(echo)
        transport.say(b"x")
        transport.leave()
        assert stage.heard == ["Start", "DataReceived", "ConnectionClosed"]
        assert transport.is_closing()
        assert stage.is_over()

    async def test_the_connection_breaks(self, stage: Stage) -> None:
        transport = stage.connect(echo)
        transport.say(b"x")
        transport.leave(ConnectionResetError())
        await settle()
        assert stage.heard == ["Start", "DataReceived", "ConnectionClosed"]
        assert stage.is_over()

    async def test_a_layer_ends_it_and_what_it_said_before_arrives(self, stage: Stage) -> None:
        def part(layer: Layer, data: bytes) -> Iterator[commands.Command]:
            yield commands.SendData(layer.context.client, b"bye")
            yield commands.CloseConnection(layer.context.client)
            yield commands.SendData(layer.context.client, b"!")

        transport = stage.connect(part)
        transport.say(b"x")
        assert transport.taken == b"bye"
        assert stage.is_over()
        assert stage.heard[-1] == "ConnectionClosed"

    async def test_a_layer_says_no_more_but_hears_on(self, stage: Stage) -> None:
        def half(layer: Layer, data: bytes) -> Iterator[commands.Command]:
            yield from echo(layer, data) if data == b"x" else ()
            yield commands.CloseTcpConnection(layer.context.client, half_close=True)
            yield from echo(layer, b"!")

        transport = stage.connect(half)
        transport.say(b"x")
        assert transport.is_eof
        assert not transport.is_closing()
        transport.say(b"y")
        assert stage.heard[-1] == "DataReceived"
        assert transport.taken == b"x"
        transport.leave()
        assert stage.is_over()

    async def test_silence_ends_it(self, stage: Stage) -> None:
        stage.context.options.tcp_timeout = 0
        transport = stage.connect(echo)
        await until(transport, transport.is_closing)
        assert stage.is_over()

    async def test_what_still_happens_for_it_comes_to_nothing(self, stage: Stage) -> None:
        transport = stage.connect(echo)
        handler = stage.handler
        transport.leave()
        await handler.server_event(events.DataReceived(handler.client, b"late"))
        assert transport.taken == b""


async def test_a_client_that_takes_nothing_is_not_heard_meanwhile(stage: Stage) -> None:
    transport = stage.connect(echo, window=0)
    transport.say(bytes(70_000))
    assert not transport.is_reading()
    transport.take(70_000)
    await until(transport, transport.is_reading)
    assert len(transport.taken) == 70_000


class TestServers:
    async def test_bytes_come_back_and_they_end_with_the_client(self, stage: Stage) -> None:
        ended = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.readexactly(4))
            await reader.read()
            writer.close()
            ended.set()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            address = server.sockets[0].getsockname()[:2]

            def relay(layer: Layer, data: bytes) -> Iterator[commands.Command]:
                layer.context.server.address = address
                yield commands.OpenConnection(layer.context.server)
                yield commands.SendData(layer.context.server, data)
                layer.script = echo  # type: ignore[attr-defined]

            transport = stage.connect(relay)
            transport.say(b"ping")
            await until(transport, lambda: transport.taken == b"ping")
            transport.leave()
            async with asyncio.timeout(PATIENCE_S):
                await ended.wait()
        assert stage.is_over()

    async def test_one_that_takes_nothing_does_not_hold_its_connection(self, stage: Stage) -> None:
        stage.context.options.tcp_timeout = 1
        over = asyncio.Event()

        async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await over.wait()
            writer.transport.abort()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            address = server.sockets[0].getsockname()[:2]

            def flood(layer: Layer, data: bytes) -> Iterator[commands.Command]:
                layer.context.server.address = address
                yield commands.OpenConnection(layer.context.server)
                yield commands.SendData(layer.context.server, bytes(32 << 20))
                yield commands.SendData(layer.context.client, b"done")

            transport = stage.connect(flood)
            handler = stage.handler
            transport.say(b"x")
            await until(transport, lambda: transport.taken == b"done")
            _, io = handler.transports.values()
            assert isinstance(io.writer, asyncio.StreamWriter)
            transport.leave()
            asyncio.get_running_loop().call_later(PATIENCE_S, over.set)
            async with asyncio.timeout(PATIENCE_S):
                while io.writer.transport.get_write_buffer_size():  # noqa: ASYNC110 - nobody tells of it
                    await asyncio.sleep(0.01)
            over.set()


class TestLayers:
    """Those of the proxy: the first ones choose, and are passed by then."""

    @pytest.fixture
    async def house(self) -> AsyncIterator[House]:
        house = House()
        yield house
        await house.context.master.done()

    @staticmethod
    async def until_settled(house: House, said: bytes) -> tuple[Layer, Layer]:
        server = ForwardServer(ForwardMode.parse("forward"), house.server)
        transport = MemoryTransport(server.expect())
        (handler,) = house.server.connections.values()
        first = handler.layer
        transport.say(said)
        await settle()
        last = handler.layer
        transport.abort()
        await settle()
        return first, last

    @pytest.mark.parametrize(
        ("said", "kind"),
        [
            (b"GET /healthz HTTP/1.1\r\nHost: proxy\r\n\r\n", HttpLayer),
            (b"CONNECT registry.test:443 HTTP/1.1\r\n\r\n" + CLIENT_HELLO, ClientTlsLayer),
        ],
        ids=["plain", "tls"],
    )
    async def test_they_are_passed_by(self, house: House, said: bytes, kind: type[Layer]) -> None:
        first, last = await self.until_settled(house, said)
        assert isinstance(first, modes.HttpProxy)
        assert isinstance(last, kind)

    async def test_not_before_one_is_chosen(self, house: House) -> None:
        first, last = await self.until_settled(house, b"CONNECT registry.test:443 HTTP/1.1\r\n\r\n")
        assert last is first

    async def test_who_stands_in_for_them_is_left_there(self, house: House) -> None:
        """As the fast lane does from the first request on."""
        room = RegistryTop(make_context())
        answered = house.addon.entrepot_exchange

        async def stand_in(exchange: ClientExchange) -> None:
            house.server.connections[exchange.context.client.id].layer = room
            await answered(exchange)

        house.addon.entrepot_exchange = stand_in  # type: ignore[method-assign]  # for this test
        _, last = await self.until_settled(house, b"GET /healthz HTTP/1.1\r\nHost: p\r\n\r\n")
        assert last is room
