"""The first layer of every connection: reads the first request's head and chooses what follows."""

import logging
import re
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import urlsplit

from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers import ClientTLSLayer
from mitmproxy.proxy.layers.tls import TlsStartClientHook
from mitmproxy.tls import TlsData

from entrepot.interception.http1 import MAX_HEAD, refusal
from entrepot.interception.http_layer import LINGER_S, HttpLayer, Place
from entrepot.interception.reminders import Reminders
from entrepot.interception.tunnel import Allowed, Judgement, Ourselves, Refused
from entrepot.interception.tunnel_layer import HELD_MAX, EntrepotPaceHook, Pace, TunnelLayer

logger = logging.getLogger(__name__)

_HEAD_END = b"\r\n\r\n"
_ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
_TLS_HANDSHAKE = 0x16
_INTERNAL_ERROR = b"\x15\x03\x03\x00\x02\x02\x50"  # a fatal alert (RFC 8446 section 6)
_ORIGIN = re.compile(rb"\Ahttp://[^/?#]*", re.IGNORECASE)
_NO_AUTHORITY = frozenset(" /?#@")
# Of a request in absolute-form: said to us, not to that host. Its Host counts for nothing
# (RFC 9112 section 3.2.2).
_FOR_US = (b"proxy-", b"connection:", b"keep-alive:", b"host:")


@dataclass(eq=False)
class Destination:
    """Where a client wants to go, and what the policy says to it once it was asked."""

    host: str
    port: int
    judgement: Judgement = field(default_factory=lambda: Refused(500, "nobody judged this request"))


@dataclass
class EntrepotJudgeHook(commands.StartHook):
    """A destination that is no registry is to be judged."""

    destination: Destination


class Reception(Protocol):
    """What the front needs to know of the configuration."""

    @property
    def header_timeout_s(self) -> float: ...

    @property
    def connect_timeout_s(self) -> float: ...

    def serves(self, peer: str) -> bool: ...

    def admits(self, proxy_authorization: str) -> bool: ...

    def intercepts(self, host: str, port: int) -> bool: ...


_BASIC = {"Proxy-Authenticate": 'Basic realm="Entrepot"'}


