"""A request's body between the connection that delivers it and the engine that reads it."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable

# Beyond the first mark the client is asked to wait, below the second it may go on.
_HIGH = 1 << 20
_LOW = 256 << 10


class RequestBody:
    """Bounded by back-pressure: `pace(False)` stops reading from the client."""

    def __init__(self, *, is_complete: bool) -> None:
        self.is_complete = is_complete
        self.pace: Callable[[bool], None] = lambda _: None
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._is_broken = False
        self._is_paused = False
        self._changed = asyncio.Event()

    def feed(self, data: bytes) -> None:
        self._pieces.append(data)
        self._size += len(data)
        if self._size > _HIGH and not self._is_paused:
            self._is_paused = True
            self.pace(False)
        self._changed.set()

    def feed_end(self) -> None:
        self.is_complete = True
        self._changed.set()

    def break_off(self) -> None:
        self._is_broken = True
        self._changed.set()

    async def pieces(self) -> AsyncIterator[bytes]:
        while True:
            while self._pieces:
                piece = self._pieces.popleft()
                self._size -= len(piece)
                if self._is_paused and self._size < _LOW:
                    self._is_paused = False
                    self.pace(True)
                yield piece
            if self.is_complete:
                return
            if self._is_broken:
                raise ConnectionResetError("the client went away")
            self._changed.clear()
            await self._changed.wait()
