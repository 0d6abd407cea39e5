"""A client's whole connection in memory: mitmproxy's own handler, our layers, and no socket."""

import asyncio
import inspect
from collections.abc import Callable
from types import TracebackType
from typing import Self

from mitmproxy.options import Options
from mitmproxy.proxy.commands import StartHook
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layer import Layer
from mitmproxy.proxy.mode_specs import ProxyMode
from mitmproxy.proxy.server import LiveConnectionHandler

from tests.interception.memory_transport import MemoryTransport

_PATIENCE_S = 10.0


class Handler(LiveConnectionHandler):
    """Hooks go to one addon."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        addon: object,
        make_layer: Callable[[Context], Layer],
    ) -> None:
        super().__init__(reader, writer, Options(), ProxyMode.parse("regular"))
        self._addon = addon
        self.layer = make_layer(self.layer.context)

    async def handle_hook(self, hook: StartHook) -> None:
        method = getattr(self._addon, hook.name, None)
        if method is not None:
            result = method(*hook.args())
            if inspect.isawaitable(result):
                await result


class Line:
    """Entered it is connected; the end of the test is the client's leaving."""

    def __init__(
        self, make_layer: Callable[[Context], Layer], addon: object, *, window: int | None = None
    ) -> None:
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        self.transport = MemoryTransport(protocol, window)
        loop = asyncio.get_running_loop()
        writer = asyncio.StreamWriter(self.transport, protocol, reader, loop)
        self.handler = Handler(reader, writer, addon, make_layer)
        self._read = 0
        self._tasks = asyncio.TaskGroup()

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        self._tasks.create_task(self.handler.handle_client())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.transport.leave()
        await self._tasks.__aexit__(None, None, None)

    def say(self, data: bytes) -> None:
        self.transport.say(data)

    async def heard(self, end: bytes) -> bytes:
        """What has come since the last time, up to and with `end`."""
        taken = self.transport.taken
        await self.until(lambda: end in taken[self._read :])
        stop = taken.index(end, self._read) + len(end)
        data, self._read = bytes(taken[self._read : stop]), stop
        return data

    async def heard_some(self) -> bytes:
        await self.until(lambda: len(self.transport.taken) > self._read)
        data, self._read = bytes(self.transport.taken[self._read :]), len(self.transport.taken)
        return data

    async def heard_all(self) -> bytes:
        """To the end of the connection, whatever its kind."""
        await self.until(lambda: self.transport.is_eof or self.transport.is_closing())
        data, self._read = bytes(self.transport.taken[self._read :]), len(self.transport.taken)
        return data

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(_PATIENCE_S):
            while not holds():
                self.transport.changed.clear()
                await self.transport.changed.wait()
