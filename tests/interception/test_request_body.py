import asyncio
from collections.abc import AsyncIterator

import pytest

from entrepot.interception.request_body import STEP, RequestBody
from tests.interception.memory_transport import MemoryTransport

PIECE = b"x" * 65_536
HIGH = 1 << 20


def never() -> None:
    raise AssertionError("this was not to be called")


def reading(body: RequestBody) -> AsyncIterator[bytes]:
    return body.pieces(60, never)


class Paced:
    """A body, and whether the client that sends it may go on."""

    def __init__(self) -> None:
        self.body = RequestBody(is_complete=False)
        self.body.pace = self._pace
        self.may_read = True

    def _pace(self, may_read: bool) -> None:  # noqa: FBT001 - called by position
        self.may_read = may_read

    def feed_until_paused(self) -> int:
        fed = 0
        while self.may_read:
            self.body.feed(PIECE)
            fed += len(PIECE)
        return fed


async def test_what_is_fed_is_read_in_order_and_together() -> None:
    body = RequestBody(is_complete=False)
    body.feed(b"one")
    body.feed(b"two")
    body.feed_end()
    assert [piece async for piece in reading(body)] == [b"onetwo"]


async def test_but_no_more_at_once_than_a_step() -> None:
    body = RequestBody(is_complete=False)
    fed = [bytes([number]) * (STEP // 3) for number in range(5)]
    for piece in (*fed, bytes(2 * STEP), b"end"):
        body.feed(piece)
    body.feed_end()
    pieces = [piece async for piece in reading(body)]
    assert b"".join(pieces) == b"".join(fed) + bytes(2 * STEP) + b"end"
    assert [len(piece) for piece in pieces] == [STEP // 3 * 3, STEP // 3 * 2, 2 * STEP, 3]


async def test_an_empty_one() -> None:
    assert [piece async for piece in reading(RequestBody(is_complete=True))] == []


async def test_a_reader_waits_for_what_is_to_come() -> None:
    body = RequestBody(is_complete=False)
    received = []

    async def read() -> None:
        received.extend([piece async for piece in reading(body)])

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(read())
        await asyncio.sleep(0)
        body.feed(b"one")
        await asyncio.sleep(0)
        body.feed(b"two")
        body.feed_end()
    assert received == [b"one", b"two"]


async def test_what_came_before_the_client_left_is_read() -> None:
    body = RequestBody(is_complete=False)
    body.feed(b"one")
    body.break_off()
    pieces = reading(body)
    assert await anext(pieces) == b"one"
    with pytest.raises(ConnectionResetError):
        await anext(pieces)


async def test_a_client_that_leaves_wakes_the_reader() -> None:
    body = RequestBody(is_complete=False)
    asyncio.get_running_loop().call_soon(body.break_off)
    with pytest.raises(ConnectionResetError):
        await anext(reading(body))


async def test_silence_is_given_up() -> None:
    body = RequestBody(is_complete=False)
    with pytest.raises(ConnectionResetError):
        await anext(body.pieces(0.001, body.break_off))


async def test_time_runs_for_each_piece_anew_and_only_while_there_is_none() -> None:
    body = RequestBody(is_complete=False)
    body.feed(b"one")
    pieces = body.pieces(0, never)
    assert await anext(pieces) == b"one"
    await asyncio.sleep(0)  # a reader that takes its time is not the client's silence
    body.feed_end()
    with pytest.raises(StopAsyncIteration):
        await anext(pieces)


class TestPace:
    async def test_the_client_waits_at_the_high_mark_and_goes_on_at_the_low(self) -> None:
        paced = Paced()
        fed = paced.feed_until_paused()
        assert HIGH < fed <= HIGH + len(PIECE)
        left = fed
        async for piece in reading(paced.body):
            left -= len(piece)
            if paced.may_read:
                break
        assert 0 < left < HIGH // 4

    async def test_what_is_refused_lets_it_go_on_and_is_not_kept(self) -> None:
        paced = Paced()
        paced.feed_until_paused()
        paced.body.discard()
        assert paced.may_read
        for _ in range(100):
            paced.body.feed(PIECE)
        assert paced.may_read
        paced.body.feed_end()
        assert [piece async for piece in reading(paced.body)] == []

    async def test_a_stream_reader_does_not_undo_it(self) -> None:
        """It pauses and resumes the same transport by its own buffer's marks."""
        reader = asyncio.StreamReader()
        transport = MemoryTransport(asyncio.StreamReaderProtocol(reader))
        body = RequestBody(is_complete=False)
        body.pace = lambda may: transport.resume_reading() if may else transport.pause_reading()
        fed = 0
        for _ in range(1000):
            # What the selector loop reads at once, which is more than the reader wants to hold.
            if transport.is_reading():
                transport.protocol.data_received(PIECE * 4)
                fed += 4 * len(PIECE)
            if not reader._buffer:  # type: ignore[attr-defined]  # else `read` would wait
                break
            body.feed(await reader.read(65_535))
        assert not transport.is_reading()
        assert fed < 2 * HIGH
