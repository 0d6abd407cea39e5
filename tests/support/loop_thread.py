"""An event loop in a thread of its own: a server in it serves sync and async tests alike."""

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

_STOP_S = 10.0


class LoopThread:
    """Owns the tasks that are started in it; an error in one comes out of `close`."""

    def __init__(self, name: str) -> None:
        self._ready: Future[None] = Future()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)
        self._thread.start()
        self._ready.result()

    def run[T](self, work: Coroutine[Any, Any, T]) -> T:
        """From another thread: have `work` done in the loop, and wait for what it returns."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(_STOP_S)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """From within the loop: a task that ends with the thread at the latest."""
        return self._group.create_task(work)

    def close(self) -> None:
        if self._thread.is_alive():
            with suppress(RuntimeError):  # the loop has just ended by itself
                self.loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(_STOP_S)
        if self._failure is not None:
            raise self._failure

    def _main(self) -> None:
        try:
            asyncio.run(self._hold())
        except BaseException as error:  # noqa: BLE001 - carried over to the thread that closes
            self._failure = error

    async def _hold(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        with suppress(_Stopped):
            async with asyncio.TaskGroup() as self._group:
                self._ready.set_result(None)
                await self._stop.wait()
                raise _Stopped


class _Stopped(Exception):  # noqa: N818 - not an error: how a task group is told to end
    pass
