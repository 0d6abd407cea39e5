"""A connection's transport in memory: flow control as asyncio's, and a client that a test moves."""

import asyncio


class MemoryTransport(asyncio.Transport):
    """`taken` is what the client has; with a `window` it takes no more than that until told."""

    def __init__(self, protocol: asyncio.StreamReaderProtocol, window: int | None = None) -> None:
        super().__init__({"peername": ("192.0.2.7", 40_000), "sockname": ("192.0.2.1", 3128)})
        self.protocol = protocol
        self.taken = bytearray()
        self.is_aborted = False
        self.is_eof = False
        self.changed = asyncio.Event()
        self._window = window
        self._buffer = bytearray()
        self._high = 65_536
        self._is_reading = True
        self._is_closing = False
        self._is_paused = False
        protocol.connection_made(self)

    # The client's side.

    def say(self, data: bytes) -> None:
        assert self._is_reading, "it was asked to wait"
        self.protocol.data_received(data)

    def leave(self, error: Exception | None = None) -> None:
        if error is None:
            self.protocol.eof_received()
        else:
            self._lose(error)

    def take(self, size: int) -> None:
        """The client reads on."""
        if self._window is not None:
            self._window += size
        self._flush()

    # asyncio's side.

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._is_closing:
            self._buffer += data
            self._flush()

    def _flush(self) -> None:
        size = len(self._buffer)
        if self._window is not None:
            size = min(size, self._window)
            self._window -= size
        self.taken += self._buffer[:size]
        del self._buffer[:size]
        if len(self._buffer) > self._high and not self._is_paused:
            self._is_paused = True
            self.protocol.pause_writing()
        elif self._is_paused and not self._buffer:
            self._is_paused = False
            self.protocol.resume_writing()
        self.changed.set()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = 65_536 if high is None else high

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return 0, self._high

    def get_write_buffer_size(self) -> int:
        return len(self._buffer)

    def pause_reading(self) -> None:
        self._is_reading = False
        self.changed.set()

    def resume_reading(self) -> None:
        self._is_reading = True
        self.changed.set()

    def is_reading(self) -> bool:
        return self._is_reading

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.is_eof = True
        self.changed.set()

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        self._lose(None)

    def abort(self) -> None:
        self.is_aborted = True
        self._buffer.clear()
        self._lose(None)

    def _lose(self, error: Exception | None) -> None:
        if not self._is_closing:
            self._is_closing = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, error)
        self.changed.set()
