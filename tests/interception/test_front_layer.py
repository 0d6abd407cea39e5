import logging
import ssl
from contextlib import suppress
from dataclasses import dataclass

import pytest
from mitmproxy.proxy import commands
from mitmproxy.proxy.commands import Command, OpenConnection
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.events import OpenConnectionCompleted
from mitmproxy.proxy.layers.tls import TlsStartClientHook

from entrepot.interception.front_layer import (
    ClosedLayer,
    Destination,
    EntrepotJudgeHook,
    EntrepotLoginHook,
    FrontLayer,
)
from entrepot.interception.http1 import MAX_HEAD
from entrepot.interception.http_layer import (
    LINGER_S,
    ClientExchange,
    EntrepotExchangeHook,
    ExchangeEnded,
)
from entrepot.interception.reminders import Reminders
from entrepot.interception.tunnel import Allowed, Judgement, Ourselves, Refused
from entrepot.interception.tunnel_layer import HELD_MAX, EntrepotPaceHook
from tests.interception.conversation import (
    PEER,
    Conversation,
    closed,
    every,
    half_closed,
    only,
    status_of,
)

CONNECT = b"CONNECT %s HTTP/1.1\r\nHost: x\r\n\r\n"
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


@dataclass
class Reception:
    header_timeout_s: float = 60
    connect_timeout_s: float = 10
    known: str | None = None  # the Authorization that is known to be right, where one is asked for

    def serves(self, peer: str) -> bool:
        return peer == PEER

    def admits(self, peer: str, proxy_authorization: str) -> bool:
        assert peer == PEER
        return self.known is None or proxy_authorization.strip() == self.known

    def intercepts(self, host: str, port: int) -> bool:
        return (host, port) in {("registry.test", 443), ("plain.test", 80), ("2001:db8::1", 443)}


def make(peer: str = PEER) -> Conversation:
    def layer(context: Context) -> FrontLayer:
        return FrontLayer(context, Reception())

    return Conversation(layer, peer)


@pytest.fixture
def talk() -> Conversation:
    return make()


def asked(told: list[Command]) -> ClientExchange:
    return only(told, EntrepotExchangeHook).exchange


def judged(talk: Conversation, told: list[Command], judgement: Judgement) -> list[Command]:
    hook = only(told, EntrepotJudgeHook)
    hook.destination.judgement = judgement
    return talk.complete(hook)


def destination(told: list[Command]) -> Destination:
    return only(told, EntrepotJudgeHook).destination


HERE = Allowed((("192.0.2.80", 80),))


def opened(talk: Conversation, told: list[Command]) -> bytes:
    """Let the server that was asked for answer; returns what it is sent."""
    connecting = only(told, OpenConnection)
    reply = talk.tell(OpenConnectionCompleted(connecting, None))
    return b"".join(
        each.data
        for each in every(reply, commands.SendData)
        if each.connection is connecting.connection
    )


class TestOriginForm:
    def test_is_for_the_proxy_itself(self, talk: Conversation) -> None:
        exchange = asked(talk.hear(b"GET /healthz HTTP/1.1\r\nHost: proxy\r\n\r\n"))
        assert exchange.head.target == "/healthz"
        assert exchange.place.scheme == "http"
        assert exchange.place.authority is None

    def test_the_connection_is_kept(self, talk: Conversation) -> None:
        request = b"GET / HTTP/1.1\r\nHost: proxy\r\n\r\n"
        first = asked(talk.hear(request))
        assert first.head.keep_alive
        talk.tell(ExchangeEnded(first, keep_alive=True))
        assert asked(talk.hear(request)) is not first

    def test_byte_by_byte(self, talk: Conversation) -> None:
        request = b"GET / HTTP/1.1\r\nHost: proxy\r\n\r\n"
        for byte in request[:-1]:
            assert every(talk.hear(bytes([byte])), EntrepotExchangeHook) == []
        assert asked(talk.hear(request[-1:])).head.target == "/"

    @pytest.mark.parametrize(
        "request_", [b"\r\n\r\n", b"NONSENSE\r\n\r\n", b"G\x00T / HTTP/1.1\r\n\r\n"]
    )
    def test_what_is_none(self, talk: Conversation, request_: bytes) -> None:
        talk.hear(request_)
        assert not talk.sent or status_of(talk.sent) == 400


