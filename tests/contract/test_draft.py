"""Content that is coming in, whatever the store."""

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from entrepot.errors import DigestMismatch
from entrepot.oci.digest import Digest
from entrepot.oci.media_type import OCTET_STREAM
from entrepot.storage.base import ContentStore
from tests.contract.test_content import content_of

BODY = bytes(range(256)) * 1024
HALF = len(BODY) // 2
DIGEST = Digest.of(BODY)


async def test_what_is_written_is_read_while_more_comes(store: ContentStore) -> None:
    draft = await store.draft(DIGEST)
    await draft.expect(len(BODY))
    assert draft.size == 0
    assert await draft.read(0, 10) == b""
    await draft.write(BODY[:HALF])
    assert draft.size == HALF
    assert await draft.read(HALF - 5, 100) == BODY[HALF - 5 : HALF]
    await draft.write(BODY[HALF:])
    assert await draft.read(HALF - 5, 100) == BODY[HALF - 5 : HALF + 95]
    assert await draft.read(len(BODY), 1) == b""
    await draft.discard()
    draft.close()


async def test_nobody_sees_it_before_the_commit(store: ContentStore) -> None:
    draft = await store.draft(DIGEST)
    await draft.write(BODY)
    await draft.verify()
    assert await store.open(DIGEST) is None
    await draft.commit(OCTET_STREAM)
    assert await content_of(store, DIGEST) == BODY
    assert [entry.media_type async for entry in store.entries()] == [OCTET_STREAM]
    draft.close()


@pytest.mark.parametrize("body", [b"", b"small", BODY], ids=["empty", "small", "large"])
@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
async def test_readers_go_on_after_the_commit(
    store: ContentStore, body: bytes, algorithm: str
) -> None:
    draft = await store.draft(Digest.of(body, algorithm))
    await draft.write(body)
    await draft.commit(OCTET_STREAM)
    await store.remove(Digest.of(body, algorithm))
    assert await draft.read(0, len(body) + 1) == body
    draft.close()


@pytest.mark.parametrize("end", ["verify", "commit"])
async def test_wrong_bytes_are_not_kept(store: ContentStore, end: str) -> None:
    draft = await store.draft(DIGEST)
    await draft.write(BODY[:-1] + b"!")
    with pytest.raises(DigestMismatch):
        await (draft.verify() if end == "verify" else draft.commit(OCTET_STREAM))
    assert await draft.read(0, 3) == BODY[:3]
    draft.close()
    assert await store.open(DIGEST) is None
    again = await store.draft(DIGEST)
    assert again.size == 0
    again.close()


async def test_an_unfinished_draft_is_not_admitted(store: ContentStore) -> None:
    draft = await store.draft(DIGEST)
    await draft.write(BODY[:HALF])
    with pytest.raises(DigestMismatch):
        await draft.commit(OCTET_STREAM)
    draft.close()


async def test_a_suspended_draft_goes_on_where_it_was(store: ContentStore) -> None:
    first = await store.draft(DIGEST)
    await first.write(BODY[:HALF])
    await first.suspend()
    second = await store.draft(DIGEST)
    await second.expect(len(BODY))
    assert second.size == HALF
    await second.write(BODY[HALF:])
    assert await first.read(0, len(BODY)) == BODY[:HALF]
    first.close()
    await second.commit(OCTET_STREAM)
    assert await second.read(0, len(BODY)) == BODY
    second.close()
    assert await content_of(store, DIGEST) == BODY


async def test_a_discarded_draft_is_gone(store: ContentStore) -> None:
    first = await store.draft(DIGEST)
    await first.write(BODY[:HALF])
    await first.discard()
    second = await store.draft(DIGEST)
    assert second.size == 0
    assert await first.read(0, 3) == BODY[:3]
    first.close()
    second.close()


async def test_to_commit_twice_is_to_commit_once(store: ContentStore) -> None:
    draft = await store.draft(DIGEST)
    await draft.write(BODY)
    for _ in range(2):
        await draft.commit(OCTET_STREAM)
    await draft.verify()
    draft.close()
    assert len([entry async for entry in store.entries()]) == 1


@pytest.mark.parametrize("end", ["commit", "suspend", "discard"])
async def test_what_has_ended_stays_ended(store: ContentStore, end: str) -> None:
    draft = await store.draft(DIGEST)
    await draft.write(BODY)
    await (draft.commit(OCTET_STREAM) if end == "commit" else getattr(draft, end)())
    with pytest.raises(ValueError, match="ended"):
        await draft.write(b"more")
    await draft.discard()
    await draft.suspend()
    draft.close()
    draft.close()
    await draft.discard()
    await draft.suspend()
    with pytest.raises(ValueError, match="closed"):
        await draft.read(0, 1)
    assert await content_of(store, DIGEST) == (BODY if end == "commit" else None)


async def test_two_drafts_of_one_digest_do_not_mix(store: ContentStore) -> None:
    drafts = [await store.draft(DIGEST) for _ in range(2)]
    for start in range(0, len(BODY), HALF):
        for draft in drafts:
            await draft.write(BODY[start : start + HALF])
    await asyncio.gather(*(draft.commit(OCTET_STREAM) for draft in drafts))
    for draft in drafts:
        assert await draft.read(0, len(BODY)) == BODY
        draft.close()
    assert await content_of(store, DIGEST) == BODY
    assert len([entry async for entry in store.entries()]) == 1


async def test_the_loser_of_two_may_give_up(store: ContentStore) -> None:
    first, second = [await store.draft(DIGEST) for _ in range(2)]
    await second.write(BODY[:HALF])
    await second.suspend()
    second.close()
    await first.write(BODY)
    await first.commit(OCTET_STREAM)
    first.close()
    assert await content_of(store, DIGEST) == BODY


async def test_many_drafts_at_once(store: ContentStore) -> None:
    bodies = [b"%d" % number * 30_000 for number in range(20)]

    async def fill(body: bytes) -> None:
        draft = await store.draft(Digest.of(body))
        for start in range(0, len(body), 10_000):
            await draft.write(body[start : start + 10_000])
        await draft.commit(OCTET_STREAM)
        draft.close()

    await asyncio.gather(*map(fill, bodies))
    for body in bodies:
        assert await content_of(store, Digest.of(body)) == body


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(chunks=st.lists(st.binary(max_size=40_000), max_size=6), suspend_after=st.integers(0, 5))
async def test_any_split_into_chunks_gives_the_same_content(
    store: ContentStore, chunks: list[bytes], suspend_after: int
) -> None:
    body = b"".join(chunks)
    draft = await store.draft(Digest.of(body))
    for number, chunk in enumerate(chunks):
        if number == suspend_after:
            await draft.suspend()
            draft.close()
            draft = await store.draft(Digest.of(body))
        assert draft.size == len(b"".join(chunks[:number]))
        await draft.write(chunk)
    await draft.commit(OCTET_STREAM)
    draft.close()
    assert await content_of(store, Digest.of(body)) == body
