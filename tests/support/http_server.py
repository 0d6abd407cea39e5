"""HTTP/1.1 over asyncio streams, with its hands on the socket: it can stall, cut and lie.

A `Listener` is an address that is served; a `Reply` says what is sent, and what goes wrong with it.
Frameworks will not send a length that is not so or end a body halfway; that is why this is here.
"""

import asyncio
import functools
import itertools
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import parse_qs

from tests.support.content import Content, Given
from tests.support.loop_thread import LoopThread

_BACKLOG = 1024
_PIECE = 1 << 18
_PIECES_PER_SECOND = 20  # what a slow reply is cut into
_HEAD_LIMIT = 1 << 16
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 s: close sends RST


class Gate:
    """Where a reply waits until the test opens it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._open = asyncio.Event()

    def open(self) -> None:
        self._loop.call_soon_threadsafe(self._open.set)

    async def wait_open(self) -> None:
        await self._open.wait()


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    target: str
    headers: Mapping[str, str]  # lower-case names
    body: bytes
    listener: str
    connection: int

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(self.target.partition("?")[2], keep_blank_values=True)

    def argument(self, name: str) -> str:
        return self.query.get(name, [""])[0]


@dataclass(slots=True)
class Reply:
    status: int = HTTPStatus.OK
    headers: dict[str, str] = field(default_factory=dict)
    content: Content = field(default_factory=lambda: Given(b""))
    start: int = 0  # the part of the content that is sent
    stop: int = -1
    # What goes wrong. Offsets count what is sent of the body.
    chunked: bool = False
    headless: bool = False  # no Content-Length where the method is HEAD
    length_error: int = 0  # what is added to the true Content-Length
    cut_at: int | None = None
    cut_resets: bool = False
    hold_at: int | None = None  # -1: before the status line
    hold_gate: Gate | None = None  # None: for ever
    corrupt_at: int | None = None  # counts the whole content, so that resuming meets it once
    bytes_per_s: float | None = None
    # Told of each piece of the body that was sent.
    on_sent: Callable[[int], None] = lambda _: None

    def __post_init__(self) -> None:
        if self.stop < 0:
            self.stop = self.content.size

    @property
    def length(self) -> int:
        return self.stop - self.start

    def replace(self, status: int, headers: dict[str, str], body: bytes) -> None:
        """Become another answer; what was to go wrong with the first goes wrong with this."""
        self.status, self.headers, self.content = status, headers, Given(body)
        self.start, self.stop = 0, len(body)


Application = Callable[[Request], Awaitable[Reply]]


class Listener:
    """One port. Its loop is the only one to touch its sockets, but for `address`."""

    def __init__(
        self,
        name: str,
        sock: socket.socket,
        application: Application,
        context: ssl.SSLContext | None,
    ) -> None:
        self.name = name
        self.connections = 0
        self.is_black_hole = False
        self._socket = sock
        self._application = application
        self._context = context
        self._open: set[asyncio.Task[None]] = set()
        self._transports: set[asyncio.Transport] = set()

    def start(self, thread: LoopThread) -> None:
        """Within the loop."""
        self._thread = thread
        thread.loop.add_reader(self._socket, self._accept)

    async def stop(self) -> None:
        """Refuse who comes, reset who is there: a machine that died."""
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()
        for transport in tuple(self._transports):
            _reset(transport)
        ending = tuple(self._open)
        for task in ending:
            task.cancel()
        if ending:
            await asyncio.wait(ending)

    def _accept(self) -> None:
        # Not `sock_accept`: one that is cancelled may lose a socket that it has.
        try:
            sock, _ = self._socket.accept()
        except OSError:
            return  # whoever it was has gone again
        sock.setblocking(False)
        self.connections += 1
        task = self._thread.spawn(self._connection(sock, self.connections))
        self._open.add(task)
        task.add_done_callback(functools.partial(self._ended, sock))

    def _ended(self, sock: socket.socket, task: asyncio.Task[None]) -> None:
        self._open.discard(task)
        if task.cancelled():  # perhaps before it had begun, and anybody had the socket
            sock.close()

    async def _connection(self, sock: socket.socket, number: int) -> None:
        if self.is_black_hole:
            with sock:
                await asyncio.Event().wait()
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=_HEAD_LIMIT)
        protocol = asyncio.StreamReaderProtocol(reader)
        try:
            transport, _ = await loop.connect_accepted_socket(
                lambda: protocol, sock, ssl=self._context
            )
        except (OSError, asyncio.CancelledError):
            sock.close()  # no handshake: whoever came has no trust in us, or left
            return
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        self._transports.add(transport)
        try:
            with suppress(OSError, EOFError, asyncio.LimitOverrunError):
                await self._converse(reader, writer, number)
        finally:
            self._transports.discard(transport)
            await _close(writer)

    async def _converse(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int
    ) -> None:
        while True:
            request = await _read_request(reader, self.name, number)
            if request is None:
                return
            if self.is_black_hole:
                await asyncio.Event().wait()
            reply = await self._application(request)
            if not await _send(writer, request, reply):
                return


async def _read_request(
    reader: asyncio.StreamReader, listener: str, connection: int
) -> Request | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    start, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    method, target, _ = start.split(" ", 2)
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        known = headers.get(name.lower())
        headers[name.lower()] = f"{known}, {value.strip()}" if known else value.strip()
    body = await _read_body(reader, headers)
    return Request(method, target, headers, body, listener, connection)


async def _read_body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> bytes:
    if "chunked" not in headers.get("transfer-encoding", ""):
        return await reader.readexactly(int(headers.get("content-length", "0")))
    body = bytearray()
    while size := int((await reader.readline()).partition(b";")[0], 16):
        body += await reader.readexactly(size)
        await reader.readexactly(2)
    while await reader.readline() not in {b"\r\n", b""}:
        pass
    return bytes(body)


async def _send(writer: asyncio.StreamWriter, request: Request, reply: Reply) -> bool:
    """Whether the connection can be used again."""
    if reply.hold_at == -1:
        await _hold(reply.hold_gate)
    keeps = request.headers.get("connection", "").lower() != "close"
    writer.write(_head(request, reply, keeps=keeps))
    await writer.drain()
    if request.method == "HEAD" or reply.status in {204, 304}:
        return keeps
    is_whole = await _send_body(writer, reply)
    return keeps and is_whole and not reply.length_error


def _head(request: Request, reply: Reply, *, keeps: bool) -> bytes:
    reason = HTTPStatus(reply.status).phrase
    headers = dict(reply.headers)
    if reply.chunked:
        headers["Transfer-Encoding"] = "chunked"
    elif not (reply.headless and request.method == "HEAD"):
        headers["Content-Length"] = str(reply.length + reply.length_error)
    if not keeps or reply.length_error or reply.cut_at is not None:
        headers["Connection"] = "close"
    lines = [f"HTTP/1.1 {reply.status} {reason}", *(f"{k}: {v}" for k, v in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


async def _send_body(writer: asyncio.StreamWriter, reply: Reply) -> bool:
    """Whether all of it was sent."""
    sent = 0
    for piece in _pieces(reply):
        if sent == reply.cut_at:
            if reply.cut_resets:
                _reset(writer.transport)
            return False
        if sent == reply.hold_at:
            await _hold(reply.hold_gate)
        reply.on_sent(len(piece))  # before it is: whoever has received it finds it counted
        if reply.chunked:
            writer.writelines((f"{len(piece):x}\r\n".encode(), piece, b"\r\n"))
        else:
            writer.write(piece)
        sent += len(piece)
        await writer.drain()
        if reply.bytes_per_s is not None:
            await asyncio.sleep(len(piece) / reply.bytes_per_s)
    if sent == reply.cut_at:
        return False
    if sent == reply.hold_at:
        await _hold(reply.hold_gate)
    if reply.chunked:
        writer.write(b"0\r\n\r\n")
        await writer.drain()
    return True


def _pieces(reply: Reply) -> Iterator[bytes]:
    """The body in pieces, with a seam wherever something is to happen."""
    step = _PIECE
    if reply.bytes_per_s is not None:
        step = max(1, min(step, int(reply.bytes_per_s / _PIECES_PER_SECOND)))
    seams = sorted({reply.cut_at or 0, reply.hold_at or 0, *range(0, reply.length, step)})
    offsets = [offset for offset in seams if 0 <= offset < reply.length]
    at = reply.start
    for offset, end in itertools.pairwise([*offsets, reply.length]):
        for piece in reply.content.chunks(reply.start + offset, reply.start + end):
            yield _corrupted(piece, reply, at)
            at += len(piece)


def _corrupted(piece: bytes, reply: Reply, offset: int) -> bytes:
    at = -1 if reply.corrupt_at is None else reply.corrupt_at - offset
    if not 0 <= at < len(piece):
        return piece
    return piece[:at] + bytes([piece[at] ^ 0xFF]) + piece[at + 1 :]


async def _hold(gate: Gate | None) -> None:
    if gate is None:
        await asyncio.Event().wait()
    else:
        await gate.wait_open()


def _reset(transport: asyncio.WriteTransport) -> None:
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    transport.abort()


async def _close(writer: asyncio.StreamWriter) -> None:
    """Politely, but not for ever: the other side may have stopped reading."""
    writer.close()
    with suppress(OSError, TimeoutError):
        await asyncio.wait_for(writer.wait_closed(), 1)
    writer.transport.abort()


def listening_socket(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((address, port))
    sock.listen(_BACKLOG)
    sock.setblocking(False)
    return sock
