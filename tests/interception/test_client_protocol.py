"""On loopback: what asyncio tells of a connection."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator

import pytest
from mitmproxy.proxy import commands
from mitmproxy.proxy.layer import Layer
from mitmproxy.proxy.mode_specs import ProxyMode

from entrepot.interception.client_protocol import ClientProtocol
from entrepot.interception.registry_mode import FORWARD, ForwardMode, ForwardServer
from tests.interception.test_client_handler import PATIENCE_S, Stage, Starting, echo

LOOPBACK = "127.0.0.1"


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    stage = Stage()
    yield stage
    await stage.close()


@pytest.mark.parametrize("host", [LOOPBACK, "localhost"])
async def test_what_is_said_there_comes_back(stage: Stage, host: str) -> None:
    stage.context.master.addons.add(Starting(echo))
    mode = ProxyMode.parse(f"{FORWARD}@{host}:0")
    server = ForwardServer.make(mode, stage.manager)
    await server.start()
    assert len({port for _, port, *_ in server.listen_addrs}) == 1
    reader, writer = await asyncio.open_connection(host, server.listen_addrs[0][1])
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    writer.write_eof()
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
    await server.stop()
    assert stage.is_over()


@pytest.mark.parametrize("leaves", [True, False], ids=["half-closed", "silent"])
async def test_one_that_takes_nothing_does_not_hold_its_connection(
    stage: Stage, *, leaves: bool
) -> None:
    """What was said to it is still here when its connection ends."""
    lost = asyncio.Event()

    def flood(layer: Layer, data: bytes) -> Iterator[commands.Command]:
        yield commands.SendData(layer.context.client, bytes(32 << 20))

    class Protocol(ClientProtocol):
        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            lost.set()

    stage.context.master.addons.add(Starting(flood))
    stage.context.options.tcp_timeout = 1
    server = ForwardServer(ForwardMode.parse(FORWARD), stage.manager)
    loop = asyncio.get_running_loop()
    async with await loop.create_server(lambda: Protocol(server._meet), LOOPBACK, 0) as listening:
        with socket.create_connection(listening.sockets[0].getsockname()) as client:
            client.sendall(b"x")
            if leaves:
                client.shutdown(socket.SHUT_WR)
            async with asyncio.timeout(PATIENCE_S):
                await lost.wait()
    assert stage.is_over()


def test_the_mode_takes_no_arguments() -> None:
    with pytest.raises(ValueError, match="no arguments"):
        ProxyMode.parse(f"{FORWARD}:x@443")