class FrontLayer(layer.Layer):
    def __init__(
        self, context: Context, reception: Reception, reminders: Reminders | None = None
    ) -> None:
        super().__init__(context)
        self._reception = reception
        self._reminders = reminders or Reminders()
        self._data = b""
        self._greeting = b""
        self._goal = ""
        self._is_waiting_for_head = False
        self._lingering: commands.RequestWakeup | None = None

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, events.DataReceived):
            self._data += event.data
            yield from self._read_head()
        elif isinstance(event, events.ConnectionClosed):
            yield commands.CloseConnection(self.context.client)
        elif isinstance(event, events.Wakeup):
            yield from self._answer(408, "the request did not come in in time")

    def _read_head(self) -> layer.CommandGenerator[None]:
        if self._data[0] == _TLS_HANDSHAKE:
            yield from self._refuse_tls()
            return
        end = self._data.find(_HEAD_END)
        if end < 0:
            if len(self._data) > MAX_HEAD:
                yield from self._answer(431, "the request's head is too large")
            elif not self._is_waiting_for_head:
                self._is_waiting_for_head = True
                yield commands.RequestWakeup(self._reception.header_timeout_s)
            return
        peer = self.context.client.peername[0] if self.context.client.peername else ""
        if not self._reception.serves(peer):
            yield from self._answer(403, f"{peer} is not among the clients this proxy serves")
            return
        line, _, fields = self._data[:end].partition(b"\r\n")
        method, _, rest = line.partition(b" ")
        target = rest.partition(b" ")[0].decode("latin-1")
        is_proxied = method == b"CONNECT" or not target.startswith("/")
        if is_proxied and not self._reception.admits(_proxy_authorization(fields)):
            yield from self._answer(407, "this proxy asks for a user name and password", _BASIC)
        elif method == b"CONNECT":
            yield from self._connect(target, self._data[end + len(_HEAD_END) :])
        elif target.lower().startswith("http://"):
            yield from self._absolute(target)
        elif "://" in target and not target.startswith("/"):
            yield from self._answer(400, "use CONNECT for what is not http://")
        else:
            yield from self._serve(Place("http", None))

    def _refuse_tls(self) -> layer.CommandGenerator[None]:
        """Not in TLS: clients that take the proxy for a server of it understand no answer."""
        peer = self.context.client.peername
        if self._reminders.is_due(peer[0] if peer else ""):
            logger.warning(
                "client %s speaks TLS to the proxy itself: its HTTPS_PROXY has to begin with"
                " http://, not https://",
                peer and peer[0],
            )
        yield from self._answer(400, "the proxy's URL begins with http://, for https:// too")

    # CONNECT.

    def _connect(self, target: str, rest: bytes) -> layer.CommandGenerator[None]:
        destination = _authority(target, None)
        if destination is None:
            yield from self._answer(400, "CONNECT takes host:port")
            return
        if self._reception.intercepts(destination.host, destination.port):
            yield commands.SendData(self.context.client, _ESTABLISHED)
            self.context.server.address = (destination.host, destination.port)
            intercepted = InterceptLayer(self.context, target.lower(), self._reception)
            yield from self._become(intercepted, rest)
            return
        self._data, self._greeting = rest, _ESTABLISHED
        yield from self._judge(destination)

    # http://

    def _absolute(self, target: str) -> layer.CommandGenerator[None]:
        authority = re.split("[/?#]", target[len("http://") :], maxsplit=1)[0]
        destination = _authority(authority, 80)
        if destination is None:
            yield from self._answer(400, "bad request target")
            return
        self._data = _single(self._data, authority)
        if self._reception.intercepts(destination.host, destination.port):
            yield from self._serve(Place("http", None, is_proxied=True))
            return
        yield from self._judge(destination)

    # Elsewhere.

    def _judge(self, destination: Destination) -> layer.CommandGenerator[None]:
        self._goal = f" on its way to {destination.host}:{destination.port}"
        hook = EntrepotJudgeHook(destination)
        # Completed like a blocking one, but what the client sends meanwhile comes here: mitmproxy's
        # own queue for layers that wait has no bound.
        hook.blocking = self  # type: ignore[assignment]  # declared in the base of its base
        self._handle_event = self._wait  # type: ignore[method-assign]  # mitmproxy's idiom
        yield hook

    def _wait(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, events.DataReceived):
            self._data += event.data
            if len(self._data) > HELD_MAX:
                yield EntrepotPaceHook(Pace(self.context.client, may_read=False))
        elif isinstance(event, events.ConnectionClosed):
            self._handle_event = self._linger  # type: ignore[method-assign]  # mitmproxy's idiom
            yield commands.CloseConnection(self.context.client)
        elif isinstance(event, events.HookCompleted):
            if len(self._data) > HELD_MAX:
                yield EntrepotPaceHook(Pace(self.context.client, may_read=True))
            assert isinstance(event.command, EntrepotJudgeHook)
            yield from self._go(event.command.destination.judgement)

    def _go(self, judgement: Judgement) -> layer.CommandGenerator[None]:
        match judgement:
            case Allowed(addresses=addresses):
                tunnel = TunnelLayer(
                    self.context,
                    addresses,
                    greeting=self._greeting,
                    opening=self._data if self._greeting else _in_origin_form(self._data),
                    connect_timeout_s=self._reception.connect_timeout_s,
                )
                yield from self._become(tunnel, b"")
            case Ourselves() if self._greeting:
                yield from self._answer(403, "that would lead back to this proxy")
            case Ourselves():
                self._data = _in_origin_form(self._data)
                yield from self._serve(Place("http", None))
            case Refused(status=status, message=message):
                yield from self._answer(status, message)

    # What follows.

    def _serve(self, place: Place) -> layer.CommandGenerator[None]:
        timeout_s = self._reception.header_timeout_s
        yield from self._become(
            HttpLayer(self.context, place, header_timeout_s=timeout_s), self._data
        )

    def _become(self, child: layer.Layer, data: bytes) -> layer.CommandGenerator[None]:
        self._data = b""
        self._handle_event = child.handle_event  # type: ignore[method-assign]  # mitmproxy's idiom
        yield from child.handle_event(events.Start())
        if data:
            yield from child.handle_event(events.DataReceived(self.context.client, data))

    def _answer(
        self, status: int, message: str, headers: dict[str, str] | None = None
    ) -> layer.CommandGenerator[None]:
        peer = self.context.client.peername
        logger.info("client %s%s got %d: %s", peer and peer[0], self._goal, status, message)
        yield commands.SendData(self.context.client, refusal(status, message, headers))
        yield commands.CloseTcpConnection(self.context.client, half_close=True)
        self._lingering = commands.RequestWakeup(LINGER_S)
        self._handle_event = self._linger  # type: ignore[method-assign]  # mitmproxy's idiom
        yield self._lingering

    def _linger(self, event: events.Event) -> layer.CommandGenerator[None]:
        """As `HttpLayer._linger`."""
        is_over = isinstance(event, events.Wakeup) and event.command is self._lingering
        if is_over or isinstance(event, events.ConnectionClosed):
            yield commands.CloseConnection(self.context.client)


