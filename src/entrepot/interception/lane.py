"""The fast lane for bodies: bytes of files, encrypted and sent by threads, past the layers.

A thread does one `Stint` at a time: it reads from the file, has OpenSSL encrypt that and hands the
result to the kernel, each with the GIL released, until the client takes no more or it is another's
turn. It waits for nothing, neither for disks nor for clients, so a few threads do for all.

While a thread has a connection's TLS object nobody else may use it: what comes for the layers,
which would, waits in a `WaitingRoom` that stands in for them.
"""

import asyncio
import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from mitmproxy.proxy import commands, events
from OpenSSL import SSL

from entrepot.engine.body import Window

# What is read and sent in one go: a client is woken for each, and at 128 KiB that took a sixth more
# CPU. What is encrypted in one go: OpenSSL keeps a buffer for as much until the connection ends.
SLICE = 512 << 10
_PIECE = 128 << 10
# TLS adds 22 bytes to each 16 KiB, or to each 512 bytes where a client asks for that (RFC 6066).
_SEALED = SLICE * 5 // 4
# What each gets when others wait for a thread: about 1 ms. A hop to a thread costs a tenth of that,
# so who is alone goes on for longer.
_TURN = 1 << 20
_STINT = 16 << 20
# For less, a hop to a thread costs more than what it takes off the loop.
WORTH_IT = 64 << 10
_THREADS_MAX = 8
_HELD_MAX = 64 << 10


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of a stint: so much of the file was taken up; `rest`, encrypted, is still to be
    sent before anything else. `is_full`: the kernel takes no more at the moment.
    """

    count: int
    rest: memoryview = memoryview(b"")  # noqa: RUF009 - it cannot be changed
    is_full: bool = False


class Stint:
    """What a thread does in one go. Fewer bytes than wanted are sent where the page cache has no
    more: whoever waits for disks has the rest.
    """

    def __init__(
        self, window: Window, descriptor: int, tls: SSL.Connection | None, *, step: int
    ) -> None:
        self._window = window
        self._socket = descriptor
        self._tls = tls
        self._step = min(step, SLICE)
        self._is_wanted: Callable[[int], bool] = lambda _: True
        self.is_ended = False  # others say so

    def run(self, buffers: "Buffers", is_wanted: Callable[[int], bool]) -> Sent:
        """`is_wanted` tells after so many bytes whether there may be more."""
        self._is_wanted = is_wanted
        with self._window.file.borrowed() as file:
            stop = self._window.offset + min(self._window.size, _STINT)
            if self._tls is None:
                return self._send_file(file, stop)
            try:
                return self._encrypt(self._tls, file, stop, buffers)
            except SSL.Error as error:
                raise ConnectionResetError("the TLS connection broke") from error

    def _encrypt(self, tls: SSL.Connection, file: int, stop: int, buffers: "Buffers") -> Sent:
        start = offset = self._window.offset
        buffers.clear()
        while offset < stop and self._may_go_on(offset):
            plain = buffers.plain[: min(self._step, stop - offset)]
            count = read_cached(file, plain, offset)
            if not count:
                break
            offset += count
            for begin in range(0, count, _PIECE):
                tls.sendall(plain[begin : min(begin + _PIECE, count)])
                buffers.take(tls)
            rest = buffers.send(tls, self._socket)
            if rest:
                return Sent(offset - start, rest, is_full=True)
        return Sent(offset - start)

    def _send_file(self, file: int, stop: int) -> Sent:
        start = offset = self._window.offset
        while offset < stop and self._may_go_on(offset):
            size = min(SLICE, stop - offset)
            if not is_cached(file, offset + size - 1):
                break
            try:
                count = os.sendfile(self._socket, file, offset, size)
            except BlockingIOError:
                return Sent(offset - start, is_full=True)
            if not count:
                break
            offset += count
        return Sent(offset - start)

    def _may_go_on(self, offset: int) -> bool:
        return not self.is_ended and self._is_wanted(offset - self._window.offset)


class Buffers:
    """A thread's own, used over and over: what is read, and that encrypted.

    `bio_read` of pyOpenSSL allocates for each call and copies twice, a tenth of all CPU here. What
    it calls itself copies once; where a version has other names for that, `bio_read` does.
    """

    def __init__(self) -> None:
        self.plain = memoryview(bytearray(SLICE))
        sealed = bytearray(_SEALED)
        self._sealed = memoryview(sealed)
        self._end = 0
        self._bio_read = getattr(getattr(SSL, "_lib", None), "BIO_read", None)
        ffi = getattr(SSL, "_ffi", None)
        self._pointer = ffi.from_buffer("char[]", sealed) if ffi is not None else None

    def clear(self) -> None:
        """Nothing of what another connection left, when it broke, is for this one."""
        self._end = 0

    def take(self, tls: SSL.Connection) -> None:
        """What is encrypted, as far as there is room."""
        room = _SEALED - self._end
        if room == 0:
            return
        source = getattr(tls, "_from_ssl", None)
        if self._bio_read is None or self._pointer is None or source is None:
            data = tls.bio_read(room)
            count = len(data)
            self._sealed[self._end : self._end + count] = data
        else:
            count = max(0, self._bio_read(source, self._pointer + self._end, room))
        self._end += count

    def send(self, tls: SSL.Connection, descriptor: int) -> memoryview:
        """What the kernel did not take: after a part it takes no more."""
        end, self._end = self._end, 0
        try:
            sent = os.write(descriptor, self._sealed[:end])
        except BlockingIOError:
            sent = 0
        rest = bytes(self._sealed[sent:end])
        return memoryview(rest + _all_left(tls) if end == _SEALED else rest)


class Lane:
    """The threads, and what they need to work. Used on the event loop."""

    def __init__(self, threads: int | None = None) -> None:
        self._executor = ThreadPoolExecutor(threads or _threads(), "entrepot-lane")
        self._local = threading.local()
        self._lock = threading.Lock()
        self._waiting = 0  # stints that no thread has begun
        self.carried = 0  # bytes of files

    async def run(self, stint: Stint) -> Sent:
        """When it returns or raises, no thread is at it any more."""
        self._count(1)
        work = self._executor.submit(self._work, stint)
        future = asyncio.wrap_future(work)
        try:
            await asyncio.shield(future)
        except asyncio.CancelledError:
            stint.is_ended = True
            if work.cancel():  # no thread has begun
                self._count(-1)
            await _ended(future)
            raise
        sent = future.result()
        self.carried += sent.count
        return sent

    def close(self) -> None:
        self._executor.shutdown(wait=False)

    def _work(self, stint: Stint) -> Sent:
        self._count(-1)
        buffers: Buffers | None = getattr(self._local, "buffers", None)
        if buffers is None:
            buffers = self._local.buffers = Buffers()
        return stint.run(buffers, self._may_go_on)

    def _may_go_on(self, done: int) -> bool:
        return done < _TURN or not self._waiting

    def _count(self, change: int) -> None:
        with self._lock:
            self._waiting += change


class WaitingRoom:
    """Stands in for a connection's layers during a stint, which ends soon when there is something
    for them: what came meanwhile is theirs afterwards.
    """

    def __init__(self, stint: Stint, pause: Callable[[], None]) -> None:
        self.events: list[events.Event] = []
        self.is_full = False
        self._held = 0
        self._stint = stint
        self._pause = pause

    def handle_event(self, event: events.Event) -> Iterable[commands.Command]:
        self.events.append(event)
        self._stint.is_ended = True
        if isinstance(event, events.DataReceived):
            self._held += len(event.data)
            if self._held > _HELD_MAX and not self.is_full:
                self.is_full = True
                self._pause()
        return ()


async def _ended(future: asyncio.Future[Sent]) -> None:
    """However often this task is cancelled meanwhile: a thread is at it."""
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError:
            continue
    if not future.cancelled():
        future.exception()  # which nobody asks for any more


def read_cached(file: int, target: memoryview, offset: int) -> int:
    """What the page cache has of it, 0 for nothing; waits where the file system cannot tell."""
    nowait: int = getattr(os, "RWF_NOWAIT", 0)  # Linux
    try:
        return os.preadv(file, [target], offset, nowait)
    except BlockingIOError:
        return 0
    except OSError:
        return os.preadv(file, [target], offset)


def is_cached(file: int, offset: int) -> bool:
    return read_cached(file, memoryview(bytearray(1)), offset) == 1


def _all_left(tls: SSL.Connection) -> bytes:
    parts = []
    while True:
        try:
            parts.append(tls.bio_read(_PIECE))
        except SSL.WantReadError:
            return b"".join(parts)


def _threads() -> int:
    """As many as can run at once, and no fewer than two: one that is held up holds up nobody."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux
    count = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(2, min(_THREADS_MAX, count))
