"""On loopback: to listen is what it is for."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from mitmproxy import ctx

from entrepot.errors import ConfigError
from entrepot.interception.addon import listening_ports, open_connections
from entrepot.interception.master import ProxyMaster
from tests.interception.house import House

LOOPBACK = "127.0.0.1"


@asynccontextmanager
async def running(host: str = LOOPBACK) -> AsyncIterator[ProxyMaster]:
    house = House()
    await house.context.master.done()
    house.front.peer = LOOPBACK
    master = ProxyMaster(house.addon, host, 0, idle_timeout_s=2.5)
    await master.listen()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(master.run())
        await asyncio.sleep(0)
        try:
            yield master
        finally:
            await master.stop_listening()
            master.shutdown()


async def page(port: int, host: str = LOOPBACK) -> bytes:
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: proxy\r\nConnection: close\r\n\r\n")
    data = await reader.read()
    writer.close()
    await writer.wait_closed()
    return data


async def test_it_listens_and_serves() -> None:
    async with running():
        (port,) = listening_ports()
        assert (await page(port)).endswith(b"True /healthz")
        assert open_connections() <= 1


async def test_idle_connections_are_given_so_long() -> None:
    async with running():
        assert ctx.options.tcp_timeout == 2


async def test_no_new_connections_when_it_stops_listening() -> None:
    async with running() as master:
        (port,) = listening_ports()
        await master.stop_listening()
        assert listening_ports() == frozenset()
        with pytest.raises(ConnectionRefusedError):
            await page(port)


async def test_a_port_that_is_taken() -> None:
    house = House()
    await house.context.master.done()
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
        master = ProxyMaster(house.addon, LOOPBACK, port, idle_timeout_s=300)
        with pytest.raises(ConfigError, match=f"{LOOPBACK}:{port} .* Address already in"):
            await master.listen()
    await master._master.done()
