"""On loopback: what asyncio tells of a connection."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from mitmproxy.proxy.mode_specs import ProxyMode

from entrepot.interception.registry_mode import FORWARD, ForwardServer
from tests.interception.test_client_handler import Stage, Starting, echo

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


def test_the_mode_takes_no_arguments() -> None:
    with pytest.raises(ValueError, match="no arguments"):
        ProxyMode.parse(f"{FORWARD}:x@443")
