"""A client's connection, between its socket and its layers: mitmproxy's handler without its tasks.

mitmproxy's own has a task that reads, one that waits for it, one that watches the time and one for
each hook and timer, and takes a lock for each event. That is most of what a connection costs, and
nothing of it is needed where hooks are answered at once: here an event is passed to the layers, and
what they say is done, before `data_received` returns. Only what must wait runs in a task.

Servers that layers connect to are mitmproxy's business as before.
"""

import asyncio
import inspect
import logging
import time
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress

from mitmproxy import ctx, exceptions
from mitmproxy.addonmanager import safecall, traverse
from mitmproxy.connection import Client, Connection, ConnectionState
from mitmproxy.proxy import commands, events, server_hooks
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layer import Layer
from mitmproxy.proxy.mode_servers import ProxyConnectionHandler, ServerManager
from mitmproxy.proxy.mode_specs import ProxyMode
from mitmproxy.proxy.server import ConnectionIO
from mitmproxy.utils import asyncio_utils

from entrepot.interception.http_layer import HttpLayer
from entrepot.interception.idle_timer import IdleTimer
from entrepot.interception.registry_layer import RegistryLayer
from entrepot.interception.tls import ClientTlsLayer
from entrepot.interception.tunnel_layer import TunnelLayer

# A hook that is answered at once may lead to the next one, as with requests that were sent before
# the answers came: so deep on the stack, then by way of the loop.
_DEPTH_MAX = 4
_CHOSEN = (ClientTlsLayer, HttpLayer, RegistryLayer, TunnelLayer)
_SERVERS_AT_ONCE = 5  # of one address, as mitmproxy has it


class _End:
    """Of the connection, once all that is being said now has been said."""


_END = _End()


