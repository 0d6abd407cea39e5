"""What stored content is, whatever the store."""

import pytest

from entrepot.errors import DigestMismatch
from entrepot.oci.digest import Digest
from entrepot.oci.media_type import OCI_MANIFEST, OCTET_STREAM
from entrepot.storage.base import ContentStore
from tests.support.clock import ManualClock

SMALL = b'{"schemaVersion": 2}'
LARGE = bytes(range(256)) * 1024  # 256 KiB: a file on a disk
BODIES = pytest.mark.parametrize("body", [b"", SMALL, LARGE], ids=["empty", "small", "large"])


async def content_of(store: ContentStore, digest: Digest) -> bytes | None:
    content = await store.open(digest)
    if content is None:
        return None
    try:
        return await content.read(0, content.entry.size + 1)
    finally:
        content.close()


@BODIES
@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
async def test_what_is_put_is_read(store: ContentStore, body: bytes, algorithm: str) -> None:
    digest = Digest.of(body, algorithm)
    await store.put(digest, body, OCI_MANIFEST)
    assert await content_of(store, digest) == body


async def test_an_entry_says_what_it_is(store: ContentStore, clock: ManualClock) -> None:
    digest = Digest.of(SMALL)
    await store.put(digest, SMALL, OCI_MANIFEST)
    content = await store.open(digest)
    assert content is not None
    entry = content.entry
    content.close()
    assert (entry.digest, entry.size, entry.media_type) == (digest, len(SMALL), OCI_MANIFEST)
    assert entry.last_used == clock.now()
    assert not entry.is_pinned


async def test_what_was_never_stored_is_not_there(store: ContentStore) -> None:
    assert await store.open(Digest.of(b"unknown")) is None


async def test_equal_content_under_two_algorithms_is_two_entries(store: ContentStore) -> None:
    await store.put(Digest.of(SMALL, "sha512"), SMALL, OCI_MANIFEST)
    assert await store.open(Digest.of(SMALL)) is None


@BODIES
async def test_wrong_bytes_are_not_admitted(store: ContentStore, body: bytes) -> None:
    digest = Digest.of(b"something else")
    with pytest.raises(DigestMismatch):
        await store.put(digest, body, OCI_MANIFEST)
    assert await store.open(digest) is None


async def test_to_put_twice_changes_nothing(store: ContentStore) -> None:
    digest = Digest.of(LARGE)
    await store.put(digest, LARGE, OCTET_STREAM)
    await store.put(digest, LARGE, OCTET_STREAM)
    assert await content_of(store, digest) == LARGE
    assert len([entry async for entry in store.entries()]) == 1


@pytest.mark.parametrize("body", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize(
    ("offset", "size"), [(0, 1), (5, 7), (0, 10**9), (10, 0), (19, 5), (10**9, 1)]
)
async def test_ranges(store: ContentStore, body: bytes, offset: int, size: int) -> None:
    digest = Digest.of(body)
    await store.put(digest, body, OCTET_STREAM)
    content = await store.open(digest)
    assert content is not None
    assert await content.read(offset, size) == body[offset : offset + size]
    content.close()


@BODIES
async def test_what_is_removed_is_gone_but_for_who_reads_it(
    store: ContentStore, body: bytes
) -> None:
    digest = Digest.of(body)
    await store.put(digest, body, OCTET_STREAM)
    content = await store.open(digest)
    assert content is not None
    await store.remove(digest)
    assert await store.open(digest) is None
    assert await content.read(0, len(body)) == body
    content.close()


async def test_to_remove_what_is_not_there_does_nothing(store: ContentStore) -> None:
    await store.remove(Digest.of(b"unknown"))


async def test_what_was_removed_can_come_again(store: ContentStore) -> None:
    digest = Digest.of(LARGE)
    for _ in range(2):
        await store.put(digest, LARGE, OCTET_STREAM)
        assert await content_of(store, digest) == LARGE
        await store.remove(digest)


async def test_entries_are_all_that_is_stored(store: ContentStore, clock: ManualClock) -> None:
    bodies = [b"%d" % number for number in range(450)]  # more than a page of any store
    for body in bodies:
        await store.put(Digest.of(body), body, OCTET_STREAM)
    assert {entry.digest async for entry in store.entries()} == set(map(Digest.of, bodies))


async def test_to_open_is_to_use(store: ContentStore, clock: ManualClock) -> None:
    digest = Digest.of(SMALL)
    await store.put(digest, SMALL, OCI_MANIFEST)
    clock.advance(60)
    await content_of(store, digest)
    assert [entry.last_used async for entry in store.entries()] == [clock.now()]


async def test_pins(store: ContentStore) -> None:
    digest = Digest.of(SMALL)
    await store.put(digest, SMALL, OCI_MANIFEST)
    for pinned in (True, True, False, False):
        await store.pin(digest, pinned=pinned)
        assert [entry.is_pinned async for entry in store.entries()] == [pinned]


async def test_a_pin_is_of_the_digest_stored_or_not(store: ContentStore) -> None:
    digest = Digest.of(SMALL)
    await store.pin(digest, pinned=True)
    for _ in range(2):
        await store.put(digest, SMALL, OCI_MANIFEST)
        assert [entry.is_pinned async for entry in store.entries()] == [True]
        await store.remove(digest)
