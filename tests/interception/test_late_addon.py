import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from mitmproxy import tls
from mitmproxy.addons.proxyauth import ProxyAuth
from mitmproxy.proxy.layer import NextLayer
from mitmproxy.proxy.layers import modes
from OpenSSL import SSL

from entrepot.config.model import Config
from entrepot.errors import ConfigError
from entrepot.interception.addon import EntrepotAddon, registry_ports
from entrepot.interception.front_layer import ClosedLayer, Destination, FrontLayer, Login
from entrepot.interception.http1 import Head
from entrepot.interception.http_layer import ClientExchange, Place
from entrepot.interception.late_addon import LateAddon
from entrepot.interception.request_body import RequestBody
from entrepot.interception.tunnel import Allowed, Refused
from entrepot.interception.tunnel_layer import Pace
from tests.integration.waiting import eventually
from tests.interception.conversation import PEER, make_context
from tests.interception.house import Front, House
from tests.interception.leaves import HOST


class Late(House):
    """The same, made when mitmproxy says that it runs; `opening` may fail or take its time."""

    def __init__(self) -> None:
        super().__init__()
        self.is_open = False
        self.may_open = asyncio.Event()
        self.may_open.set()
        self.failure: Exception | None = None
        self.late = LateAddon(self._opened)

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[EntrepotAddon]:
        await self.may_open.wait()
        if self.failure is not None:
            raise self.failure
        self.is_open = True
        try:
            yield self.addon
        finally:
            self.is_open = False

    async def run(self) -> None:
        self.late.running()
        await asyncio.sleep(0)
        await asyncio.sleep(0)


@pytest.fixture
async def house() -> AsyncIterator[Late]:
    house = Late()
    yield house
    await house.late.done()
    await house.context.master.done()


def first_layer(house: Late) -> object:
    context = make_context()
    modes.HttpProxy(context)
    asked = NextLayer(context)
    house.late.next_layer(asked)
    assert context.layers[1:] == [asked.layer]
    return asked.layer


def starting_tls() -> tls.TlsData:
    context = make_context()
    modes.HttpProxy(context)
    FrontLayer(context, Front())
    context.server.address = (HOST, 443)
    return tls.TlsData(context.client, context)


async def is_closed(house: Late, caplog: pytest.LogCaptureFixture) -> bool:
    """Every hook of it leads nowhere."""
    destination = Destination("other.test", 443)
    await house.late.entrepot_judge(destination)
    login = Login(PEER, "")
    await house.late.entrepot_login(login)
    data = starting_tls()
    house.late.tls_start_client(data)
    house.late.tls_failed_client(data)
    house.late.entrepot_pace(Pace(data.context.client, may_read=False))
    head = Head("GET", "/", [], is_http10=False, keep_alive=True)
    exchange = ClientExchange(
        head, Place("http", None), RequestBody(is_complete=True), data.context
    )
    await house.late.entrepot_exchange(exchange)
    return (
        isinstance(first_layer(house), ClosedLayer)
        and isinstance(destination.judgement, Refused)
        and isinstance(login.refusal, Refused)
        and data.ssl_conn is None
        and not house.observed
        and not caplog.records
    )


async def test_before_it_runs_connections_are_closed(
    house: Late, caplog: pytest.LogCaptureFixture
) -> None:
    assert await is_closed(house, caplog)


async def test_so_they_are_while_it_starts(house: Late, caplog: pytest.LogCaptureFixture) -> None:
    house.may_open.clear()
    await house.run()
    assert await is_closed(house, caplog)
    house.may_open.set()


async def test_and_after_it_has_stopped(house: Late, caplog: pytest.LogCaptureFixture) -> None:
    await house.run()
    assert house.is_open
    await house.late.done()
    assert not house.is_open
    assert await is_closed(house, caplog)


async def test_when_it_runs_the_addon_is_asked(
    house: Late, caplog: pytest.LogCaptureFixture
) -> None:
    await house.run()
    assert isinstance(first_layer(house), FrontLayer)
    destination = Destination("other.test", 443)
    await house.late.entrepot_judge(destination)
    assert isinstance(destination.judgement, Allowed)
    login = Login(PEER, "")
    await house.late.entrepot_login(login)
    assert login.refusal is None
    data = starting_tls()
    house.late.tls_start_client(data)
    assert isinstance(data.ssl_conn, SSL.Connection)
    house.late.tls_failed_client(data)
    assert HOST in caplog.text


async def test_its_connections_are_its_own(house: Late) -> None:
    await house.run()
    async with house.line(house.late) as line:
        with house.knows(line):
            line.say(b"GET /healthz HTTP/1.1\r\nHost: proxy\r\n\r\n")
            assert await line.heard(b"PAGES /healthz")
            house.late.entrepot_pace(Pace(line.handler.client, may_read=False))
            assert not line.transport.is_reading()


class TestRegistryPort:
    async def test_it_listens_there_too(self, house: Late) -> None:
        house.context.options.update(mode=[])  # mitmproxy itself listens nowhere
        house.front.config = Config(registry_listen="127.0.0.1:0")
        await house.run()

        async def ports() -> frozenset[int]:
            return registry_ports()

        await eventually(ports, bool)
        assert house.context.options.mode == ["registry@127.0.0.1:0"]
        await house.server.servers.update([])

    def test_where_it_cannot_it_ends(self, caplog: pytest.LogCaptureFixture) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = f"127.0.0.1:{taken.getsockname()[1]}"

            async def prepare(house: Late) -> None:
                house.context.options.update(mode=[])
                house.front.config = Config(registry_listen=address)

            ends_with_1(prepare)
        assert f"cannot run: cannot listen on {address} " in caplog.text


class TestOptions:
    async def test_mitmproxy_takes_our_idle_time_out(self, house: Late) -> None:
        await house.run()
        assert house.context.options.tcp_timeout == 300

    async def test_unless_it_was_given_one(self, house: Late) -> None:
        house.context.options.update(tcp_timeout=7)
        await house.run()
        assert house.context.options.tcp_timeout == 7


def ends_with_1(prepare: Callable[[Late], Awaitable[None]]) -> None:
    async def main() -> None:
        house = Late()
        await prepare(house)
        house.late.running()
        try:
            await asyncio.Event().wait()
        finally:
            await house.late.done()
            await house.context.master.done()

    with pytest.raises(SystemExit) as raised:
        asyncio.run(main())
    assert raised.value.code == 1


class TestFailures:
    """It must not go on as a mitmproxy that forwards everything."""

    def test_of_the_operator_s_are_told_in_a_line(self, caplog: pytest.LogCaptureFixture) -> None:
        async def prepare(house: Late) -> None:
            house.failure = ConfigError("no such directory")

        ends_with_1(prepare)
        (record,) = caplog.records
        assert record.message == "the registry cache cannot run: no such directory"

    def test_of_ours_are_told_in_full(self, caplog: pytest.LogCaptureFixture) -> None:
        async def prepare(house: Late) -> None:
            house.failure = ZeroDivisionError()

        ends_with_1(prepare)
        assert "ZeroDivisionError" in caplog.text

    def test_users_and_passwords_would_not_be_asked_for(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def prepare(house: Late) -> None:
            house.context.master.addons.add(ProxyAuth())
            house.context.options.update(proxyauth="ann:secret")

        ends_with_1(prepare)
        assert "proxyauth" in caplog.text
        assert "secret" not in caplog.text
