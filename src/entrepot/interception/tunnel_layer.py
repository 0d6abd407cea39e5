"""A tunnel: bytes both ways, untouched, to the first of several addresses that answers."""

import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from mitmproxy.connection import Client, Connection, ConnectionState, Server
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context

from entrepot.interception.http1 import refusal
from entrepot.interception.tunnel import Address

logger = logging.getLogger(__name__)

# RFC 8305 section 8: the next address is tried when the one before has not answered by then.
_ATTEMPT_DELAY_S = 0.25
# What is held for a server that is not connected yet; a client that sends more is asked to wait.
HELD_MAX = 256 << 10


@dataclass(frozen=True, slots=True)
class Pace:
    client: Client
    may_read: bool


@dataclass
class EntrepotPaceHook(commands.StartHook):
    """Reading from a client is to pause, or to go on."""

    pace: Pace
    blocking = False


class _OpenNowait(commands.OpenConnection):
    """The layer goes on while the connection is made: others may be tried beside it."""

    blocking = False


class TunnelLayer(layer.Layer):
    """`greeting` goes to the client, `opening` to the server, once they are connected."""

    def __init__(
        self,
        context: Context,
        addresses: Sequence[Address],
        *,
        greeting: bytes,
        opening: bytes,
        connect_timeout_s: float,
    ) -> None:
        super().__init__(context)
        self._addresses = addresses
        self._untried = deque(addresses)
        self._greeting = greeting
        self._opening = bytearray(opening)
        self._connect_timeout_s = connect_timeout_s
        self._trying: list[Server] = []
        self._server: Server | None = None
        self._deadline: commands.RequestWakeup | None = None
        self._is_over = False

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        if self._is_over:
            return
        if isinstance(event, events.Start):
            self._deadline = commands.RequestWakeup(self._connect_timeout_s)
            yield self._deadline
            yield from self._try_next()
        elif isinstance(event, events.Wakeup):
            yield from self._wake(event)
        elif isinstance(event, events.OpenConnectionCompleted):
            yield from self._completed(event)
        elif isinstance(event, events.DataReceived):
            yield from self._relay(event)
        elif isinstance(event, events.ConnectionClosed):
            yield from self._closed(event)

    def _try_next(self) -> layer.CommandGenerator[None]:
        if not self._untried:
            return
        server = Server(address=self._untried.popleft())
        self._trying.append(server)
        yield _OpenNowait(server)
        if self._untried:
            yield commands.RequestWakeup(_ATTEMPT_DELAY_S)

    def _wake(self, event: events.Wakeup) -> layer.CommandGenerator[None]:
        if self._server is not None:
            return
        if event.command is self._deadline:
            yield from self._give_up("no address answered in time")
        else:
            yield from self._try_next()

    def _completed(self, event: events.OpenConnectionCompleted) -> layer.CommandGenerator[None]:
        server = event.command.connection
        assert isinstance(server, Server)
        if server not in self._trying:
            if not event.reply:  # another was faster
                yield commands.CloseConnection(server)
            return
        self._trying.remove(server)
        if event.reply:
            if self._trying or self._untried:
                yield from self._try_next()
            else:
                yield from self._give_up("no address answered")
            return
        self._server = self.context.server = server
        for loser in self._trying:
            yield commands.CloseConnection(loser)
        self._trying.clear()
        if self._greeting:
            yield commands.SendData(self.context.client, self._greeting)
        if self._opening:
            yield commands.SendData(server, bytes(self._opening))
        if len(self._opening) > HELD_MAX:
            yield EntrepotPaceHook(Pace(self.context.client, may_read=True))
        self._opening.clear()

    def _relay(self, event: events.DataReceived) -> layer.CommandGenerator[None]:
        if event.connection is not self.context.client:
            yield commands.SendData(self.context.client, event.data)
        elif self._server is not None:
            yield commands.SendData(self._server, event.data)
        else:
            self._opening += event.data
            if len(self._opening) > HELD_MAX:  # said each time: see `RequestBody.feed`
                yield EntrepotPaceHook(Pace(self.context.client, may_read=False))

    def _closed(self, event: events.ConnectionClosed) -> layer.CommandGenerator[None]:
        client, server = self.context.client, self._server
        if server is None:
            yield from self._end(client, *self._trying)
            return
        if event.connection not in (client, server):  # one that was too slow
            return
        if not (client.state & ConnectionState.CAN_READ or server.state & ConnectionState.CAN_READ):
            yield from self._end(client, server)
        else:
            other = server if event.connection is client else client
            yield commands.CloseTcpConnection(other, half_close=True)

    def _give_up(self, reason: str) -> layer.CommandGenerator[None]:
        peer = self.context.client.peername
        tried = ", ".join(f"{host} port {port}" for host, port in self._addresses)
        logger.info("client %s on its way to %s got 504: %s", peer and peer[0], tried, reason)
        yield commands.SendData(self.context.client, refusal(504, reason))
        yield from self._end(self.context.client, *self._trying)

    def _end(self, *connections: Connection) -> layer.CommandGenerator[None]:
        self._is_over = True
        for connection in connections:
            if connection.state is not ConnectionState.CLOSED or isinstance(connection, Server):
                yield commands.CloseConnection(connection)
