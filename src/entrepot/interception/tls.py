"""TLS towards clients: one OpenSSL context for each host, made anew when its leaf is renewed.

mitmproxy makes a context for each connection; keeping them saves most of what a handshake costs
in Python, and lets clients resume sessions. Its layer reads each ClientHello in Python, asks hooks,
and looks up what no server needs to know of a client: ours leaves that to OpenSSL.
"""

import time
from collections import OrderedDict
from collections.abc import Callable

from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers import ClientTLSLayer
from mitmproxy.proxy.layers.tls import TlsStartClientHook
from mitmproxy.proxy.tunnel import TunnelState
from mitmproxy.tls import TlsData
from OpenSSL import SSL

from entrepot.ca.leaf import Leaf

_CONTEXTS_MAX = 1000
_HTTP11 = b"http/1.1"
_PIECE = 64 << 10

# Fatal alerts (RFC 8446 section 6).
_INTERNAL_ERROR = b"\x15\x03\x03\x00\x02\x02\x50"
_UNRECOGNIZED_NAME = b"\x15\x03\x03\x00\x02\x02\x70"


class ClientTls:
    def __init__(self, leaf_of: Callable[[str], Leaf]) -> None:
        self._leaf_of = leaf_of
        self._contexts: OrderedDict[str, tuple[Leaf, SSL.Context]] = OrderedDict()

    def connection(self, host: str) -> SSL.Connection:
        connection = SSL.Connection(self._context(host), None)
        connection.set_accept_state()
        return connection

    def _context(self, host: str) -> SSL.Context:
        leaf = self._leaf_of(host)
        known = self._contexts.get(host)
        if known is not None and known[0] is leaf:
            return known[1]
        context = _context(leaf)
        self._contexts[host] = (leaf, context)
        if len(self._contexts) > _CONTEXTS_MAX:
            self._contexts.popitem(last=False)
        return context


class ClientTlsLayer(ClientTLSLayer):
    """Where there is no certificate to show, the addon has said why: the client is told at once,
    and nothing of its trust is guessed.
    """

    _is_refused = False
    _has_tickets = False

    def __init__(self, context: Context, *, is_host_known: bool) -> None:
        """Where a CONNECT has said the host, the name in the ClientHello does not matter."""
        super().__init__(context)
        self._is_host_known = is_host_known

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        if self.tunnel_state is TunnelState.OPEN and isinstance(event, events.DataReceived):
            yield from self.receive_data(event.data)
        else:
            yield from super()._handle_event(event)

    def event_to_child(self, event: events.Event) -> layer.CommandGenerator[None]:
        """Of the one connection that there is."""
        if self.tunnel_state is not TunnelState.OPEN:
            yield from super().event_to_child(event)
            return
        for command in self.child_layer.handle_event(event):
            if isinstance(command, commands.SendData):
                yield from self.send_data(command.data)
            else:
                yield command

    def receive_handshake_data(
        self, data: bytes
    ) -> layer.CommandGenerator[tuple[bool, str | None]]:
        if not self.client_hello_parsed:
            if not self._is_host_known:
                return (yield from super().receive_handshake_data(data))
            self.client_hello_parsed = True
            yield from self.start_tls()
        if self._is_refused:
            return False, "connection closed early"
        return (yield from self._shake(data))

    def _shake(self, data: bytes) -> layer.CommandGenerator[tuple[bool, str | None]]:
        self.tls.bio_write(data)
        try:
            self.tls.do_handshake()
        except SSL.WantReadError:
            yield from self.tls_interact()
            return False, None
        except SSL.Error as error:
            return False, _reason(error)
        self.conn.timestamp_tls_setup = time.time()
        self._has_tickets = self.tls.get_protocol_version() == SSL.TLS1_3_VERSION
        yield from self.receive_data(b"")
        return True, None

    def receive_data(self, data: bytes) -> layer.CommandGenerator[None]:
        """What breaks TLS ends the connection. mitmproxy's only logs it: the next answer fails, and
        who sent an alert is not seen to leave.
        """
        for command in super().receive_data(data):
            if isinstance(command, commands.Log):
                self._has_tickets = False  # and after them the alert that says why
                yield from self.tls_interact()
                yield from self.event_to_child(events.ConnectionClosed(self.conn))
                yield commands.CloseConnection(self.conn)
                return
            yield command

    def send_data(self, data: bytes) -> layer.CommandGenerator[None]:
        self._has_tickets = False
        yield from super().send_data(data)

    def tls_interact(self) -> layer.CommandGenerator[None]:
        # The tickets of TLS 1.3 are of no use before the client's next connection: with the first
        # answer they cost no system call of their own, and do not wake the client twice.
        while not self._has_tickets:
            try:
                data = self.tls.bio_read(_PIECE)
            except SSL.WantReadError:
                return
            yield commands.SendData(self.conn, data)
            if len(data) < _PIECE:  # that was all: to ask again would cost an exception
                return

    def start_tls(self) -> layer.CommandGenerator[None]:
        start = TlsData(self.conn, self.context)
        yield TlsStartClientHook(start)
        if start.ssl_conn is None:
            self._is_refused = True
            is_known = self.context.server.address is not None
            yield commands.SendData(self.conn, _INTERNAL_ERROR if is_known else _UNRECOGNIZED_NAME)
            yield commands.CloseConnection(self.conn)
        else:
            self.tls = start.ssl_conn

    def on_handshake_error(self, err: str) -> layer.CommandGenerator[None]:
        if self._is_refused:
            self.event_to_child = self.errored  # type: ignore[method-assign]  # mitmproxy's idiom
        else:
            yield from super().on_handshake_error(err)


def _reason(error: SSL.Error) -> str:
    """What OpenSSL says last, such as `tlsv1 alert unknown ca`."""
    match error.args:
        case ([*_, (_, _, str(reason))], *_):
            return reason
    return f"OpenSSL {error!r}"


def _context(leaf: Leaf) -> SSL.Context:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.use_certificate(leaf.certificate)
    for certificate in leaf.chain:
        context.add_extra_chain_cert(certificate)
    context.use_privatekey(leaf.key)
    # HTTP/1.1 only: hyper-h2 is slow, and no client of registries asks for HTTP/2 on pulls.
    context.set_alpn_select_callback(
        lambda _, offered: _HTTP11 if _HTTP11 in offered else SSL.NO_OVERLAPPING_PROTOCOLS
    )
    context.set_session_id(b"entrepot")
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)  # 34 kB less for each idle connection
    return context
