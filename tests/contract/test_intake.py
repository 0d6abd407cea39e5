"""Content that is named when all of it has come, whatever the store."""

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from entrepot.errors import DigestMismatch
from entrepot.oci.digest import Digest
from entrepot.oci.media_type import OCTET_STREAM
from entrepot.storage.base import ContentStore, Draft, Intake
from tests.contract.test_content import content_of

BODY = bytes(range(256)) * 1024
HALF = len(BODY) // 2
DIGEST = Digest.of(BODY)


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("body", [b"", b"small", BODY], ids=["empty", "small", "large"])
async def test_is_admitted_by_what_it_is_in_the_end(
    store: ContentStore, body: bytes, algorithm: str
) -> None:
    digest = Digest.of(body, algorithm)
    intake = await store.intake()
    assert intake.size == 0
    half = len(body) // 2
    for piece in (body[:half], body[half:]):
        await intake.write(piece)
    assert intake.size == len(body)
    assert await store.open(digest) is None
    await intake.commit(digest, OCTET_STREAM)
    intake.close()
    assert await content_of(store, digest) == body
    entries = [(entry.size, entry.media_type) async for entry in store.entries()]
    assert entries == [(len(body), OCTET_STREAM)]


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
async def test_is_not_admitted_as_something_else(store: ContentStore, algorithm: str) -> None:
    digest = Digest.of(BODY, algorithm)
    intake = await store.intake()
    await intake.write(BODY[:-1] + b"!")
    with pytest.raises(DigestMismatch):
        await intake.commit(digest, OCTET_STREAM)
    intake.close()
    assert await store.open(digest) is None
    assert [entry async for entry in store.entries()] == []
    draft = await store.draft(digest)
    assert draft.size == 0  # nor does a fetch go on with it
    draft.close()


@pytest.mark.parametrize("end", ["commit", "mismatch", "discard"])
async def test_what_has_ended_stays_ended(store: ContentStore, end: str) -> None:
    intake = await store.intake()
    await intake.write(BODY)
    match end:
        case "commit":
            await intake.commit(DIGEST, OCTET_STREAM)
        case "mismatch":
            with pytest.raises(DigestMismatch):
                await intake.commit(Digest.of(b"other"), OCTET_STREAM)
        case _:
            await intake.discard()
    with pytest.raises(ValueError, match="ended"):
        await intake.write(b"more")
    await intake.commit(DIGEST, OCTET_STREAM)
    await intake.discard()
    intake.close()
    intake.close()
    await intake.commit(DIGEST, OCTET_STREAM)
    await intake.discard()
    assert await content_of(store, DIGEST) == (BODY if end == "commit" else None)


async def test_what_is_there_already_stays(store: ContentStore) -> None:
    await store.put(DIGEST, BODY, "application/x-first")
    intake = await store.intake()
    await intake.write(BODY)
    await intake.commit(DIGEST, OCTET_STREAM)
    intake.close()
    assert [entry.media_type async for entry in store.entries()] == ["application/x-first"]
    assert await content_of(store, DIGEST) == BODY


async def test_it_does_not_mix_with_others_or_with_a_draft_of_the_same(store: ContentStore) -> None:
    intakes = [await store.intake() for _ in range(3)]
    draft = await store.draft(DIGEST)
    all_of_them: list[Intake | Draft] = [*intakes, draft]
    for start in range(0, len(BODY), HALF):
        for incoming in all_of_them:
            await incoming.write(BODY[start : start + HALF])
    await asyncio.gather(
        *(intake.commit(DIGEST, OCTET_STREAM) for intake in intakes), draft.commit(OCTET_STREAM)
    )
    for incoming in all_of_them:
        incoming.close()
    assert await content_of(store, DIGEST) == BODY
    assert len([entry async for entry in store.entries()]) == 1


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    chunks=st.lists(st.binary(max_size=40_000), max_size=6),
    algorithm=st.sampled_from(["sha256", "sha512"]),
)
async def test_any_split_into_chunks_gives_the_same_content(
    store: ContentStore, chunks: list[bytes], algorithm: str
) -> None:
    body = b"".join(chunks)
    intake = await store.intake()
    for chunk in chunks:
        await intake.write(chunk)
    await intake.commit(Digest.of(body, algorithm), OCTET_STREAM)
    intake.close()
    assert await content_of(store, Digest.of(body, algorithm)) == body
