"""The way from an exchange to its client's connection: through the layers, then drained.

The seam of the data path: `send` goes through mitmproxy's TLS layer a chunk at a time. A faster
lane for bodies that name a file would take the socket and the TLS object from here.
"""

import asyncio
import functools
from collections.abc import Callable

from mitmproxy.proxy.server import ConnectionHandler

from entrepot.config.model import Clients
from entrepot.interception.http_layer import ClientExchange, ExchangeEnded, Output
from entrepot.interception.request_body import STEP


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
        if transport.get_write_buffer_size():
            connection = self._handler.transports.get(self._handler.client)
            if connection is None or not isinstance(connection.writer, asyncio.StreamWriter):
                raise ConnectionResetError("the client went away")
            await self._drain(connection.writer)

    async def _drain(self, writer: asyncio.StreamWriter) -> None:
        """A client may be slow; one that takes nothing for so long is given up."""
        while True:
            left = writer.transport.get_write_buffer_size()
            try:
                async with asyncio.timeout(self._send_timeout_s):
                    return await writer.drain()
            except TimeoutError:
                if writer.transport.get_write_buffer_size() >= left:
                    raise TimeoutError("the client reads nothing") from None

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
