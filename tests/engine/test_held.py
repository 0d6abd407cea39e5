"""Manifests in memory: right, for a moment only, and not too many."""

import pytest

from entrepot.engine.held import Held, HeldManifests
from entrepot.oci.digest import Digest
from entrepot.oci.media_type import OCI_INDEX, OCI_MANIFEST, OCTET_STREAM
from entrepot.storage.memory import MemoryStore
from tests.support.clock import ManualClock

BODY = b'{"schemaVersion": 2}'
DIGEST = Digest.of(BODY)


async def test_what_is_kept_is_had_with_its_type() -> None:
    manifests = HeldManifests(MemoryStore(), ManualClock(), limit=1000)
    assert await manifests.get(DIGEST) is None
    await manifests.put(Held(DIGEST, "a/b", BODY))
    assert await manifests.get(DIGEST) == Held(DIGEST, "a/b", BODY)


async def test_what_was_removed_is_gone_after_a_moment() -> None:
    store, clock = MemoryStore(), ManualClock()
    manifests = HeldManifests(store, clock, limit=1000)
    await manifests.put(Held(DIGEST, "a/b", BODY))
    assert await manifests.get(DIGEST)
    await store.remove(DIGEST)
    assert await manifests.get(DIGEST)
    clock.advance(10)
    assert await manifests.get(DIGEST) is None


async def test_a_layer_is_no_manifest() -> None:
    store = MemoryStore()
    await store.put(DIGEST, BODY, "a/b")
    assert await HeldManifests(store, ManualClock(), limit=len(BODY) - 1).get(DIGEST) is None


async def test_memory_is_bounded_by_what_was_used_first() -> None:
    store, clock = MemoryStore(), ManualClock()
    manifests = HeldManifests(store, clock, limit=8 << 20)
    bodies = [bytes([number]) * (8 << 20) for number in range(5)]
    for body in bodies:
        await manifests.put(Held(Digest.of(body), "a/b", body))
        assert await manifests.get(Digest.of(body))
        await store.remove(Digest.of(body))
    found = [await manifests.get(Digest.of(body)) is not None for body in bodies]
    assert found == [False, True, True, True, True]


@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        (b'{"mediaType": "c/d"}', "c/d"),
        (b'{"config": {}, "layers": []}', OCI_MANIFEST),
        (b'{"manifests": [{"mediaType": "a/b", "digest": "%s", "size": 1}]}', OCI_INDEX),
        (b"no JSON", OCTET_STREAM),
    ],
)
async def test_what_was_stored_as_a_layer_says_itself_what_it_is(
    body: bytes, media_type: str
) -> None:
    body = body.replace(b"%s", str(DIGEST).encode())
    store = MemoryStore()
    await store.put(Digest.of(body), body, OCTET_STREAM)
    held = await HeldManifests(store, ManualClock(), limit=1000).get(Digest.of(body))
    assert held is not None
    assert held.media_type == media_type


async def test_two_who_load_it_at_once_count_it_once() -> None:
    store, body = MemoryStore(), bytes(8 << 20)
    await store.put(Digest.of(body), body, "a/b")
    manifests = HeldManifests(store, ManualClock(), limit=8 << 20)
    for _ in range(10):
        manifests._remember(Held(Digest.of(body), "a/b", body))
    assert manifests._recent_bytes == len(body)


async def test_rotten_bytes_are_dropped_and_not_served() -> None:
    store = MemoryStore()
    await store.put(DIGEST, BODY, "a/b")
    store._stored[DIGEST].body = BODY[:-1]
    manifests = HeldManifests(store, ManualClock(), limit=1000)
    assert await manifests.get(DIGEST) is None
    assert await store.open(DIGEST) is None