class ClientHandler(ProxyConnectionHandler):
    """Owned by its `ClientProtocol`, which tells it what the transport says."""

    def __init__(
        self,
        transport: asyncio.Transport,
        writer: asyncio.StreamWriter,
        mode: ProxyMode,
        manager: ServerManager,
        make_layer: Callable[[Context], Layer],
    ) -> None:
        # Without mitmproxy's own, half of which is for its tasks. There is no reader.
        self.master = ctx.master
        self.client = Client(
            peername=transport.get_extra_info("peername"),
            sockname=transport.get_extra_info("sockname"),
            timestamp_start=time.time(),
            proxy_mode=mode,
            state=ConnectionState.OPEN,
        )
        self.transports = {self.client: ConnectionIO(writer=writer)}
        self.max_conns = defaultdict(lambda: asyncio.Semaphore(_SERVERS_AT_ONCE))
        self._drain_lock = asyncio.Lock()
        self._transport = transport
        self._manager = manager
        self._work: deque[events.Event | commands.StartHook | _End] = deque()
        self._depth = 0
        self._is_busy = False  # a layer is speaking
        self._has_said_all = False  # the client has
        self._is_over = False
        self._timers: set[asyncio.TimerHandle] = set()
        self._patience: asyncio.TimerHandle | None = None
        self._idle = IdleTimer(ctx.options.tcp_timeout, self._time_out)
        self.timeout_watchdog = self._idle  # type: ignore[assignment]  # as much of it as is used
        self._context = Context(self.client, ctx.options)
        self.layer = self._first_layer = make_layer(self._context)

    def begin(self) -> None:
        self._manager.connections[self.client.id] = self
        self.log("client connect")
        if self._functions("client_connected"):
            self._transport.pause_reading()
            self._create_task(self._introduce(), "client_connected")
        else:
            self.handle(events.Start())

    async def _introduce(self) -> None:
        await self.handle_hook(server_hooks.ClientConnectedHook(self.client))
        if self.client.error:
            self.log("client kill connection")
            self._finish()
        else:
            self.handle(events.Start())
            self._read_on()

    # What the transport says.

    def data_received(self, data: bytes) -> None:
        self.handle(events.DataReceived(self.client, data))
        if self.layer is self._first_layer:
            self._pass_by()
        if any(_is_full(io.writer) for io in self.transports.values()):
            self._transport.pause_reading()
            self._create_task(self._drain(), "drain")

    def _pass_by(self) -> None:
        """Layers that have only chosen those after them have nothing to do with what comes."""
        for layer in self._context.layers:
            if isinstance(layer, _CHOSEN):
                self.layer = layer
                return

    async def _drain(self) -> None:
        await self.drain_writers()  # type: ignore[no-untyped-call]
        self._read_on()

    def _read_on(self) -> None:
        if not self._is_over and not self._transport.is_closing():
            self._transport.resume_reading()

    def eof_received(self) -> None:
        if self._is_over:
            return
        self._has_said_all = True
        self.client.state &= ~ConnectionState.CAN_READ
        self.handle(events.ConnectionClosed(self.client))
        if self.client.state is not ConnectionState.CAN_WRITE:
            self._finish()

    def connection_lost(self) -> None:
        self.client.state = ConnectionState.CLOSED
        self._finish()
        if self._patience is not None:
            self._patience.cancel()

    def _time_out(self) -> None:
        self.log(f"Closing connection due to inactivity: {self.client}")
        self.client.state = ConnectionState.CLOSED
        self._finish()

    # What the layers say to it.

    async def server_event(self, event: events.Event) -> None:
        """As mitmproxy's, for those who know no better; it has been handled when this returns."""
        self.handle(event)

    def handle(self, event: events.Event) -> None:
        self._work.append(event)
        if self._is_busy:
            return
        self._depth += 1
        try:
            while self._work:
                self._do(self._work.popleft())
        finally:
            self._depth -= 1

    def _do(self, work: events.Event | commands.StartHook | _End) -> None:
        if isinstance(work, events.Event):
            self._pass_on(work)
        elif isinstance(work, _End):
            self._finish()
        elif self._depth > _DEPTH_MAX:
            asyncio.get_running_loop().call_soon(self._begin_hook, work)
        else:
            self._begin_hook(work)

    def _pass_on(self, event: events.Event) -> None:
        self._idle.register_activity()
        self._is_busy = True
        try:
            for command in self.layer.handle_event(event):
                self._obey(command)
        except Exception:  # noqa: BLE001 - of one connection, which ends
            # mitmproxy's go on; but what was lost between its bytes, nobody knows after this.
            self.log("a layer failed; its connection ends", logging.ERROR, exc_info=True)
            self.client.state = ConnectionState.CLOSED
            self._transport.abort()
            self._work.append(_END)
        finally:
            self._is_busy = False

    def _obey(self, command: commands.Command) -> None:
        if isinstance(command, commands.StartHook):
            self._work.append(command)
        elif isinstance(command, commands.RequestWakeup):
            self._wake_after(command)
        elif isinstance(command, commands.OpenConnection):
            self._open(command)
        elif isinstance(command, commands.ConnectionCommand):
            if command.connection in self.transports:
                self._obey_about(command)
        elif isinstance(command, commands.Log):
            self.log(command.message, command.level)
        else:
            raise TypeError(f"unexpected command: {command}")

    def _obey_about(self, command: commands.ConnectionCommand) -> None:
        if isinstance(command, commands.SendData):
            writer = self.transports[command.connection].writer
            assert writer
            # TLS has answers of its own, such as alerts, also when the layers in it say no more.
            is_said_out = command.connection is self.client and not self._may_speak
            if not (writer.is_closing() or is_said_out):
                writer.write(command.data)
        elif isinstance(command, commands.CloseConnection):
            is_half = isinstance(command, commands.CloseTcpConnection) and command.half_close
            self.close_connection(command.connection, is_half)

    def _wake_after(self, command: commands.RequestWakeup) -> None:
        def ring() -> None:
            self._timers.discard(timer)
            self.handle(events.Wakeup(command))

        timer = asyncio.get_running_loop().call_later(command.delay, ring)
        self._timers.add(timer)

    def _open(self, command: commands.OpenConnection) -> None:
        assert command.connection not in self.transports
        name = f"server connection handler {command.connection.address}"
        io = self.transports[command.connection] = ConnectionIO()
        io.handler = self._create_task(self.open_connection(command), name)

    def close_connection(self, connection: Connection, half_close: bool = False) -> None:  # noqa: FBT001, FBT002 - mitmproxy's
        if connection is not self.client:
            super().close_connection(connection, half_close)
            return
        if half_close:
            self._say_no_more()
        else:
            connection.state = ConnectionState.CLOSED
        if connection.state is ConnectionState.CLOSED:
            self._work.append(_END)

    @property
    def _may_speak(self) -> bool:
        return bool(self.client.state & ConnectionState.CAN_WRITE)

    def _say_no_more(self) -> None:
        if self._may_speak:
            try:
                if not self._transport.is_closing():
                    self._transport.write_eof()
            except OSError:
                self.client.state = ConnectionState.CLOSED
            else:
                self.client.state &= ~ConnectionState.CAN_WRITE

    # Hooks.

    def _functions(self, name: str) -> list[Callable[..., object]]:
        found = (getattr(addon, name, None) for addon in traverse(self.master.addons.chain))
        return [function for function in found if callable(function)]

    def _begin_hook(self, hook: commands.StartHook) -> None:
        functions = self._functions(hook.name)
        if len(functions) > 1:
            self._create_task(self.hook_task(hook), hook.name)
            return
        result = _call(functions[0], hook) if functions else None
        if inspect.isawaitable(result):
            self._create_task(self._end_hook(hook, result), hook.name)
        elif hook.blocking:
            self.handle(events.HookCompleted(hook))

    async def _end_hook(self, hook: commands.StartHook, result: Awaitable[object]) -> None:
        with self._idle.disarm():
            try:
                await result
            except Exception:  # noqa: BLE001 - told by mitmproxy's own means
                _tell()
        if hook.blocking:
            self.handle(events.HookCompleted(hook))

    # The end.

    def _finish(self) -> None:
        if self._is_over:
            return
        self._is_over = True
        if not self._has_said_all:
            self.handle(events.ConnectionClosed(self.client))
        self._transport.close()
        self._patience = _abort_later(self._transport)
        self.transports.pop(self.client)
        self._idle.stop()
        for timer in self._timers:
            timer.cancel()
        self.log("client disconnect")
        self.client.timestamp_end = time.time()
        del self._manager.connections[self.client.id]
        if self.transports or self._functions("client_disconnected"):
            self._create_task(self._part(), "client_disconnected")

    async def _part(self) -> None:
        await self.handle_hook(server_hooks.ClientDisconnectedHook(self.client))
        writers = [io.writer for io in self.transports.values()]
        handlers = [io.handler for io in self.transports.values() if io.handler]
        for handler in handlers:
            handler.cancel("client disconnected")
        if handlers:
            await asyncio.wait(handlers)
        for writer in writers:
            if isinstance(writer, asyncio.StreamWriter):
                _abort_later(writer.transport)

    def _create_task(self, work: Coroutine[object, object, None], name: str) -> asyncio.Task[None]:
        # mitmproxy's helper is create_task with a reference kept; there is no group to join here.
        return asyncio_utils.create_task(
            work, name=name, keep_ref=True, client=self.client.peername
        )


def _call(function: Callable[..., object], hook: commands.StartHook) -> object:
    try:
        return function(*hook.args())
    except Exception:  # noqa: BLE001 - told by mitmproxy's own means
        _tell()
        return None


def _tell() -> None:
    """Of the exception in hand, as mitmproxy does of an addon's: hooks fail closed."""
    with suppress(exceptions.AddonHalt, exceptions.OptionsError), safecall():
        raise  # noqa: PLE0704 - called where one is in hand


def _abort_later(transport: asyncio.WriteTransport) -> asyncio.TimerHandle | None:
    """One that is closed ends when all is taken; who takes nothing would hold it for ever."""
    if not transport.get_write_buffer_size():
        return None
    return asyncio.get_running_loop().call_later(ctx.options.tcp_timeout, transport.abort)


def _is_full(writer: object) -> bool:
    if not isinstance(writer, asyncio.StreamWriter):
        return False
    transport = writer.transport
    return transport.get_write_buffer_size() > transport.get_write_buffer_limits()[1]
