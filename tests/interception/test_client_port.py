import asyncio
import socket

import pytest
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.events import DataReceived, Event
from mitmproxy.proxy.layer import Layer
from mitmproxy.proxy.server import ConnectionIO

from entrepot.config.kinds import Seconds
from entrepot.config.model import Clients
from entrepot.engine.message import Response
from entrepot.interception.client_port import ClientPort
from entrepot.interception.http_layer import ClientExchange, HttpLayer
from entrepot.interception.request_body import STEP
from tests.interception.line import Line
from tests.interception.stage import GET, REGISTRY, Given, answering


class Port:
    """Keeps the exchange and the port that the layer's hook gave, for the test to use."""

    def __init__(self, clients: Clients | None = None) -> None:
        self._clients = clients or Clients()
        self._begun: asyncio.Future[ClientExchange] = asyncio.get_running_loop().create_future()
        self.line: Line

    def connect(self, window: int | None = None) -> Line:
        def layer(context: Context) -> Layer:
            return HttpLayer(context, REGISTRY, header_timeout_s=60)

        self.line = Line(layer, self, window=window)
        return self.line

    async def entrepot_exchange(self, exchange: ClientExchange) -> None:
        self._begun.set_result(exchange)

    async def exchange(self) -> tuple[ClientPort, ClientExchange]:
        self.line.say(GET)
        return self.port(), await self._begun

    def port(self) -> ClientPort:
        return ClientPort(self.line.handler, self._clients, is_draining=lambda: False)


class TestSend:
    async def test_it_returns_when_all_is_with_the_kernel(self) -> None:
        port = Port()
        async with port.connect(window=10) as line:
            way, exchange = await port.exchange()
            assert way.client == "192.0.2.7"
            async with asyncio.TaskGroup() as tasks:
                sending = tasks.create_task(way.send(exchange, bytes(30)))
                await line.until(lambda: len(line.transport.taken) == 10)
                line.transport.take(19)
                await asyncio.sleep(0)
                assert not sending.done()
                line.transport.take(1)
            assert len(line.transport.taken) == 30

    async def test_also_what_a_layer_says_as_the_last_of_it_goes(self) -> None:
        """What goes past the layers would come before that."""
        port = Port()
        async with port.connect(window=0) as line:
            way, exchange = await port.exchange()
            async with asyncio.TaskGroup() as tasks:
                sending = tasks.create_task(way.send(exchange, b"1"))
                await line.until(lambda: line.transport.get_write_buffer_size() == 1)
                line.transport.take(1)
                line.transport.write(b"2")
                for _ in range(5):
                    await asyncio.sleep(0)
                assert not sending.done()
                line.transport.take(1)
            assert line.transport.taken == b"12"

    async def test_a_slow_client_is_not_given_up(self) -> None:
        """As long as it takes something between two looks at it."""
        port = Port(Clients(send_timeout=Seconds(0.1)))
        async with port.connect(window=0) as line:
            way, exchange = await port.exchange()
            async with asyncio.TaskGroup() as tasks:
                sending = tasks.create_task(way.send(exchange, bytes(20)))
                while not sending.done():
                    line.transport.take(1)
                    await asyncio.wait([sending], timeout=0.02)
            assert len(line.transport.taken) == 20

    async def test_also_where_the_kernel_asks_for_more_only_later(self) -> None:
        """Its buffer has to be three quarters empty for that."""
        port = Port(Clients(send_timeout=Seconds(0.3)))
        loop = asyncio.get_running_loop()
        theirs, ours = socket.socketpair()
        theirs.setblocking(False)
        async with port.connect() as line:
            way, exchange = await port.exchange()
            _, writer = await asyncio.open_connection(sock=ours)
            connection = line.handler.transports[line.handler.client]
            in_memory, connection.writer = connection.writer, writer
            async with asyncio.TaskGroup() as tasks:
                sending = tasks.create_task(way.send(exchange, bytes(500_000)))
                taken = 0
                while taken < 500_000:
                    taken += len(await loop.sock_recv(theirs, 40_000))
                    await asyncio.wait([sending], timeout=0.12)
            connection.writer = in_memory
            writer.close()
            await writer.wait_closed()
        theirs.close()

    async def test_one_that_takes_nothing_is(self) -> None:
        port = Port(Clients(send_timeout=Seconds(0.01)))
        async with port.connect(window=10):
            way, exchange = await port.exchange()
            with pytest.raises(TimeoutError, match="reads nothing"):
                await way.send(exchange, bytes(30))

    async def test_one_that_is_gone(self) -> None:
        port = Port()
        async with port.connect():
            way, exchange = await port.exchange()
            way.abort()
            with pytest.raises(ConnectionResetError):
                await way.send(exchange, b"x")

    async def test_one_that_goes_while_it_is_sent_to(self) -> None:
        port = Port()
        async with port.connect(window=0) as line:
            way, exchange = await port.exchange()

            async def leave() -> None:
                await line.until(lambda: line.transport.get_write_buffer_size() > 0)
                line.transport.leave(ConnectionResetError("reset"))

            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(leave())
                with pytest.raises(OSError):  # noqa: PT011 - of whichever kind
                    await way.send(exchange, b"x")


async def test_end_says_whether_the_connection_is_kept() -> None:
    port = Port()
    async with port.connect() as line:
        way, exchange = await port.exchange()
        await way.end(exchange, keep_alive=False)
        await line.until(line.transport.is_closing)
        assert not line.transport.is_aborted


async def test_pace_is_the_transport_s() -> None:
    port = Port()
    async with port.connect() as line:
        way = port.port()
        way.pace(False)
        assert not line.transport.is_reading()
        way.pace(True)
        assert line.transport.is_reading()
        way.abort()
        way.pace(False)
        assert line.transport.is_reading()  # there is nothing to read from


async def test_a_wide_one_takes_more_at_once() -> None:
    """Than the 64 KiB that mitmproxy's loop asks for."""
    port = Port()
    async with port.connect() as line:
        reader = line.handler.transports[line.handler.client].reader
        assert isinstance(reader, asyncio.StreamReader)
        port.port().widen()
        sent = b"G" + bytes(2 * STEP)
        seen: list[int] = []
        feed = line.handler.server_event

        async def note(event: Event) -> None:
            if isinstance(event, DataReceived):
                seen.append(len(event.data))
            await feed(event)

        line.handler.server_event = note  # type: ignore[method-assign] # what the loop calls
        line.say(sent)
        await line.until(lambda: sum(seen) == len(sent))
        assert max(seen) == STEP


async def test_without_a_connection_there_is_nothing_to_do() -> None:
    port = Port()
    async with port.connect() as line:
        way, exchange = await port.exchange()
        connected = line.handler.transports[line.handler.client]
        line.handler.transports[line.handler.client] = ConnectionIO(handler=connected.handler)
        way.abort()
        way.pace(False)
        way.widen()
        with pytest.raises(ConnectionResetError):
            await way.send(exchange, b"x")
        assert line.transport.is_reading()
        assert connected.writer is not None  # a writer that is dropped while it is open warns
        line.transport.abort()


async def test_a_client_that_reads_nothing_ends_its_exchange() -> None:
    stage = answering(Response(200, {}, Given(bytes(10)), 10))
    stage.clients = Clients(send_timeout=Seconds(0.01))
    async with stage.line(window=0) as line:
        line.say(GET)
        await line.heard_all()
        assert line.transport.is_aborted
    assert stage.observed[0].trace.error == "the client reads nothing"
