"""Clients' connections as asyncio tells of them, and servers that take them so."""

import asyncio
from collections.abc import Callable

from mitmproxy.proxy.mode_servers import AsyncioServerInstance
from mitmproxy.proxy.mode_specs import ProxyMode
from mitmproxy_rs.udp import UdpServer
from mitmproxy_rs.wireguard import WireGuardServer

from entrepot.interception.client_handler import ClientHandler

# Of connections that wait to be taken: all nodes of a cluster may come at once.
_BACKLOG = 1024


class ClientProtocol(asyncio.StreamReaderProtocol):
    """A stream's, for whoever drains the writer; but what comes goes to the handler at once."""

    def __init__(
        self, meet: Callable[[asyncio.Transport, "ClientProtocol"], ClientHandler]
    ) -> None:
        super().__init__(None)  # type: ignore[arg-type]  # does without, as after a stream's end
        self._meet = meet
        self._handler: ClientHandler | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert isinstance(transport, asyncio.Transport)
        self._handler = self._meet(transport, self)

    def data_received(self, data: bytes) -> None:
        if self._handler is not None:
            self._handler.data_received(data)

    def eof_received(self) -> bool:
        if self._handler is not None:
            self._handler.eof_received()
        return True  # what is left to say is said

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._handler is not None:
            self._handler.connection_lost()
            self._handler = None


class DirectServer[Mode: ProxyMode](AsyncioServerInstance[Mode]):
    """mitmproxy's server of a mode, whose connections have no tasks of their own."""

    async def listen(
        self, host: str, port: int
    ) -> list[asyncio.Server | UdpServer | WireGuardServer]:
        if port == 0:  # mitmproxy looks for one that is free in IPv4 and IPv6, and asks again
            return await super().listen(host, port)
        loop = asyncio.get_running_loop()
        return [await loop.create_server(self.expect, host, port, backlog=_BACKLOG)]

    def expect(self) -> ClientProtocol:
        return ClientProtocol(self._meet)

    def _meet(self, transport: asyncio.Transport, protocol: ClientProtocol) -> ClientHandler:
        writer = asyncio.StreamWriter(transport, protocol, None, asyncio.get_running_loop())
        handler = ClientHandler(
            transport, writer, self.mode, self.manager, make_layer=self.make_top_layer
        )
        handler.begin()
        return handler
