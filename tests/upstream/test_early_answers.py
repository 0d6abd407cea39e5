"""An upstream that has said its word before it has the whole body is heard, however it hangs up."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator

import pytest

from tests.upstream.bench import Bench, body_of, failure, get, timeouts

PIECE = bytes(256 << 10)
ATTEMPTS = 20  # which way a race ends is seen in several


async def endless() -> AsyncIterator[bytes]:
    while True:
        yield PIECE
        await asyncio.sleep(0)


class Refusing:
    """Reads a little of the body, answers, and hangs up in its own way."""

    def __init__(self, end: str, answer: bytes) -> None:
        self._end = end
        self._answer = answer

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await reader.read(100_000)
        writer.write(self._answer)
        await writer.drain()
        match self._end:
            case "lingers":
                writer.write_eof()
                while await reader.read(1 << 16):
                    pass
            case "resets":
                peer: socket.socket = writer.get_extra_info("socket")
                linger = struct.pack("ii", 1, 0)
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            case "reads nothing":
                await asyncio.Event().wait()


@pytest.mark.parametrize("end", ["lingers", "closes", "resets", "reads nothing"])
async def test_the_answer_is_what_it_said(bench: Bench, end: str) -> None:
    answer = b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig"
    port = await bench.listen(Refusing(end, answer))
    upstream = bench.upstream(f"http://127.0.0.1:{port}")
    for _ in range(ATTEMPTS):
        request = get("/v2/", method="PATCH", body=endless(), is_anonymous=True)
        async with asyncio.timeout(20):
            response = await upstream.send(request)
            assert (response.status, await body_of(response)) == (413, b"big")
    assert not upstream.is_resting()


@pytest.mark.parametrize("end", ["closes", "resets"])
async def test_what_hangs_up_without_a_word_is_told_so(bench: Bench, end: str) -> None:
    port = await bench.listen(Refusing(end, b""))
    upstream = bench.upstream(f"http://127.0.0.1:{port}", settings=timeouts(read=20, header=20))
    request = get("/v2/", method="PATCH", body=endless(), is_anonymous=True)
    async with asyncio.timeout(10):
        error = await failure(upstream.send(request))
    assert "it closed the connection instead of answering" in str(error)
    assert error.was_sent
