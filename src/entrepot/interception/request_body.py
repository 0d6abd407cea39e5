"""A request's body between the connection that delivers it and the engine that reads it."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable

# Beyond the first mark the client is asked to wait, below the second it may go on.
_HIGH = 1 << 20
_LOW = 256 << 10
# Docker sends chunks of 32 KiB, skopeo smaller ones: what each costs on its way, writing and TLS
# above all, is paid once for as many as are here.
STEP = 256 << 10


class RequestBody:
    """Bounded by back-pressure: `pace(False)` stops reading from the client."""

    def __init__(self, *, is_complete: bool) -> None:
        self.is_complete = is_complete
        self.pace: Callable[[bool], None] = lambda _: None
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._is_broken = False
        self._is_unwanted = False
        self._is_paused = False
        self._changed = asyncio.Event()

    def feed(self, data: bytes) -> None:
        if self._is_unwanted:
            return
        self._pieces.append(data)
        self._size += len(data)
        if self._size > _HIGH:
            # Said each time: asyncio's StreamReader, which pauses the same transport for itself,
            # resumes it when its own buffer is read, whoever else had paused it.
            self._is_paused = True
            self.pace(False)
        self._changed.set()

    def feed_end(self) -> None:
        self.is_complete = True
        self._changed.set()

    def break_off(self) -> None:
        self._is_broken = True
        self._changed.set()

    def discard(self) -> None:
        """Nobody will read it: what is here goes, what still comes is not kept, and may come."""
        self._is_unwanted = True
        self._pieces.clear()
        self._size = 0
        self._resume()

    async def pieces(self, timeout_s: float, give_up: Callable[[], None]) -> AsyncIterator[bytes]:
        """`give_up` is called when nothing more has come for that long; it is to break this off."""
        while True:
            while self._pieces:
                yield self._take()
            if self.is_complete:
                return
            if self._is_broken:
                raise ConnectionResetError("the client went away")
            self._changed.clear()
            silence = asyncio.get_running_loop().call_later(timeout_s, give_up)
            try:
                await self._changed.wait()
            finally:
                silence.cancel()

    def _take(self) -> bytes:
        pieces = [self._pieces.popleft()]
        size = len(pieces[0])
        while self._pieces and size + len(self._pieces[0]) <= STEP:
            pieces.append(self._pieces.popleft())
            size += len(pieces[-1])
        self._size -= size
        if self._size < _LOW:
            self._resume()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _resume(self) -> None:
        if self._is_paused:
            self._is_paused = False
            self.pace(True)
