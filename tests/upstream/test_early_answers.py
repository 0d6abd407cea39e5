"""An upstream that has said its word before it has the whole body is heard, however it hangs up."""

import asyncio
import socket
import struct
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import pytest

from tests.upstream.bench import Bench, body_of, failure, get

PIECE = bytes(1000)
REFUSAL = b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig"
RESET = struct.pack("ii", 1, 0)
TIMEOUT_S = 20


async def endless() -> AsyncIterator[bytes]:
    while True:
        yield PIECE
        await asyncio.sleep(0)


@pytest.mark.parametrize("end", ["lingers", "reads nothing"])
async def test_the_answer_ends_the_body(bench: Bench, end: str) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(REFUSAL)
        while end == "lingers" and await reader.read(1 << 16):
            pass
        await asyncio.Event().wait()

    upstream = bench.upstream(f"http://127.0.0.1:{await bench.listen(talk)}")
    request = get("/v2/", method="PATCH", body=endless(), is_anonymous=True)
    async with asyncio.timeout(TIMEOUT_S):
        response = await upstream.send(request)
        assert (response.status, await body_of(response)) == (413, b"big")


class Hasty:
    """A registry in a thread that answers a head, and is gone before it has read any further."""

    def __init__(self, answer: bytes, end: str) -> None:
        self._answer = answer
        self._end = end
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.is_gone = threading.Event()

    @contextmanager
    def running(self) -> Iterator["Hasty"]:
        thread = threading.Thread(target=self._serve)
        thread.start()
        try:
            yield self
        finally:
            thread.join(TIMEOUT_S)
            self._socket.close()

    def _serve(self) -> None:
        peer, _ = self._socket.accept()
        with peer:
            peer.recv(16)
            peer.sendall(self._answer)
            if self._end == "resets":
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.is_gone.set()

    async def body(self) -> AsyncIterator[bytes]:
        """Goes on before the loop has looked whether something came in."""
        yield PIECE
        await asyncio.sleep(0)
        assert self.is_gone.wait(TIMEOUT_S)
        for _ in range(10):
            yield PIECE


@pytest.mark.parametrize("end", ["closes", "resets"])
async def test_who_hangs_up_at_once_is_heard(bench: Bench, end: str) -> None:
    with Hasty(REFUSAL, end).running() as registry:
        upstream = bench.upstream(f"http://127.0.0.1:{registry.port}")
        request = get("/v2/", method="PATCH", body=registry.body(), is_anonymous=True)
        response = await upstream.send(request)
        assert (response.status, await body_of(response)) == (413, b"big")
        assert not upstream.is_resting()


@pytest.mark.parametrize("end", ["closes", "resets"])
async def test_without_a_word_it_is_told_so(bench: Bench, end: str) -> None:
    with Hasty(b"", end).running() as registry:
        upstream = bench.upstream(f"http://127.0.0.1:{registry.port}")
        request = get("/v2/", method="PATCH", body=registry.body(), is_anonymous=True)
        error = await failure(upstream.send(request))
        assert "it closed the connection instead of answering" in str(error)
        assert error.was_sent