class TestConnectToARegistry:
    def test_opens_at_once(self, talk: Conversation) -> None:
        told = talk.hear(CONNECT % b"registry.test:443")
        assert talk.sent == ESTABLISHED
        assert every(told, EntrepotJudgeHook) == []
        assert talk.context.server.address == ("registry.test", 443)

    @pytest.mark.parametrize("target", [b"Registry.TEST:443", b"registry.test.:443"])
    def test_however_it_is_spelled(self, talk: Conversation, target: bytes) -> None:
        talk.hear(CONNECT % target)
        assert talk.context.server.address == ("registry.test", 443)

    def test_by_address(self, talk: Conversation) -> None:
        talk.hear(CONNECT % b"[2001:DB8::1]:443")
        assert talk.context.server.address == ("2001:db8::1", 443)

    def test_tls_is_recognised_by_its_first_byte(self, talk: Conversation) -> None:
        talk.hear(CONNECT % b"registry.test:443")
        told = talk.hear(CLIENT_HELLO)
        assert only(told, TlsStartClientHook)

    def test_also_when_it_comes_with_the_connect(self, talk: Conversation) -> None:
        told = talk.hear(CONNECT % b"registry.test:443" + CLIENT_HELLO)
        assert talk.sent == ESTABLISHED
        assert only(told, TlsStartClientHook)

    def test_plain_http_within(self, talk: Conversation) -> None:
        talk.hear(CONNECT % b"registry.test:443")
        exchange = asked(talk.hear(b"GET /v2/ HTTP/1.1\r\nHost: registry.test:443\r\n\r\n"))
        assert exchange.place.scheme == "http"
        assert exchange.place.authority == "registry.test:443"

    def test_a_client_that_leaves_before_it_speaks(self, talk: Conversation) -> None:
        talk.hear(CONNECT % b"registry.test:443")
        assert closed(talk.lose()) == [talk.client]

    def test_on_another_port_it_is_no_registry(self, talk: Conversation) -> None:
        assert destination(talk.hear(CONNECT % b"registry.test:8443")).port == 8443


class TestConnectElsewhere:
    def test_is_judged(self, talk: Conversation) -> None:
        found = destination(talk.hear(CONNECT % b"Other.test:8443"))
        assert (found.host, found.port) == ("other.test", 8443)
        assert talk.sent == b""

    def test_nobody_judged_is_refused(self, talk: Conversation) -> None:
        talk.complete(only(talk.hear(CONNECT % b"other.test:443"), EntrepotJudgeHook))
        assert status_of(talk.sent) == 500

    def test_allowed_becomes_a_tunnel(self, talk: Conversation) -> None:
        told = talk.hear(CONNECT % b"other.test:443" + b"early")
        told = judged(talk, told, Allowed((("192.0.2.80", 443),)))
        assert only(told, OpenConnection).connection.address == ("192.0.2.80", 443)
        assert opened(talk, told) == b"early"
        assert talk.sent == ESTABLISHED

    def test_refused_is_answered(self, talk: Conversation) -> None:
        told = judged(talk, talk.hear(CONNECT % b"other.test:443"), Refused(403, "no"))
        assert status_of(talk.sent) == 403
        assert half_closed(told) == [talk.client]

    def test_the_proxy_itself_is_not_connected_to(self, talk: Conversation) -> None:
        told = judged(talk, talk.hear(CONNECT % b"proxy:3128"), Ourselves())
        assert status_of(talk.sent) == 403
        assert every(told, OpenConnection) == []

    @pytest.mark.parametrize(
        "target",
        [b"", b":443", b"a", b"a:", b"a:0", b"a:x", b"a:70000", b"u@a:443", b"a:443/x", b"a:443?x",
         b"a:443#x", b"http://a:443", b"[::1:443", b"\x80:443", b"a\tb:443", b"a\nb:443", b".:443"],
    )  # fmt: skip
    def test_bogus_targets(self, talk: Conversation, target: bytes) -> None:
        told = talk.hear(CONNECT % target)
        assert status_of(talk.sent) == 400
        assert every(told, EntrepotJudgeHook) == []


