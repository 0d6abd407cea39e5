import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Sequence

import pytest
from mitmproxy import tls
from mitmproxy.proxy.layer import NextLayer
from mitmproxy.proxy.layers import modes
from mitmproxy.proxy.layers.tcp import TCPLayer
from OpenSSL import SSL

from entrepot.config.kinds import Seconds, Secret
from entrepot.config.model import Clients, Config, Tunnel
from entrepot.errors import ConfigError
from entrepot.interception.addon import listening_ports, open_connections
from entrepot.interception.clients import WRONG_PASSWORD, ClientPolicy
from entrepot.interception.front_layer import ClosedLayer, Destination, FrontLayer, Login
from entrepot.interception.registry_layer import RegistryLayer
from entrepot.interception.registry_mode import RegistryTop
from entrepot.interception.tunnel import Allowed, Refused, TunnelPolicy
from entrepot.interception.tunnel_layer import Pace
from entrepot.passwords.guesses import Guesses
from tests.interception.conversation import PEER, make_context
from tests.interception.house import PUBLIC, Front, House
from tests.interception.leaves import HOST
from tests.interception.line import Line
from tests.interception.test_front_layer import CLIENT_HELLO
from tests.support.clock import ManualClock
from tests.support.engine import basic


@pytest.fixture
async def house() -> AsyncIterator[House]:
    house = House()
    yield house
    await house.context.master.done()


def asking(top: type[modes.HttpProxy | modes.ReverseProxy] = modes.HttpProxy) -> NextLayer:
    context = make_context()
    top(context)
    return NextLayer(context)


class TestNextLayer:
    def test_ours_comes_first(self, house: House) -> None:
        asked = asking()
        house.addon.next_layer(asked)
        assert isinstance(asked.layer, FrontLayer)
        assert asked.context.layers[1:] == [asked.layer]

    def test_whatever_others_chose(self, house: House) -> None:
        asked = asking()
        asked.layer = TCPLayer(asked.context)
        house.addon.next_layer(asked)
        assert asked.context.layers[1:] == [asked.layer]
        assert isinstance(asked.layer, FrontLayer)

    def test_other_modes_are_others_business(self, house: House) -> None:
        asked = asking(modes.ReverseProxy)
        house.addon.next_layer(asked)
        assert asked.layer is None

    def test_it_fails_closed(self, house: House) -> None:
        house.is_broken = True
        asked = asking()
        with pytest.raises(ZeroDivisionError):
            house.addon.next_layer(asked)
        assert isinstance(asked.layer, ClosedLayer)


class TestJudge:
    async def test_the_policy_is_asked(self, house: House) -> None:
        destination = Destination("other.test", 443)
        await house.addon.entrepot_judge(destination)
        assert destination.judgement == Allowed(((PUBLIC, 443),))

    @pytest.mark.parametrize("is_broken", [True, False])
    async def test_it_fails_closed(
        self, house: House, caplog: pytest.LogCaptureFixture, *, is_broken: bool
    ) -> None:
        house.is_broken = is_broken
        destination = Destination("broken.test", 443)
        await house.addon.entrepot_judge(destination)
        assert isinstance(destination.judgement, Refused)
        assert destination.judgement.status == 500
        assert "ZeroDivisionError" in caplog.text


class TestLogin:
    async def test_the_policy_is_asked(self, house: House) -> None:
        login = Login(PEER, "")
        await house.addon.entrepot_login(login)
        assert login.refusal is None
        ann = Clients(username="ann", password=Secret("right"))
        house.front.clients = ClientPolicy(ann, Guesses(ManualClock()))
        for password, refusal in (("wrong", WRONG_PASSWORD), ("right", None)):
            login = Login(PEER, basic("ann", password))
            await house.addon.entrepot_login(login)
            assert login.refusal == refusal

    async def test_it_fails_closed(self, house: House, caplog: pytest.LogCaptureFixture) -> None:
        house.is_broken = True
        login = Login(PEER, basic("ann", "hunter2"), refusal=None)
        await house.addon.entrepot_login(login)
        assert login.refusal is not None
        assert login.refusal.status == 500
        assert "ZeroDivisionError" in caplog.text
        assert "hunter2" not in caplog.text


