"""What bodies name of files, beside what they read."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from entrepot.config.kinds import Bytes
from entrepot.config.model import Storage
from entrepot.engine.body import ContentBody, FillBody, PassedBody, Window
from entrepot.engine.fill import HOLD_BACK
from entrepot.errors import StorageError, UpstreamError
from entrepot.oci.byte_range import ByteRange
from entrepot.oci.digest import Digest
from entrepot.oci.media_type import OCTET_STREAM
from entrepot.storage.base import ContentStore
from entrepot.storage.disk import open_disk_store
from entrepot.storage.memory import MemoryStore
from tests.engine.filling import BODY, BROKE, DIGEST, Reply, as_response, fill_of, whole
from tests.support.clock import ManualClock
from tests.support.engine import read_body

SIZE = len(BODY)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[ContentStore]:
    store = open_disk_store(tmp_path, Storage(min_free=Bytes(0)), ManualClock())
    yield store
    await store.aclose()


async def body_of(store: ContentStore, span: ByteRange) -> ContentBody:
    await store.put(DIGEST, BODY, OCTET_STREAM)
    content = await store.open(DIGEST)
    assert content is not None
    return ContentBody(content, span)


def seen(window: Window | None) -> bytes:
    """All that may be."""
    assert window is not None
    with window.file.borrowed() as descriptor:
        return os.pread(descriptor, window.size, window.offset)


async def nowhere(start: int, stop: int | None) -> PassedBody:
    raise AssertionError


class TestContentBody:
    @pytest.mark.parametrize("span", [ByteRange(0, SIZE), ByteRange(100, 200_000)])
    async def test_it_names_what_is_left(self, store: ContentStore, span: ByteRange) -> None:
        body = await body_of(store, span)
        assert seen(await body.window()) == BODY[span.start : span.stop]
        body.skip(1000)
        assert await body.read(10) == BODY[span.start + 1000 : span.start + 1010]
        assert seen(await body.window()) == BODY[span.start + 1010 : span.stop]
        await body.aclose()

    async def test_at_the_end_it_names_nothing(self, store: ContentStore) -> None:
        body = await body_of(store, ByteRange(5, 10))
        body.skip(5)
        assert await body.window() is None
        assert await body.read(1) == b""
        await body.aclose()

    async def test_nor_where_there_is_no_file(self) -> None:
        body = await body_of(MemoryStore(), ByteRange(0, SIZE))
        assert await body.window() is None
        await body.aclose()


class TestFillBody:
    async def test_it_waits_for_more(self, store: ContentStore) -> None:
        held = asyncio.Event()
        fill, _ = fill_of(await store.draft(DIGEST), whole(BODY[:200_000], held, BODY[200_000:]))
        body = FillBody(fill, None, nowhere)
        async with asyncio.TaskGroup() as group:
            group.create_task(fill.run())
            begun = seen(await body.window())
            assert begun == BODY[: fill.watermark]
            body.skip(len(begun))
            later = group.create_task(body.window())
            await asyncio.sleep(0)
            assert not later.done()
            held.set()
            assert seen(await later) == BODY[len(begun) : fill.watermark]
        assert seen(await body.window()) == BODY[len(begun) :]
        await body.aclose()

    async def test_it_never_names_the_last_piece_before_that_is_verified(
        self, store: ContentStore
    ) -> None:
        wrong = Digest.of(b"other")
        fill, _ = fill_of(await store.draft(wrong), whole(BODY), digest=wrong)
        body = FillBody(fill, None, nowhere)
        async with asyncio.TaskGroup() as group:
            group.create_task(fill.run())
            window = await body.window()
            assert window is not None
            assert window.size == SIZE - HOLD_BACK
            body.skip(window.size)
            assert await body.window() is None
        with pytest.raises(UpstreamError):
            await body.read(1)
        await body.aclose()

    async def test_it_ends_where_the_range_does(self, store: ContentStore) -> None:
        fill, _ = fill_of(await store.draft(DIGEST), whole(BODY))
        body = FillBody(fill, ByteRange(10, 100_000), nowhere)
        await fill.run()
        assert seen(await body.window()) == BODY[10:100_000]
        body.skip(99_990)
        assert await body.window() is None
        await body.aclose()

    async def test_of_an_unknown_size_it_ends_with_the_fill(self, store: ContentStore) -> None:
        fill, _ = fill_of(await store.draft(DIGEST), whole(BODY, size=None))
        body = FillBody(fill, None, nowhere)
        await fill.run()
        assert seen(await body.window()) == BODY
        body.skip(SIZE)
        assert await body.window() is None
        await body.aclose()

    async def test_what_goes_wrong_is_said_by_reading(self, store: ContentStore) -> None:
        fill, _ = fill_of(await store.draft(DIGEST), whole(BODY[:10], BROKE), retries=0)
        body = FillBody(fill, None, nowhere)
        await fill.run()
        assert await body.window() is None
        with pytest.raises(UpstreamError):
            await body.read(1)
        await body.aclose()

    async def test_what_passes_by_the_store_is_in_no_file(self, store: ContentStore) -> None:
        async def bypass(start: int, stop: int | None) -> PassedBody:
            return PassedBody(as_response(Reply([BODY[start:stop]])), lambda _: None)

        trouble = StorageError("the disk is full")
        fill, _ = fill_of(await store.draft(DIGEST), trouble)
        body = FillBody(fill, None, bypass)
        await fill.run()
        assert await read_body(body) == BODY
        assert await body.window() is None
        await body.aclose()
