import pytest
from mitmproxy.connection import ConnectionState
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.tls import TlsClienthelloHook, TlsStartClientHook

from entrepot.interception.http_layer import EntrepotExchangeHook, ExchangeEnded
from entrepot.interception.registry_layer import RegistryLayer
from entrepot.interception.registry_mode import RegistryTop
from tests.interception.conversation import Conversation, closed, every, only
from tests.interception.test_front_layer import CLIENT_HELLO

GET = b"GET /v2/ HTTP/1.1\r\nHost: own.test\r\n\r\n"


@pytest.fixture
def talk() -> Conversation:
    def layer(context: Context) -> RegistryLayer:
        RegistryTop(context)
        return RegistryLayer(context, header_timeout_s=60)

    return Conversation(layer)


def test_without_tls_a_request_is_heard(talk: Conversation) -> None:
    exchange = only(talk.hear(GET), EntrepotExchangeHook).exchange
    assert (exchange.place.scheme, exchange.place.is_registry) == ("http", True)
    assert exchange.place.authority is None


def test_the_connection_is_kept(talk: Conversation) -> None:
    first = only(talk.hear(GET), EntrepotExchangeHook).exchange
    talk.tell(ExchangeEnded(first, keep_alive=True))
    assert only(talk.hear(GET), EntrepotExchangeHook).exchange is not first


def test_connect_is_not_spoken_here(talk: Conversation) -> None:
    told = talk.hear(b"CONNECT own.test:443 HTTP/1.1\r\nHost: x\r\n\r\n")
    assert every(told, EntrepotExchangeHook) == []
    assert talk.taken().startswith(b"HTTP/1.1 400 ")


def test_who_leaves_without_a_word(talk: Conversation) -> None:
    assert closed(talk.lose()) == [talk.client]


def test_a_head_has_its_time_to_come_in(talk: Conversation) -> None:
    talk.hear(GET[:20])
    assert talk.timers[-1].delay == 60


class TestTls:
    def test_a_certificate_is_asked_for(self, talk: Conversation) -> None:
        hello = only(talk.hear(CLIENT_HELLO), TlsClienthelloHook)
        only(talk.complete(hello), TlsStartClientHook)

    def test_where_there_is_none_the_client_is_told(self, talk: Conversation) -> None:
        hello = only(talk.hear(CLIENT_HELLO), TlsClienthelloHook)
        start = only(talk.complete(hello), TlsStartClientHook)
        talk.client.state = ConnectionState.CLOSED  # as mitmproxy's server has it, once told
        assert closed(talk.complete(start)) == [talk.client]
        assert talk.taken() == b"\x15\x03\x03\x00\x02\x02\x70"

    def test_a_handshake_has_its_time(self, talk: Conversation) -> None:
        talk.hear(CLIENT_HELLO[:10])
        (timer,) = talk.timers
        assert timer.delay == 60
        talk.hear(CLIENT_HELLO[10:20])
        assert closed(talk.ring(timer)) == [talk.client]
