"""The ways from an exchange to its client's connection: through the layers, then drained, which is
always right; and past them, for what is in a file.
"""

import asyncio
import fcntl
import functools
import os
import struct
import termios
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from mitmproxy.proxy.server import ConnectionHandler
from OpenSSL import SSL

from entrepot.config.model import Clients
from entrepot.engine.body import Window
from entrepot.interception.http_layer import ClientExchange, ExchangeEnded, Output
from entrepot.interception.lane import WORTH_IT, Lane, Stint, WaitingRoom
from entrepot.interception.request_body import STEP

_INT = struct.Struct("i")


@dataclass(frozen=True, slots=True)
class Bypass:
    """How the lane gets past the layers: what it writes is TLS of `tls`, or plain."""

    lane: Lane
    tls: SSL.Connection | None


class ClientPort:
    def __init__(
        self, handler: ConnectionHandler, settings: Clients, *, is_draining: Callable[[], bool]
    ) -> None:
        self._handler = handler
        self.idle_timeout_s = float(settings.idle_timeout)
        self._send_timeout_s = float(settings.send_timeout)
        self._is_draining = is_draining
        peername = handler.client.peername
        self.client = peername[0] if peername else ""

    @property
    def is_draining(self) -> bool:
        """The proxy is stopping: connections are not kept."""
        return self._is_draining()

    @property
    def _transport(self) -> asyncio.WriteTransport | None:
        connection = self._handler.transports.get(self._handler.client)
        writer = connection.writer if connection else None
        return writer.transport if isinstance(writer, asyncio.StreamWriter) else None

    async def send(self, exchange: ClientExchange, data: bytes) -> None:
        """Return when the client has taken all but what the kernel holds."""
        transport = self._transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client went away")
        transport.set_write_buffer_limits(0)  # `drain` then means: all is with the kernel
        await self._handler.server_event(Output(exchange, data))
        await self.drained()

    async def drained(self) -> None:
        """Return when what was sent is with the kernel."""
        transport = self._transport
        if transport is None:
            raise ConnectionResetError("the client went away")
        while transport.get_write_buffer_size():  # layers may have spoken since it was empty
            transport.set_write_buffer_limits(0)
            connection = self._handler.transports.get(self._handler.client)
            if connection is None or not isinstance(connection.writer, asyncio.StreamWriter):
                raise ConnectionResetError("the client went away")
            await self._drain(connection.writer)

    def bypass(self, exchange: ClientExchange, lane: Lane) -> Bypass | None:
        """None where there is no socket, or what is between it and the exchange is not known."""
        transport = self._transport
        if transport is None or transport.get_extra_info("socket") is None:
            return None
        between = [getattr(layer, "tls", None) for layer in exchange.context.layers]
        match [each for each in between if each is not None]:
            case [] if exchange.place.scheme == "http":
                return Bypass(lane, None)
            case [SSL.Connection() as tls] if exchange.place.scheme == "https":
                return Bypass(lane, tls)
        return None

    async def send_from(self, bypass: Bypass, window: Window, step: int) -> int:
        """How much of it was sent; at 0 it is the layers' turn. Unlike `send`, it may leave as much
        as a step to be drained.
        """
        await self.drained()
        if window.size < WORTH_IT:
            return 0
        transport = self._transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client went away")
        # Its own descriptor: the number of one that the transport closes is soon another's.
        descriptor = os.dup(transport.get_extra_info("socket").fileno())
        try:
            stint = Stint(window, descriptor, bypass.tls, step=step)
            async with self._layers_waiting(stint):
                sent = await bypass.lane.run(stint)
                if sent.rest:
                    transport.set_write_buffer_limits(0)
                    transport.write(sent.rest)
        finally:
            os.close(descriptor)
        return sent.count

    @asynccontextmanager
    async def _layers_waiting(self, stint: Stint) -> AsyncIterator[None]:
        """What is written meanwhile comes before anything that they say afterwards."""
        handler = self._handler
        room = WaitingRoom(stint, lambda: self.pace(False))
        layers = handler.layer
        handler.layer = room  # type: ignore[assignment]  # as much of a layer as handlers use
        handler.timeout_watchdog.register_activity()
        try:
            yield
        finally:
            handler.layer = layers
            handler.timeout_watchdog.register_activity()
            for event in room.events:
                await handler.server_event(event)
            if room.is_full:
                self.pace(True)

    async def _drain(self, writer: asyncio.StreamWriter) -> None:
        """A client may be slow; one that takes nothing for so long is given up."""
        while True:
            left = _not_taken(writer.transport)
            try:
                async with asyncio.timeout(self._send_timeout_s):
                    return await writer.drain()
            except TimeoutError:
                if _not_taken(writer.transport) >= left:
                    raise TimeoutError("the client reads nothing") from None
                self._handler.timeout_watchdog.register_activity()

    async def end(self, exchange: ClientExchange, *, keep_alive: bool) -> None:
        await self._handler.server_event(ExchangeEnded(exchange, keep_alive))

    def abort(self) -> None:
        transport = self._transport
        if transport is not None:
            transport.abort()

    def widen(self) -> None:
        """For a connection that carries a layer up: mitmproxy reads 64 KiB at a time, and each time
        passes its layers, its locks and all writers. Four times as much at once takes a third off
        what an upload costs (bench/push.py).
        """
        connection = self._handler.transports.get(self._handler.client)
        reader = connection.reader if connection else None
        if isinstance(reader, asyncio.StreamReader):
            read = functools.partial(asyncio.StreamReader.read, reader)
            # Of this one reader: who reads from it has it in hand already.
            reader.read = lambda n=-1: read(n if n < 0 else max(n, STEP))  # type: ignore[method-assign]

    def pace(self, may_read: bool) -> None:  # noqa: FBT001 - a switch, called by position
        transport = self._transport
        if isinstance(transport, asyncio.Transport) and not transport.is_closing():
            if may_read:
                transport.resume_reading()
            else:
                transport.pause_reading()


def _not_taken(transport: asyncio.WriteTransport) -> int:
    """With what the kernel holds: it asks for more when a third of that is gone, which for several
    MB and a slow client takes longer than anybody would wait.
    """
    size = transport.get_write_buffer_size()
    socket = transport.get_extra_info("socket")
    if socket is None or transport.is_closing():
        return size
    queued = bytearray(_INT.size)
    try:
        fcntl.ioctl(socket.fileno(), termios.TIOCOUTQ, queued)
    except OSError:  # not a system that tells
        return size
    held: int = _INT.unpack(queued)[0]
    return size + held
