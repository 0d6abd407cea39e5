"""A layer's conversation without sockets: events in, commands out, as mitmproxy's server has it."""

from collections.abc import Callable, Sequence

from mitmproxy.connection import Client, Connection, ConnectionState
from mitmproxy.options import Options
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.commands import CloseConnection, Command, SendData
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layer import Layer

PEER = "192.0.2.7"


def make_context(peer: str = PEER) -> Context:
    client = Client(
        peername=(peer, 40_000), sockname=("192.0.2.1", 3128), state=ConnectionState.OPEN
    )
    return Context(client, Options())


class Conversation:
    """Every step returns the commands that it led to; `sent` is what the client has been told."""

    def __init__(self, make_layer: Callable[[Context], Layer], peer: str = PEER) -> None:
        self.context = make_context(peer)
        self.client = self.context.client
        self.sent = b""
        self.timers: list[commands.RequestWakeup] = []
        self._layer = make_layer(self.context)
        self.opening = self.tell(events.Start())

    def tell(self, event: events.Event) -> list[Command]:
        told = list(self._layer.handle_event(event))
        for command in told:
            if isinstance(command, SendData) and command.connection is self.client:
                self.sent += command.data
            elif isinstance(command, commands.RequestWakeup):
                self.timers.append(command)
        return told

    def hear(self, data: bytes) -> list[Command]:
        """From the client."""
        return self.tell(events.DataReceived(self.client, data))

    def lose(self, connection: Connection | None = None) -> list[Command]:
        """The other side says no more; we may still."""
        lost = connection or self.client
        lost.state &= ~ConnectionState.CAN_READ
        return self.tell(events.ConnectionClosed(lost))

    def ring(self, timer: commands.RequestWakeup | None = None) -> list[Command]:
        """The last timer that was asked for, or another."""
        return self.tell(events.Wakeup(timer or self.timers[-1]))

    def complete(self, hook: commands.StartHook) -> list[Command]:
        return self.tell(events.HookCompleted(hook))

    def taken(self) -> bytes:
        """What the client has been told since this was last asked."""
        data, self.sent = self.sent, b""
        return data


def only[C: Command](told: Sequence[Command], kind: type[C]) -> C:
    (command,) = [each for each in told if isinstance(each, kind)]
    return command


def every[C: Command](told: Sequence[Command], kind: type[C]) -> list[C]:
    return [each for each in told if isinstance(each, kind)]


def closed(told: Sequence[Command]) -> list[Connection]:
    """The connections that were ended for good."""
    return [
        each.connection for each in told if isinstance(each, CloseConnection) and not is_half(each)
    ]


def half_closed(told: Sequence[Command]) -> list[Connection]:
    return [each.connection for each in told if isinstance(each, CloseConnection) and is_half(each)]


def is_half(command: CloseConnection) -> bool:
    return isinstance(command, commands.CloseTcpConnection) and command.half_close


def status_of(data: bytes) -> int:
    return int(data.split(b" ", 2)[1])
