import ssl
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

import pytest
from cryptography import x509
from mitmproxy.proxy import events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layer import CommandGenerator, Layer
from mitmproxy.proxy.layers.tls import TlsStartClientHook
from OpenSSL import SSL

from entrepot.interception import tls
from entrepot.interception.registry_mode import RegistryTop
from entrepot.interception.tls import ClientTls, ClientTlsLayer
from tests.interception.conversation import Conversation, closed, only
from tests.interception.leaves import HOST, Leaves


@dataclass
class Shaken:
    """A handshake that is done, as the client saw it."""

    client: ssl.SSLObject
    server: SSL.Connection

    @property
    def serial_number(self) -> int:
        der = self.client.getpeercert(binary_form=True)
        assert der is not None
        return x509.load_der_x509_certificate(der).serial_number


@pytest.fixture
def leaves() -> Leaves:
    return Leaves()


@pytest.fixture
def client_tls(leaves: Leaves) -> ClientTls:
    return ClientTls(leaves.leaf)


def trusting(leaves: Leaves, *protocols: str) -> ssl.SSLContext:
    context = leaves.trusting()
    if protocols:
        context.set_alpn_protocols(protocols)
    return context


def shake(
    server: SSL.Connection,
    context: ssl.SSLContext,
    name: str | None = HOST,
    session: ssl.SSLSession | None = None,
) -> Shaken:
    """Both ends take turns until the client is content."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname=name, session=session)
    for _ in _turns(client, server):
        if data := outgoing.read():
            server.bio_write(data)
        with suppress(SSL.WantReadError):
            server.do_handshake()
        with suppress(SSL.WantReadError):
            incoming.write(server.bio_read(65_536))
    return Shaken(client, server)


def _turns(client: ssl.SSLObject, server: SSL.Connection) -> Iterator[None]:
    for _ in range(10):
        try:
            client.do_handshake()
        except ssl.SSLWantReadError:
            yield
        else:
            yield  # what the client said last, and the tickets it gets for it
            return
    raise AssertionError("the handshake does not end")


def test_a_client_is_shown_the_host_it_asked_the_proxy_for(
    leaves: Leaves, client_tls: ClientTls
) -> None:
    shaken = shake(client_tls.connection(HOST), trusting(leaves))
    assert shaken.serial_number == leaves.leaf(HOST).certificate.serial_number
    assert shaken.client.version() == "TLSv1.3"


def test_also_when_it_names_none(leaves: Leaves, client_tls: ClientTls) -> None:
    context = trusting(leaves)
    context.check_hostname = False
    shaken = shake(client_tls.connection(HOST), context, None)
    assert shaken.serial_number == leaves.leaf(HOST).certificate.serial_number


def test_a_client_that_names_another_does_not_believe_it(
    leaves: Leaves, client_tls: ClientTls
) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(client_tls.connection(HOST), trusting(leaves), "other.test")


def test_addresses_are_hosts_too(leaves: Leaves, client_tls: ClientTls) -> None:
    assert shake(client_tls.connection("192.0.2.1"), trusting(leaves), "192.0.2.1").client


def test_a_renewed_leaf_is_shown_at_once(leaves: Leaves, client_tls: ClientTls) -> None:
    before = shake(client_tls.connection(HOST), trusting(leaves)).serial_number
    leaves.renew()
    after = shake(client_tls.connection(HOST), trusting(leaves)).serial_number
    assert before != after == leaves.leaf(HOST).certificate.serial_number


def test_a_context_serves_many_connections(client_tls: ClientTls) -> None:
    one, two = client_tls.connection(HOST), client_tls.connection(HOST)
    assert one.get_context() is two.get_context()
    assert client_tls.connection("other.test").get_context() is not one.get_context()


def test_clients_resume_sessions(leaves: Leaves, client_tls: ClientTls) -> None:
    context = trusting(leaves)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    first = shake(client_tls.connection(HOST), context)
    again = shake(client_tls.connection(HOST), context, session=first.client.session)
    assert again.client.session_reused


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (("h2", "http/1.1"), "http/1.1"),
        (("http/1.1",), "http/1.1"),
        (("h2",), None),
        ((), None),
    ],
)
def test_http_1_1_is_what_is_spoken(
    leaves: Leaves, client_tls: ClientTls, offered: tuple[str, ...], chosen: str | None
) -> None:
    shaken = shake(client_tls.connection(HOST), trusting(leaves, *offered))
    assert shaken.client.selected_alpn_protocol() == chosen


def test_intermediates_are_sent_with_it(leaves: Leaves) -> None:
    leaf = leaves.leaf(HOST)
    chain = (leaves.root.certificate,)
    server = ClientTls(lambda _: replace(leaf, chain=chain)).connection(HOST)
    client = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), None)
    client.set_connect_state()
    for one, other in ((client, server), (server, client), (client, server)):
        with suppress(SSL.WantReadError):
            one.do_handshake()
        other.bio_write(one.bio_read(65_536))
    shown = client.get_peer_cert_chain() or []
    assert [each.to_cryptography() for each in shown] == [leaf.certificate, *chain]


def test_older_protocols_are_not_spoken(leaves: Leaves, client_tls: ClientTls) -> None:
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(SSL.TLS1_VERSION)
    context.set_max_proto_version(SSL.TLS1_1_VERSION)
    context.set_cipher_list(b"DEFAULT@SECLEVEL=0")
    client = SSL.Connection(context, None)
    client.set_connect_state()
    with pytest.raises(SSL.WantReadError):
        client.do_handshake()
    server = client_tls.connection(HOST)
    server.bio_write(client.bio_read(65_536))
    with pytest.raises(SSL.Error):
        server.do_handshake()


def test_contexts_do_not_pile_up(client_tls: ClientTls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "_CONTEXTS_MAX", 2)
    for number in range(5):
        client_tls.connection(f"{number}.test")
    assert list(client_tls._contexts) == ["3.test", "4.test"]


class Told(Layer):
    """Inside of the TLS: remembers what it has heard."""

    def __init__(self, context: Context, heard: list[str]) -> None:
        super().__init__(context)
        self._heard = heard

    def _handle_event(self, event: events.Event) -> CommandGenerator[None]:
        self._heard.append(type(event).__name__)
        yield from ()


class TestLayer:
    @pytest.fixture
    def heard(self) -> list[str]:
        return []

    @pytest.fixture
    def line(self, client_tls: ClientTls, leaves: Leaves, heard: list[str]) -> Conversation:
        """After the handshake."""

        def layer(context: Context) -> Layer:
            RegistryTop(context)  # enters itself into the context's list, as in mitmproxy
            layer = ClientTlsLayer(context, is_host_known=True)
            layer.child_layer = Told(context, heard)
            return layer

        line = Conversation(layer)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = trusting(leaves).wrap_bio(incoming, outgoing, server_hostname=HOST)
        with suppress(ssl.SSLWantReadError):
            client.do_handshake()
        hook = only(line.hear(outgoing.read()), TlsStartClientHook)
        hook.data.ssl_conn = client_tls.connection(HOST)
        line.complete(hook)
        incoming.write(line.taken())
        client.do_handshake()
        client.write(b"x")
        line.hear(outgoing.read())
        return line

    def test_what_breaks_it_ends_the_connection(self, line: Conversation, heard: list[str]) -> None:
        assert heard == ["Start", "DataReceived"]
        told = line.hear(b"\x17\x03\x03\x00\x20" + bytes(32))
        assert heard[2:] == ["ConnectionClosed"]
        assert closed(told) == [line.client]
        assert line.taken()  # the alert that says why