class ClosedLayer(layer.Layer):
    """Where there is nobody to ask: the connection ends, and leads nowhere else."""

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, events.Start):
            yield commands.CloseConnection(self.context.client)


class InterceptLayer(layer.Layer):
    """Inside a CONNECT to a registry: TLS with our certificate, or plain HTTP if that comes."""

    def __init__(self, context: Context, authority: str, reception: Reception) -> None:
        super().__init__(context)
        self._authority = authority
        self._reception = reception

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, events.DataReceived):
            child = self._child(is_tls=event.data[0] == _TLS_HANDSHAKE)
            self._handle_event = child.handle_event  # type: ignore[method-assign]  # as above
            yield from child.handle_event(events.Start())
            yield from child.handle_event(event)
        elif isinstance(event, events.ConnectionClosed):
            yield commands.CloseConnection(self.context.client)

    def _child(self, *, is_tls: bool) -> layer.Layer:
        timeout_s = self._reception.header_timeout_s
        if not is_tls:
            return HttpLayer(
                self.context, Place("http", self._authority), header_timeout_s=timeout_s
            )
        tls = _ClientTls(self.context)
        tls.child_layer = HttpLayer(
            self.context, Place("https", self._authority), header_timeout_s=timeout_s
        )
        return tls


class _ClientTls(ClientTLSLayer):
    """Where there is no certificate to show, the addon has said why: the client is told at once,
    and nothing of its trust is guessed.
    """

    _is_refused = False

    def start_tls(self) -> layer.CommandGenerator[None]:
        start = TlsData(self.conn, self.context)
        yield TlsStartClientHook(start)
        if start.ssl_conn is None:
            self._is_refused = True
            yield commands.SendData(self.conn, _INTERNAL_ERROR)
            yield commands.CloseConnection(self.conn)
        else:
            self.tls = start.ssl_conn

    def on_handshake_error(self, err: str) -> layer.CommandGenerator[None]:
        if self._is_refused:
            self.event_to_child = self.errored  # type: ignore[method-assign]  # mitmproxy's idiom
        else:
            yield from super().on_handshake_error(err)


def _authority(text: str, default_port: int | None) -> Destination | None:
    if not text.isascii() or not text.isprintable() or not _NO_AUTHORITY.isdisjoint(text):
        return None
    try:
        parts = urlsplit(f"//{text}")
        host = (parts.hostname or "").rstrip(".")
        port = default_port if parts.port is None else parts.port
    except ValueError:
        return None
    return Destination(host, port) if host and port else None


def _proxy_authorization(fields: bytes) -> str:
    for line in fields.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"proxy-authorization":
            return value.decode("latin-1")
    return ""


def _in_origin_form(data: bytes) -> bytes:
    """`GET http://host/path HTTP/1.1` as the host itself wants to hear it: `GET /path HTTP/1.1`."""
    line, separator, rest = data.partition(b"\r\n")
    method, target, version = [*line.split(b" "), b"", b""][:3]
    path = _ORIGIN.sub(b"", target).partition(b"#")[0]
    if not path.startswith(b"/"):
        path = b"/" + path
    return b" ".join((method, path, version)) + separator + rest


def _single(data: bytes, authority: str) -> bytes:
    """One request a connection: the next may be for another host, and clients send it down the same
    connection (Go's do).
    """
    head, separator, rest = data.partition(_HEAD_END)
    line, *fields = head.split(b"\r\n")
    kept = [field for field in fields if not field.lower().startswith(_FOR_US)]
    host = b"Host: " + authority.encode("latin-1")
    return b"\r\n".join([line, host, *kept, b"Connection: close"]) + separator + rest
