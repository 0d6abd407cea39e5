"""Ends connections on which nothing happens, with one timer for each."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class IdleTimer:
    """In place of mitmproxy's `TimeoutWatchdog`: ends what has been silent for so long, unless
    something is being done for it.
    """

    def __init__(self, timeout_s: float, end: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._timeout_s = timeout_s
        self._end = end
        self._blockers = 0
        self._last = self._loop.time()
        self._timer = self._loop.call_later(timeout_s, self._look)

    def register_activity(self) -> None:
        self._last = self._loop.time()

    @contextmanager
    def disarm(self) -> Iterator[None]:
        self._blockers += 1
        try:
            yield
        finally:
            self._blockers -= 1
            self.register_activity()

    def stop(self) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        left = self._last + self._timeout_s - self._loop.time()
        if self._blockers:
            left = self._timeout_s
        if left > 0:
            self._timer = self._loop.call_later(left, self._look)
        else:
            self._end()
