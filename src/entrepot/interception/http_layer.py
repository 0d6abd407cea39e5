"""A connection's HTTP/1.1 without I/O: mitmproxy's events in, commands out.

One exchange at a time; requests that come in earlier (pipelining) wait, up to a bound. The
exchange itself runs in a hook that does not block the layer, so that request bodies flow in and
a client that leaves is noticed while the answer is under way; what it sends comes back here as
`Output`, an event of our own.
"""

import asyncio
import time
from collections import deque
from dataclasses import dataclass
from enum import Enum, auto

from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context

from entrepot.interception.http1 import (
    BadRequest,
    BodyData,
    BodyEnd,
    Event,
    Head,
    RequestParser,
    refusal,
)
from entrepot.interception.request_body import RequestBody

# What may wait behind a running exchange: no client of registries pipelines.
_WAITING_MAX = 64
LINGER_S = 5.0


class Entrance(Enum):
    """By which way a request has come."""

    PROXY = auto()  # on its way to a registry
    PAGES = auto()  # for the proxy itself
    REGISTRY = auto()  # to the local registries' own port


@dataclass(frozen=True, slots=True)
class Place:
    """Where a connection's requests are addressed to."""

    scheme: str
    authority: str | None  # of the CONNECT; None: each request says it itself
    is_proxied: bool = False  # what names a host has come past the checks of those who do
    is_registry: bool = False  # the local registries' own port


@dataclass(eq=False)
class ClientExchange:
    """One request, between the layer that made it and the coroutine that answers it."""

    head: Head
    place: Place
    body: RequestBody
    context: Context
    task: asyncio.Task[object] | None = None
    ended_because: str = ""

    def cancel(self, reason: str = "the client went away") -> None:
        """Nobody waits for the answer any more."""
        self.ended_because = self.ended_because or reason
        self.body.break_off()
        if self.task is not None:
            self.task.cancel()


@dataclass
class EntrepotExchangeHook(commands.StartHook):
    """A request is to be answered."""

    exchange: ClientExchange
    # The layer goes on while the exchange runs.
    blocking = False


@dataclass
class Output(events.Event):
    """What an exchange sends to the client."""

    exchange: ClientExchange
    data: bytes


@dataclass
class ExchangeEnded(events.Event):
    exchange: ClientExchange
    keep_alive: bool


class HttpLayer(layer.Layer):
    def __init__(self, context: Context, place: Place, *, header_timeout_s: float) -> None:
        super().__init__(context)
        self._place = place
        self._header_timeout_s = header_timeout_s
        self._parser = RequestParser()
        self._waiting: deque[Event] = deque()
        self._exchange: ClientExchange | None = None
        self._head_since: float | None = None
        self._is_timing = False  # one timer runs at a time, however many heads come in pieces
        self._lingering: commands.RequestWakeup | None = None
        self._is_closed = False

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        if self._is_closed:
            yield from self._linger(event)
        elif isinstance(event, events.DataReceived):
            yield from self._receive(event.data)
        elif isinstance(event, Output):
            if event.exchange is self._exchange:
                yield commands.SendData(self.context.client, event.data)
        elif isinstance(event, ExchangeEnded):
            yield from self._end(event)
        elif isinstance(event, events.ConnectionClosed):
            yield from self._close()
        elif isinstance(event, events.Wakeup):
            yield from self._check_head()

    def _receive(self, data: bytes) -> layer.CommandGenerator[None]:
        try:
            self._waiting.extend(self._parser.feed(data))
        except BadRequest as error:
            yield from self._refuse(error)
            return
        yield from self._advance()
        if len(self._waiting) > _WAITING_MAX:
            yield from self._close()
        elif not self._parser.is_in_head:
            self._head_since = None
        elif self._head_since is None:
            self._head_since = time.monotonic()
            if not self._is_timing:
                self._is_timing = True
                yield commands.RequestWakeup(self._header_timeout_s)

    def _advance(self) -> layer.CommandGenerator[None]:
        """Hand on what has come in, as far as it belongs to the exchange that is running."""
        while self._waiting:
            match self._waiting[0]:
                case Head() as head:
                    if self._exchange is not None:
                        return
                    body = RequestBody(is_complete=False)
                    self._exchange = ClientExchange(head, self._place, body, self.context)
                    self._waiting.popleft()
                    if self._waiting and isinstance(self._waiting[0], BodyEnd):
                        self._waiting.popleft()
                        body.feed_end()
                    yield EntrepotExchangeHook(self._exchange)
                case BodyData(data=data):
                    self._waiting.popleft()
                    if self._exchange is not None:
                        self._exchange.body.feed(data)
                case BodyEnd():
                    self._waiting.popleft()
                    if self._exchange is not None:
                        self._exchange.body.feed_end()

    def _end(self, event: ExchangeEnded) -> layer.CommandGenerator[None]:
        if event.exchange is not self._exchange:
            return
        self._exchange = None
        event.exchange.body.discard()
        # The rest of it would be taken for the next request.
        if not event.exchange.body.is_complete:
            yield from self._hang_up()
        elif event.keep_alive:
            yield from self._advance()
        else:
            yield from self._close()

    def _check_head(self) -> layer.CommandGenerator[None]:
        self._is_timing = False
        if self._head_since is None:
            return
        rest = self._header_timeout_s - (time.monotonic() - self._head_since)
        if rest > 0:
            self._is_timing = True
            yield commands.RequestWakeup(rest)
        else:
            yield from self._refuse(BadRequest(408, "the request did not come in in time"))

    def _refuse(self, error: BadRequest) -> layer.CommandGenerator[None]:
        if self._exchange is None:
            yield commands.SendData(self.context.client, refusal(error.status, str(error)))
            yield from self._hang_up()
        else:
            yield from self._close()

    def _hang_up(self) -> layer.CommandGenerator[None]:
        """Say no more, but hear the client out: to close while it sends would reset the connection,
        and the answer would be lost on the way (RFC 9112 section 9.6).
        """
        self._is_closed = True
        self._exchange = None
        yield commands.CloseTcpConnection(self.context.client, half_close=True)
        self._lingering = commands.RequestWakeup(LINGER_S)
        yield self._lingering

    def _linger(self, event: events.Event) -> layer.CommandGenerator[None]:
        is_over = isinstance(event, events.Wakeup) and event.command is self._lingering
        if is_over or isinstance(event, events.ConnectionClosed):
            yield commands.CloseConnection(self.context.client)

    def _close(self) -> layer.CommandGenerator[None]:
        self._is_closed = True
        if self._exchange is not None:
            self._exchange.cancel()
            self._exchange = None
        yield commands.CloseConnection(self.context.client)