class TestTls:
    @staticmethod
    def data(address: tuple[str, int] | None, *, is_ours: bool = True) -> tls.TlsData:
        context = make_context()
        modes.HttpProxy(context)
        if is_ours:
            FrontLayer(context, Front())
        context.server.address = address
        return tls.TlsData(context.client, context)

    def test_the_host_of_the_connect_is_shown(self, house: House) -> None:
        data = self.data((HOST, 443))
        house.addon.tls_start_client(data)
        assert isinstance(data.ssl_conn, SSL.Connection)

    def test_of_other_layers_nothing_is(self, house: House) -> None:
        data = self.data((HOST, 443), is_ours=False)
        house.addon.tls_start_client(data)
        assert data.ssl_conn is None

    def test_nor_without_an_address(self, house: House) -> None:
        data = self.data(None)
        house.addon.tls_start_client(data)
        assert data.ssl_conn is None

    @pytest.mark.parametrize(
        ("address", "said"), [((HOST, 443), HOST), (None, "?")], ids=["known", "unknown"]
    )
    def test_who_does_not_trust_us_is_told_of(
        self,
        house: House,
        caplog: pytest.LogCaptureFixture,
        address: tuple[str, int] | None,
        said: str,
    ) -> None:
        data = self.data(address)
        data.conn.error = "unknown ca"
        house.addon.tls_failed_client(data)
        (record,) = caplog.records
        assert record.levelno == logging.WARNING
        assert f"client {PEER} ended the TLS handshake for {said}; " in record.message
        assert record.message.endswith("(unknown ca)")


class TlsClient:
    """What a client says within a tunnel."""

    def __init__(self, line: Line, trust: ssl.SSLContext, name: str | None = HOST) -> None:
        self._line = line
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = trust.wrap_bio(self._incoming, self._outgoing, server_hostname=name)

    async def shake(self) -> None:
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                self._incoming.write(await self._line.heard_some())
            else:
                return
            finally:
                self._flush()

    async def say(self, data: bytes) -> None:
        self._tls.write(data)
        self._flush()

    async def heard(self, end: bytes) -> bytes:
        data = b""
        while end not in data:
            try:
                data += self._tls.read()
            except ssl.SSLWantReadError:
                self._incoming.write(await self._line.heard_some())
        return data

    @property
    def has_ticket(self) -> bool:
        return self._tls.session is not None and self._tls.session.has_ticket

    def _flush(self) -> None:
        if data := self._outgoing.read():
            self._line.say(data)


async def shaken(line: Line, trust: ssl.SSLContext, name: str | None = HOST) -> TlsClient:
    client = TlsClient(line, trust, name)
    await client.shake()
    return client


async def connected(line: Line, trust: ssl.SSLContext) -> TlsClient:
    line.say(f"CONNECT {HOST}:443 HTTP/1.1\r\n\r\n".encode())
    await line.heard(b"\r\n\r\n")
    return await shaken(line, trust)


