import asyncio

import pytest

from entrepot.engine.body import ContentBody, FillBody, PassedBody
from entrepot.errors import DigestMismatch, StorageError, UpstreamError
from entrepot.oci.byte_range import ByteRange
from entrepot.oci.digest import Digest
from entrepot.oci.media_type import OCTET_STREAM
from entrepot.storage.base import Content
from tests.engine.filling import BODY, BROKE, DIGEST, Reply, Step, as_response, fill_of, whole
from tests.support.broken_storage import BreakableStore
from tests.support.clock import ManualClock
from tests.support.engine import read_body

HALF = len(BODY) // 2


@pytest.fixture
def store(clock: ManualClock) -> BreakableStore:
    return BreakableStore(clock)


@pytest.fixture
async def content(store: BreakableStore) -> Content:
    await store.put(DIGEST, BODY, OCTET_STREAM)
    content = await store.open(DIGEST)
    assert content is not None
    return content


def passed(*steps: Step) -> tuple[PassedBody, Reply]:
    reply = Reply(steps)
    return PassedBody(as_response(reply), lambda _: None), reply


class TestContentBody:
    @pytest.mark.parametrize(
        "span", [ByteRange(0, len(BODY)), ByteRange(5, 9), ByteRange(100, 200_000), ByteRange(7, 7)]
    )
    async def test_gives_the_part_that_is_wanted(self, content: Content, span: ByteRange) -> None:
        body = ContentBody(content, span)
        assert await read_body(body) == BODY[span.start : span.stop]
        assert await body.read(100) == b""
        await body.aclose()

    async def test_closes_what_it_reads(self, content: Content) -> None:
        body = ContentBody(content, ByteRange(0, 10))
        await body.aclose()
        with pytest.raises(ValueError, match="closed"):
            await body.read(1)

    async def test_what_is_shorter_than_it_was_is_not_whole(self, content: Content) -> None:
        body = ContentBody(content, ByteRange(0, len(BODY) + 1))
        with pytest.raises(StorageError):
            await read_body(body)
        await body.aclose()


class Bypass:
    """What goes on past the store, and where it was asked to begin and stop."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int | None]] = []
        self.reply: Reply | None = None
        self.body = BODY

    async def __call__(self, start: int, stop: int | None) -> PassedBody:
        self.asked.append((start, stop))
        body, self.reply = passed(self.body[start:stop])
        return body


class TestFillBody:
    @pytest.mark.parametrize(
        "span", [None, ByteRange(0, len(BODY)), ByteRange(5, 9), ByteRange(100_000, 200_000)]
    )
    async def test_reads_as_it_comes(self, store: BreakableStore, span: ByteRange | None) -> None:
        fill, _ = fill_of(await store.draft(DIGEST), whole(BODY))
        body = FillBody(fill, span, Bypass())
        await fill.run()
        assert await read_body(body) == (BODY[span.start : span.stop] if span else BODY)
        await body.aclose()
        await body.aclose()
        assert fill.readers == 0

    async def test_to_the_end_of_what_has_no_announced_length(self, store: BreakableStore) -> None:
        fill, _ = fill_of(await store.draft(DIGEST), whole(BODY, size=None))
        body = FillBody(fill, None, Bypass())
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(read_body(body))
            await asyncio.sleep(0)
            await fill.run()
            assert await reading == BODY
        await body.aclose()

    async def test_to_the_end_of_nothing_at_all(self, store: BreakableStore) -> None:
        empty = Digest.of(b"")
        fill, _ = fill_of(await store.draft(empty), whole(size=None), digest=empty)
        body = FillBody(fill, None, Bypass())
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(read_body(body))
            await asyncio.sleep(0)
            await fill.run()
            assert await reading == b""
        await body.aclose()

    @pytest.mark.parametrize("error", [BROKE, DigestMismatch("wrong")])
    async def test_breaks_where_the_fill_does(
        self, store: BreakableStore, error: UpstreamError
    ) -> None:
        fill, _ = fill_of(await store.draft(DIGEST), whole(BODY[:HALF], error), retries=0)
        bypass = Bypass()
        body = FillBody(fill, None, bypass)
        await fill.run()
        with pytest.raises(UpstreamError):
            await read_body(body)
        assert bypass.asked == []
        await body.aclose()

    @pytest.mark.parametrize("size", [len(BODY), None])
    async def test_a_full_disk_is_passed_by(self, store: BreakableStore, size: int | None) -> None:
        store.write_limit = HALF
        fill, _ = fill_of(await store.draft(DIGEST), whole(BODY[:HALF], BODY[HALF:], size=size))
        bypass = Bypass()
        body = FillBody(fill, None, bypass)
        await fill.run()
        assert await read_body(body) == BODY
        ((start, stop),) = bypass.asked
        assert (0 < start <= HALF, stop) == (True, size)
        await body.aclose()
        assert bypass.reply is not None
        assert bypass.reply.is_closed

    async def test_no_more_than_was_wanted_comes_past_the_store(
        self, store: BreakableStore
    ) -> None:
        store.broken = {"write"}
        fill, _ = fill_of(await store.draft(DIGEST), whole(BODY))
        bypass = Bypass()
        body = FillBody(fill, ByteRange(10, 20), bypass)
        await fill.run()

        async def all_of_it(start: int, stop: int | None) -> PassedBody:
            return passed(BODY[start:])[0]

        body._bypass = all_of_it
        assert await read_body(body) == BODY[10:20]
        await body.aclose()

    async def test_what_cannot_be_read_is_passed_by(self, store: BreakableStore) -> None:
        fill, _ = fill_of(await store.draft(DIGEST), whole(BODY))
        bypass = Bypass()
        body = FillBody(fill, None, bypass)
        await fill.run()
        begun = await body.read(1000)
        store.broken = {"read"}
        assert begun + await read_body(body) == BODY
        assert bypass.asked == [(1000, len(BODY))]
        await body.aclose()

    async def test_one_that_came_too_late_is_attached_to_nothing(
        self, store: BreakableStore
    ) -> None:
        fill, _ = fill_of(await store.draft(DIGEST), whole(BODY))
        await fill.run()
        body = FillBody(fill, None, Bypass())
        await body.aclose()
        assert fill.readers == 0


class TestPassedBody:
    async def test_gives_pieces_no_larger_than_asked_for(self) -> None:
        body, reply = passed(BODY[:HALF], BODY[HALF:])
        assert await read_body(body) == BODY
        assert await body.read(10) == b""
        await body.aclose()
        assert reply.is_closed

    async def test_counts_what_it_fetched(self) -> None:
        counted: list[int] = []
        body = PassedBody(as_response(Reply([BODY, b"more"])), counted.append)
        await read_body(body)
        assert sum(counted) == len(BODY) + 4

    @pytest.mark.parametrize("limit", [1, len(BODY) - 1])
    async def test_what_is_more_than_was_to_be_had_at_once_is_there_to_be_read(
        self, limit: int
    ) -> None:
        body, _ = passed(BODY[:100], BODY[100:HALF], BODY[HALF:])
        assert await body.whole(limit) is None
        assert await read_body(body) == BODY

    @pytest.mark.parametrize("limit", [len(BODY), len(BODY) + 1])
    async def test_all_of_it_at_once(self, limit: int) -> None:
        body, _ = passed(BODY[:100], BODY[100:])
        assert await body.whole(limit) == BODY
