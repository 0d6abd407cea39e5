"""Exchanges over real sockets, with and without TLS: mitmproxy's handler, our layers, a lane."""

import asyncio
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layer import Layer
from mitmproxy.proxy.layers import modes
from mitmproxy.tls import TlsData
from OpenSSL import SSL

from entrepot.config.model import Clients
from entrepot.engine.message import Exchange, Request, Response
from entrepot.interception.client_port import ClientPort
from entrepot.interception.exchange import ExchangeRunner
from entrepot.interception.http_layer import ClientExchange, Entrance, HttpLayer, Place
from entrepot.interception.tls import ClientTls, ClientTlsLayer
from tests.interception.leaves import HOST, Leaves
from tests.interception.line import Handler
from tests.interception.stage import GET, OWN, REGISTRY

_PATIENCE_S = 20.0
_RECEIVED = 128 << 10


class Watched(SSL.Connection):
    """Tells when two use it at a time, and who does."""

    clashes: list[str]
    users: set[str]
    in_use: threading.Lock

    def sendall(self, buf: Any, flags: int = 0) -> int:
        return self._alone("sendall", lambda: super(Watched, self).sendall(buf, flags))

    def recv(self, bufsiz: int, flags: int | None = None) -> bytes:
        return self._alone("recv", lambda: super(Watched, self).recv(bufsiz, flags))

    def bio_read(self, bufsiz: int) -> bytes:
        return self._alone("bio_read", lambda: super(Watched, self).bio_read(bufsiz))

    def bio_write(self, buf: Any) -> int:
        return self._alone("bio_write", lambda: super(Watched, self).bio_write(buf))

    def _alone[T](self, name: str, use: Callable[[], T]) -> T:
        self.users.add(threading.current_thread().name)
        if not self.in_use.acquire(blocking=False):
            self.clashes.append(name)
            return use()
        try:
            return use()
        finally:
            self.in_use.release()


@dataclass
class Client:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def ask(self, request: bytes = GET) -> bytes:
        """The answer's head."""
        self.writer.write(request)
        return await self.head()

    async def head(self) -> bytes:
        async with asyncio.timeout(_PATIENCE_S):
            return await self.reader.readuntil(b"\r\n\r\n")

    async def read(self, size: int) -> bytes:
        async with asyncio.timeout(_PATIENCE_S):
            return await self.reader.readexactly(size)

    async def rest(self) -> bytes:
        """All that comes before the connection ends, in whatever way."""
        taken = bytearray()
        async with asyncio.timeout(_PATIENCE_S):
            with suppress(OSError):
                while piece := await self.reader.read(1 << 20):
                    taken += piece
        return bytes(taken)


@dataclass
class Street:
    """A listening server; `answer` says what each request gets."""

    answer: Callable[[Request], Awaitable[Response]]
    is_tls: bool = True
    clients: Clients = field(default_factory=Clients)
    version: ssl.TLSVersion | None = None

    def __post_init__(self) -> None:
        self.observed: list[Exchange] = []
        self.clashes: list[str] = []
        self.users: set[str] = set()
        self.handlers: list[Handler] = []
        self.exchanges: list[ClientExchange] = []
        self.runner = ExchangeRunner(self._respond, self.observed.append)
        self._leaves = Leaves()
        self._client_tls = ClientTls(self._leaves.leaf)
        self._address = ("", 0)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._address = server.sockets[0].getsockname()
        async with server:
            yield
        async with asyncio.timeout(_PATIENCE_S):
            await self.runner.wait_for_running()
        self.runner.lane.close()

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        context = self._leaves.trusting() if self.is_tls else None
        if context is not None and self.version is not None:
            context.minimum_version = context.maximum_version = self.version
        connected = socket.socket()
        # Else the kernel alone would take all that a test sends.
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVED)
        connected.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connected, self._address)
        reader, writer = await asyncio.open_connection(
            sock=connected, ssl=context, server_hostname=HOST if context else None
        )
        try:
            yield Client(reader, writer)
        finally:
            writer.transport.abort()

    async def ended(self, count: int = 1) -> None:
        """Until so many exchanges were observed, and what they used was given back."""
        async with asyncio.timeout(_PATIENCE_S):
            while len(self.observed) < count or self.runner.running:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.001)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        addon = _Addon(self)
        addon.handler = Handler(reader, writer, addon, self._layer)
        self.handlers.append(addon.handler)
        await addon.handler.handle_client()

    def _layer(self, context: Context) -> Layer:
        place: Place = REGISTRY if self.is_tls else OWN
        if not self.is_tls:
            return HttpLayer(context, place, header_timeout_s=60)
        modes.HttpProxy(context)  # which mitmproxy's layer of TLS looks for in the context
        tls = ClientTlsLayer(context, is_host_known=True)
        tls.child_layer = HttpLayer(context, place, header_timeout_s=60)
        return tls

    def tls(self) -> SSL.Connection:
        connection = self._client_tls.connection(HOST)
        connection.__class__ = Watched
        assert isinstance(connection, Watched)
        connection.in_use = threading.Lock()
        connection.clashes, connection.users = self.clashes, self.users
        return connection

    async def _respond(self, request: Request, entrance: Entrance) -> Response:
        return await self.answer(request)


class _Addon:
    handler: Handler

    def __init__(self, street: Street) -> None:
        self._street = street

    def tls_start_client(self, data: TlsData) -> None:
        data.ssl_conn = self._street.tls()

    async def entrepot_exchange(self, exchange: ClientExchange) -> None:
        street = self._street
        street.exchanges.append(exchange)
        port = ClientPort(self.handler, street.clients, is_draining=lambda: False)
        await street.runner.run(exchange, port)