class TestWhileJudging:
    def test_what_comes_is_kept_in_order(self, talk: Conversation) -> None:
        hook = talk.hear(CONNECT % b"other.test:443" + b"one ")
        assert talk.hear(b"two ") == []
        talk.hear(b"three")
        assert opened(talk, judged(talk, hook, HERE)) == b"one two three"

    def test_a_client_that_sends_much_is_to_wait(self, talk: Conversation) -> None:
        hook = talk.hear(b"POST http://other.test/ HTTP/1.1\r\nHost: other.test\r\n\r\n")
        assert every(talk.hear(bytes(HELD_MAX // 2)), EntrepotPaceHook) == []
        for _ in range(2):
            pace = only(talk.hear(bytes(HELD_MAX)), EntrepotPaceHook).pace
            assert pace.client is talk.client
            assert not pace.may_read
        told = judged(talk, hook, HERE)
        assert only(told, EntrepotPaceHook).pace.may_read
        assert len(opened(talk, told)) > 2 * HELD_MAX

    def test_a_client_that_leaves(self, talk: Conversation) -> None:
        hook = only(talk.hear(CONNECT % b"other.test:443"), EntrepotJudgeHook)
        assert closed(talk.lose()) == [talk.client]
        assert talk.complete(hook) == []

    def test_timers_are_nothing_to_it(self, talk: Conversation) -> None:
        talk.hear(b"CONN")
        talk.hear((CONNECT % b"other.test:443")[4:])
        assert talk.ring() == []


class TestAbsoluteForm:
    def test_to_a_registry(self, talk: Conversation) -> None:
        exchange = asked(
            talk.hear(b"GET http://plain.test/v2/ HTTP/1.1\r\nHost: plain.test\r\n\r\n")
        )
        assert exchange.head.target == "http://plain.test/v2/"
        assert exchange.place.authority is None

    def test_one_request_a_connection(self, talk: Conversation) -> None:
        """The next may be for a host that is none of ours: Go's client keeps proxies' connections
        for all hosts.
        """
        exchange = asked(
            talk.hear(b"GET http://plain.test/ HTTP/1.1\r\nConnection: keep-alive\r\n\r\n")
        )
        assert not exchange.head.keep_alive

    def test_to_the_proxy_itself_is_for_its_own_pages(self, talk: Conversation) -> None:
        told = talk.hear(b"GET http://proxy:3128/ca.crt?x=1 HTTP/1.1\r\nHost: proxy\r\n\r\n")
        exchange = asked(judged(talk, told, Ourselves()))
        assert exchange.head.target == "/ca.crt?x=1"
        assert not exchange.head.keep_alive

    def test_elsewhere_is_relayed_as_the_server_wants_it(self, talk: Conversation) -> None:
        told = talk.hear(
            b"POST HTTP://Other.test:80/a/b?c=d#e HTTP/1.1\r\n"
            b"Host: elsewhere.test\r\nhOST: twice.test\r\nProxy-Authorization: Basic abc\r\n"
            b"Proxy-Connection: keep-alive\r\nConnection: keep-alive\r\nKeep-Alive: 5\r\n"
            b"Content-Length: 5\r\nX-Kept: yes\r\n\r\nhe"
        )
        assert destination(told).host == "other.test"
        assert opened(talk, judged(talk, told, HERE)) == (
            b"POST /a/b?c=d HTTP/1.1\r\nHost: Other.test:80\r\n"
            b"Content-Length: 5\r\nX-Kept: yes\r\nConnection: close\r\n\r\nhe"
        )
        assert talk.sent == b""

    @pytest.mark.parametrize(
        ("target", "path"),
        [
            (b"http://other.test", b"/"),
            (b"http://other.test/", b"/"),
            (b"http://other.test?x", b"/?x"),
            (b"http://other.test#x", b"/"),
            (b"http://other.test/a//b/../c", b"/a//b/../c"),
            (b"http://other.test/?u=http://x/", b"/?u=http://x/"),
        ],
    )
    def test_paths_are_left_as_they_are(
        self, talk: Conversation, target: bytes, path: bytes
    ) -> None:
        told = talk.hear(b"GET " + target + b" HTTP/1.1\r\n\r\n")
        assert destination(told).port == 80
        sent = opened(talk, judged(talk, told, HERE))
        assert sent.startswith(b"GET " + path + b" HTTP/1.1\r\n")

    def test_refused(self, talk: Conversation) -> None:
        told = talk.hear(b"GET http://169.254.169.254/ HTTP/1.1\r\n\r\n")
        judged(talk, told, Refused(403, "no"))
        assert status_of(talk.sent) == 403

    @pytest.mark.parametrize(
        "target",
        [b"http://", b"http:///x", b"http://u:p@other.test/", b"http://a:x/", b"http://[::1/",
         b"http://a\nb/", b"https://other.test/", b"ftp://other.test/"],
    )  # fmt: skip
    def test_bogus_targets(self, talk: Conversation, target: bytes) -> None:
        told = talk.hear(b"GET " + target + b" HTTP/1.1\r\n\r\n")
        assert status_of(talk.sent) == 400
        assert every(told, EntrepotJudgeHook) == []


class TestPasswords:
    LOGIN = b"Proxy-Authorization: Basic YW5uOm9uZQ==\r\n\r\n"
    CONNECT = b"CONNECT registry.test:443 HTTP/1.1\r\n" + LOGIN

    @pytest.fixture
    def talk(self) -> Conversation:
        return Conversation(lambda context: FrontLayer(context, Reception(known="Basic known")))

    @staticmethod
    def hook(told: list[Command]) -> EntrepotLoginHook:
        return only(told, EntrepotLoginHook)

    def checked(
        self, talk: Conversation, told: list[Command], refusal: Refused | None = None
    ) -> list[Command]:
        hook = self.hook(told)
        hook.login.refusal = refusal
        return talk.complete(hook)

    def test_those_that_are_known_cost_no_step_more(self, talk: Conversation) -> None:
        told = talk.hear(
            b"CONNECT registry.test:443 HTTP/1.1\r\nProxy-Authorization: Basic known\r\n\r\n"
        )
        assert every(told, EntrepotLoginHook) == []
        assert talk.sent == ESTABLISHED

    @pytest.mark.parametrize("given", [b"", b"Proxy-Authorization: Bearer x\r\n", b"Proxy-Author"])
    def test_without_one_the_answer_comes_at_once(self, talk: Conversation, given: bytes) -> None:
        told = talk.hear(b"CONNECT registry.test:443 HTTP/1.1\r\n" + given + b"\r\n\r\n")
        assert every(told, EntrepotLoginHook) == []
        assert status_of(talk.sent) == 407
        assert b'\r\nProxy-Authenticate: Basic realm="Entrepot"\r\n' in talk.sent

    def test_others_are_checked(self, talk: Conversation) -> None:
        login = self.hook(talk.hear(self.CONNECT)).login
        assert (login.client, login.authorization.strip()) == (PEER, "Basic YW5uOm9uZQ==")
        assert "YW5u" not in repr(login)
        assert talk.sent == b""

    def test_nobody_checked_is_refused(self, talk: Conversation) -> None:
        talk.complete(self.hook(talk.hear(self.CONNECT)))
        assert status_of(talk.sent) == 500

    def test_right_ones_go_on_where_they_were_going(self, talk: Conversation) -> None:
        told = talk.hear(self.CONNECT)
        talk.hear(CLIENT_HELLO)
        told = self.checked(talk, told)
        assert talk.sent == ESTABLISHED
        assert only(told, TlsStartClientHook)

    def test_elsewhere_too(self, talk: Conversation) -> None:
        told = talk.hear(b"GET http://other.test/x HTTP/1.1\r\n" + self.LOGIN)
        told = judged(talk, self.checked(talk, told), HERE)
        assert opened(talk, told) == (
            b"GET /x HTTP/1.1\r\nHost: other.test\r\nConnection: close\r\n\r\n"
        )

    @pytest.mark.parametrize(
        "refusal", [Refused(407, "no", {"X": "y"}), Refused(429, "later", {"X": "y"})]
    )
    def test_wrong_ones_are_refused(self, talk: Conversation, refusal: Refused) -> None:
        told = self.checked(talk, talk.hear(self.CONNECT), refusal)
        assert status_of(talk.sent) == refusal.status
        assert b"\r\nX: y\r\n" in talk.sent
        assert half_closed(told) == [talk.client]

    def test_a_client_that_leaves_meanwhile(self, talk: Conversation) -> None:
        told = talk.hear(self.CONNECT)
        assert closed(talk.lose()) == [talk.client]
        assert self.checked(talk, told) == []

    def test_own_pages_are_asked_for_without(self, talk: Conversation) -> None:
        assert asked(talk.hear(b"GET /ca.crt HTTP/1.1\r\nHost: proxy\r\n\r\n"))


class TestRefusals:
    def test_clients_that_are_not_served(self) -> None:
        talk = make("198.51.100.9")
        told = talk.hear(b"GET /healthz HTTP/1.1\r\nHost: proxy\r\n\r\n")
        assert status_of(talk.sent) == 403
        assert b"198.51.100.9" in talk.sent
        assert every(told, EntrepotExchangeHook) == []

    def test_clients_that_take_the_proxy_for_a_tls_server(self, talk: Conversation) -> None:
        """HTTPS_PROXY=https://…: they fail at once, not by a time-out, and the log says why."""
        told = talk.hear(CLIENT_HELLO)
        assert status_of(talk.sent) == 400
        assert half_closed(told) == [talk.client]

    def test_of_which_the_log_tells_once(self, caplog: pytest.LogCaptureFixture) -> None:
        reminders = Reminders()
        for _ in range(2):
            talk = Conversation(lambda context: FrontLayer(context, Reception(), reminders))
            talk.hear(CLIENT_HELLO)
        (record,) = (one for one in caplog.records if one.levelno >= logging.WARNING)
        assert record.message == (
            f"client {PEER} speaks TLS to the proxy itself: its HTTPS_PROXY has to begin with"
            " http://, not https://"
        )

    def test_they_are_told_in_the_log(
        self, talk: Conversation, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("INFO")
        judged(talk, talk.hear(CONNECT % b"other.test:22"), Refused(403, "port 22 is not"))
        (record,) = caplog.records
        expected = f"client {PEER} on its way to other.test:22 got 403: port 22 is not"
        assert record.message == expected

    def test_a_head_that_does_not_end(self, talk: Conversation) -> None:
        talk.hear(b"GET / HTTP/1.1\r\n")
        talk.hear(b"X: y\r\n" * (MAX_HEAD // 6 + 1))
        assert status_of(talk.sent) == 431

    def test_a_head_that_does_not_come(self, talk: Conversation) -> None:
        talk.hear(b"GET / HTTP/1.1\r\n")
        talk.hear(b"X: y\r\n")
        assert [timer.delay for timer in talk.timers] == [60]
        told = talk.ring()
        assert status_of(talk.sent) == 408
        assert half_closed(told) == [talk.client]

    def test_a_client_that_leaves_before_its_head_is_whole(self, talk: Conversation) -> None:
        talk.hear(b"GET / HT")
        assert closed(talk.lose()) == [talk.client]

    def test_the_client_is_heard_out(self, talk: Conversation) -> None:
        talk.hear(b"G")
        header_timer = talk.timers[0]
        talk.hear(b"ET ftp://a/ HTTP/1.1\r\n\r\n")
        talk.taken()
        assert talk.hear(b"more") == []
        assert talk.ring(header_timer) == []
        assert talk.timers[-1].delay == LINGER_S
        assert closed(talk.ring()) == [talk.client]

    def test_until_it_has_gone(self, talk: Conversation) -> None:
        talk.hear(b"GET ftp://a/ HTTP/1.1\r\n\r\n")
        assert closed(talk.lose()) == [talk.client]


def test_a_closed_layer_ends_the_connection() -> None:
    talk = Conversation(ClosedLayer)
    assert closed(talk.opening) == [talk.client]
    assert talk.hear(b"GET / HTTP/1.1\r\n\r\n") == []


def client_hello() -> bytes:
    """As OpenSSL says it."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context()
    client = context.wrap_bio(incoming, outgoing, server_hostname="registry.test")
    with suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


CLIENT_HELLO = client_hello()
