"""On loopback: to listen is what it is for."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from mitmproxy import ctx
from mitmproxy.log import LegacyLogEvents

from entrepot.config.convert import parse_address
from entrepot.errors import ConfigError
from entrepot.interception.addon import listening_ports, open_connections, registry_ports
from entrepot.interception.master import ProxyMaster, listen_for_registries
from entrepot.interception.registry_mode import RegistryMode, spec_of
from tests.interception.house import House

LOOPBACK, OTHER = "127.0.0.1", "127.0.0.2"  # two of the same with port 0 were one to mitmproxy


@asynccontextmanager
async def running(registry_listen: str = "") -> AsyncIterator[ProxyMaster]:
    house = House()
    await house.context.master.done()
    house.front.peer = LOOPBACK
    master = ProxyMaster(house.addon, f"{LOOPBACK}:0", registry_listen, idle_timeout_s=2.5)
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
        assert (await page(port)).endswith(b"PAGES /healthz")
        assert open_connections() <= 1


async def test_idle_connections_are_given_so_long() -> None:
    async with running():
        assert ctx.options.tcp_timeout == 2


async def test_lines_of_the_log_are_nobody_s_business() -> None:
    async with running():
        handlers = logging.getLogger().handlers
        assert not [each for each in handlers if isinstance(each, LegacyLogEvents)]


async def test_no_new_connections_when_it_stops_listening() -> None:
    async with running() as master:
        (port,) = listening_ports()
        await master.stop_listening()
        assert listening_ports() == frozenset()
        with pytest.raises(ConnectionRefusedError):
            await page(port)


@pytest.mark.parametrize("setting", ["listen", "registry_listen"])
async def test_a_port_that_is_taken(setting: str) -> None:
    house = House()
    await house.context.master.done()
    with socket.create_server((LOOPBACK, 0)) as taken:
        address = f"{LOOPBACK}:{taken.getsockname()[1]}"
        free = f"{LOOPBACK}:0"
        addresses = (address, "") if setting == "listen" else (free, address)
        master = ProxyMaster(house.addon, *addresses, idle_timeout_s=300)
        said = f"cannot listen on {address} .* setting {setting}\\): Address already in use$"
        with pytest.raises(ConfigError, match=said):
            await master.listen()
        assert listening_ports() == frozenset()  # nor does the other
    await master._master.done()


async def test_the_same_address_twice() -> None:
    house = House()
    await house.context.master.done()
    with pytest.raises(ConfigError, match=r"listen and registry_listen are both \*:3128"):
        ProxyMaster(house.addon, "*:3128", "*:3128", idle_timeout_s=300)


class TestRegistryPort:
    async def test_it_is_another(self) -> None:
        async with running(f"{OTHER}:0"):
            (port,) = registry_ports()
            assert listening_ports().isdisjoint({port})
            assert (await page(port, OTHER)).endswith(b"REGISTRY /healthz")

    async def test_it_ends_with_the_other(self) -> None:
        async with running(f"{OTHER}:0") as master:
            (port,) = registry_ports()
            await master.stop_listening()
            assert registry_ports() == frozenset()
            with pytest.raises(ConnectionRefusedError):
                await page(port, OTHER)

    async def test_there_is_none_unless_it_is_wanted(self) -> None:
        async with running():
            assert registry_ports() == frozenset()

    async def test_in_a_mitmproxy_of_others(self) -> None:
        async with running():
            await listen_for_registries(f"{OTHER}:0")
            (port,) = registry_ports()
            assert (await page(port, OTHER)).endswith(b"REGISTRY /healthz")
            assert len(listening_ports()) == 1

    async def test_in_a_mitmproxy_of_others_where_the_port_is_taken(self) -> None:
        async with running():
            with socket.create_server((LOOPBACK, 0)) as taken:
                address = f"{LOOPBACK}:{taken.getsockname()[1]}"
                with pytest.raises(ConfigError, match=f"{address} .* already in use"):
                    await listen_for_registries(address)


@pytest.mark.parametrize(
    ("address", "spec"),
    [
        ("*:443", "registry@:443"),
        ("127.0.0.1:443", "registry@127.0.0.1:443"),
        ("[::1]:8443", "registry@::1:8443"),
    ],
)
def test_addresses_as_mitmproxy_writes_them(address: str, spec: str) -> None:
    mode = RegistryMode.parse(spec_of(address))
    assert mode.full_spec == spec
    host, port = parse_address(address)
    assert (mode.listen_host("default"), mode.listen_port(1)) == (host, port)


def test_the_mode_takes_no_arguments() -> None:
    with pytest.raises(ValueError, match="no arguments"):
        RegistryMode.parse("registry:x@443")