class TestConnections:
    async def test_an_exchange_runs_on_its_connection(self, house: House) -> None:
        async with house.line(house.addon) as line:
            with house.knows(line):
                assert open_connections() == 1
                line.say(b"GET /healthz HTTP/1.1\r\nHost: proxy\r\n\r\n")
                assert (await line.heard(b"/healthz")).endswith(b"PAGES /healthz")
        assert len(house.observed) == 1

    @pytest.mark.parametrize(
        ("failure", "said"),
        [
            (ConfigError("the CA has expired: rotate it"), "the CA has expired: rotate it"),
            (ZeroDivisionError(), "ZeroDivisionError"),
        ],
        ids=["told in full", "a defect"],
    )
    async def test_no_certificate_to_show_ends_the_connection_with_one_line(
        self, house: House, caplog: pytest.LogCaptureFixture, failure: Exception, said: str
    ) -> None:
        house.leaves.failure = failure
        async with house.line(house.addon) as line:
            line.say(f"CONNECT {HOST}:443 HTTP/1.1\r\n\r\n".encode())
            await line.heard(b"\r\n\r\n")
            line.say(CLIENT_HELLO)
            assert await line.heard_all() == b"\x15\x03\x03\x00\x02\x02\x50"
        (record,) = (one for one in caplog.records if one.levelno >= logging.WARNING)
        assert record.message.startswith(f"no certificate for {HOST}")
        assert said in caplog.text

    async def test_a_whole_way_to_a_registry(self, house: House) -> None:
        async with house.line(house.addon) as line:
            with house.knows(line):
                client = await connected(line, house.leaves.trusting())
                await client.say(b"GET /v2/ HTTP/1.1\r\nHost: registry.test\r\n\r\n")
                assert (await client.heard(b"/v2/")).endswith(b"PROXY /v2/")

    async def test_tickets_come_with_the_first_answer(self, house: House) -> None:
        async with house.line(house.addon) as line:
            with house.knows(line):
                client = await connected(line, house.leaves.trusting())
                before = len(line.transport.taken)
                async with asyncio.timeout(10):
                    while not line.handler.client.tls_established:  # noqa: ASYNC110 - it tells nobody
                        await asyncio.sleep(0)
                assert len(line.transport.taken) == before
                await client.say(b"GET /v2/ HTTP/1.1\r\nHost: registry.test\r\n\r\n")
                await client.heard(b"/v2/")
                assert client.has_ticket

    async def test_older_ones_end_the_handshake_before(self, house: House) -> None:
        trust = house.leaves.trusting()
        trust.maximum_version = ssl.TLSVersion.TLSv1_2
        async with house.line(house.addon) as line:
            client = await connected(line, trust)
            assert client.has_ticket

    async def test_a_client_that_does_not_trust_us(
        self, house: House, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with house.line(house.addon) as line:
            with pytest.raises(ssl.SSLCertVerificationError):
                await connected(line, ssl.create_default_context())
            await line.heard_all()
        assert "does it trust the CA at /ca.crt?" in caplog.text

    async def test_a_whole_way_to_a_refusal(self, house: House) -> None:
        async with house.line(house.addon) as line:
            line.say(b"CONNECT other.test:22 HTTP/1.1\r\n\r\n")
            assert (await line.heard_all()).startswith(b"HTTP/1.1 403 ")

    async def test_who_sends_much_before_the_judgement_is_to_wait(self, house: House) -> None:
        may_go_on = asyncio.Event()

        async def slow(host: str, port: int) -> Sequence[str]:
            await may_go_on.wait()
            return []

        house.front.tunnels = TunnelPolicy(
            Tunnel(), own_names=(), own_ports=frozenset, resolve=slow
        )
        async with house.line(house.addon) as line:
            with house.knows(line):
                line.say(b"POST http://other.test/ HTTP/1.1\r\n\r\n")
                said = 0
                while line.transport.is_reading():
                    line.say(bytes(65_536))
                    said += 65_536
                    await asyncio.sleep(0)
                assert said < 1 << 20
                may_go_on.set()
                await line.until(line.transport.is_reading)
                assert (await line.heard_all()).startswith(b"HTTP/1.1 403 ")

    async def test_one_that_is_gone_is_nothing_to_do_for(self, house: House) -> None:
        async with house.line(house.addon) as line:  # not registered: as after its end
            line.say(b"GET /healthz HTTP/1.1\r\nHost: proxy\r\n\r\n")
            house.addon.entrepot_pace(Pace(line.handler.client, may_read=False))
            await asyncio.sleep(0)
        assert house.observed == []
        assert open_connections() == 0


class TestRegistryPort:
    """Of the local registries' own."""

    async def test_a_whole_way(self, house: House) -> None:
        async with house.registry_line(house.addon) as line:
            with house.knows(line):
                client = await shaken(line, house.leaves.trusting())
                for _ in range(2):
                    await client.say(b"GET /v2/ HTTP/1.1\r\nHost: registry.test\r\n\r\n")
                    assert (await client.heard(b"/v2/")).endswith(b"REGISTRY /v2/")
        assert [(each.request.host, each.request.scheme) for each in house.observed] == [
            (HOST, "https"),
            (HOST, "https"),
        ]

    async def test_absolute_form_is_heard_by_what_it_names(self, house: House) -> None:
        async with house.registry_line(house.addon) as line:
            with house.knows(line):
                client = await shaken(line, house.leaves.trusting())
                await client.say(b"GET http://named.test/v2/ HTTP/1.1\r\nHost: x\r\n\r\n")
                await client.heard(b"REGISTRY /v2/")
        (exchange,) = house.observed
        assert (exchange.request.host, exchange.request.scheme) == ("named.test", "https")

    async def test_who_sends_no_name_is_shown_a_certificate_all_the_same(
        self, house: House
    ) -> None:
        trust = house.leaves.trusting()
        trust.check_hostname = False
        async with house.registry_line(house.addon) as line:
            await shaken(line, trust, None)

    @pytest.mark.parametrize("is_broken", [False, True])
    async def test_a_name_that_is_none_of_them(
        self, house: House, caplog: pytest.LogCaptureFixture, *, is_broken: bool
    ) -> None:
        async with house.registry_line(house.addon) as line:
            house.is_broken = is_broken
            with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized.name"):
                await shaken(line, house.leaves.trusting(), "registry-1.docker.io")
            await line.heard_all()
        said = "ZeroDivisionError" if is_broken else "port for registry-1.docker.io"
        assert said in caplog.text

    async def test_no_certificate_to_show(self, house: House) -> None:
        house.leaves.failure = ConfigError("the CA has expired: rotate it")
        async with house.registry_line(house.addon) as line:
            with pytest.raises(ssl.SSLError, match=r"(?i)internal.error"):
                await shaken(line, house.leaves.trusting())

    async def test_our_layer_comes_first(self, house: House) -> None:
        asked = asking(RegistryTop)
        house.addon.next_layer(asked)
        assert isinstance(asked.layer, RegistryLayer)
        assert asked.context.layers[1:] == [asked.layer]


async def test_mitmproxy_s_time_out_is_in_whole_seconds(house: House) -> None:
    def said(seconds: float) -> int:
        house.front.config = Config(clients=Clients(idle_timeout=Seconds(seconds)))
        return house.addon.idle_timeout_s

    assert [said(0.5), said(2.5), said(300)] == [1, 2, 300]


async def test_nobody_listens_until_told(house: House) -> None:
    assert listening_ports() == frozenset()
