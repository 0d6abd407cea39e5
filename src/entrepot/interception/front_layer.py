"""The first layer of every connection: reads the first request's head and chooses what follows."""

import logging
import re
from dataclasses import dataclass, field
from typing import Protocol

from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context

from entrepot.interception.clients import NO_PASSWORD
from entrepot.interception.first_head import (
    HEAD_END,
    authority,
    in_origin_form,
    is_proxied,
    method_and_target,
    proxy_authorization,
    single,
)
from entrepot.interception.http1 import MAX_HEAD, refusal
from entrepot.interception.http_layer import LINGER_S, HttpLayer, Place
from entrepot.interception.reminders import Reminders
from entrepot.interception.tls import ClientTlsLayer
from entrepot.interception.tunnel import Allowed, Judgement, Ourselves, Refused
from entrepot.interception.tunnel_layer import HELD_MAX, EntrepotPaceHook, Pace, TunnelLayer
from entrepot.passwords.basic import basic_credentials

logger = logging.getLogger(__name__)

_ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
_TLS_HANDSHAKE = 0x16


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


@dataclass(eq=False)
class Login:
    """What a client brings, and why it is not served once it was checked."""

    client: str
    authorization: str = field(repr=False)
    refusal: Refused | None = field(
        default_factory=lambda: Refused(500, "nobody checked this password")
    )


@dataclass
class EntrepotLoginHook(commands.StartHook):
    """A user name and password are to be checked, which may take seconds."""

    login: Login


class Reception(Protocol):
    """What the front needs to know of the configuration."""

    @property
    def header_timeout_s(self) -> float: ...

    @property
    def connect_timeout_s(self) -> float: ...

    def serves(self, peer: str) -> bool: ...

    def admits(self, peer: str, proxy_authorization: str) -> bool:
        """At once; who is not admitted may be all the same, once that was checked."""
        ...

    def intercepts(self, host: str, port: int) -> bool: ...


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
        end = self._data.find(HEAD_END)
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
        authorization = proxy_authorization(fields)
        if not is_proxied(line) or self._reception.admits(peer, authorization):
            yield from self._route()
        elif basic_credentials(authorization) is None:
            yield from self._refuse(NO_PASSWORD)
        else:
            yield from self._ask(EntrepotLoginHook(Login(peer, authorization)))

    def _route(self) -> layer.CommandGenerator[None]:
        """`_data` begins with a whole head."""
        end = self._data.index(HEAD_END)
        method, target = method_and_target(self._data[:end].partition(b"\r\n")[0])
        if method == b"CONNECT":
            yield from self._connect(target, self._data[end + len(HEAD_END) :])
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
        address = authority(target, None)
        if address is None:
            yield from self._answer(400, "CONNECT takes host:port")
            return
        if self._reception.intercepts(*address):
            yield commands.SendData(self.context.client, _ESTABLISHED)
            self.context.server.address = address
            intercepted = InterceptLayer(self.context, target.lower(), self._reception)
            yield from self._become(intercepted, rest)
            return
        self._data, self._greeting = rest, _ESTABLISHED
        yield from self._judge(Destination(*address))

    # http://

    def _absolute(self, target: str) -> layer.CommandGenerator[None]:
        named = re.split("[/?#]", target[len("http://") :], maxsplit=1)[0]
        address = authority(named, 80)
        if address is None:
            yield from self._answer(400, "bad request target")
            return
        self._data = single(self._data, named)
        if self._reception.intercepts(*address):
            yield from self._serve(Place("http", None, is_proxied=True))
            return
        yield from self._judge(Destination(*address))

    # Elsewhere.

    def _judge(self, destination: Destination) -> layer.CommandGenerator[None]:
        self._goal = f" on its way to {destination.host}:{destination.port}"
        yield from self._ask(EntrepotJudgeHook(destination))

    def _ask(self, hook: commands.StartHook) -> layer.CommandGenerator[None]:
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
            if isinstance(event.command, EntrepotLoginHook):
                refused = event.command.login.refusal
                yield from self._refuse(refused) if refused else self._route()
            else:
                assert isinstance(event.command, EntrepotJudgeHook)
                yield from self._go(event.command.destination.judgement)

    def _go(self, judgement: Judgement) -> layer.CommandGenerator[None]:
        match judgement:
            case Allowed(addresses=addresses):
                tunnel = TunnelLayer(
                    self.context,
                    addresses,
                    greeting=self._greeting,
                    opening=self._data if self._greeting else in_origin_form(self._data),
                    connect_timeout_s=self._reception.connect_timeout_s,
                )
                yield from self._become(tunnel, b"")
            case Ourselves() if self._greeting:
                yield from self._answer(403, "that would lead back to this proxy")
            case Ourselves():
                self._data = in_origin_form(self._data)
                yield from self._serve(Place("http", None))
            case Refused():
                yield from self._refuse(judgement)

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

    def _refuse(self, refused: Refused) -> layer.CommandGenerator[None]:
        yield from self._answer(refused.status, refused.message, dict(refused.headers))

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
        tls = ClientTlsLayer(self.context, is_host_known=True)
        tls.child_layer = HttpLayer(
            self.context, Place("https", self._authority), header_timeout_s=timeout_s
        )
        return tls
