"""What the contract (tests/contract/) does not ask of it."""

import pytest

from entrepot.oci.digest import Digest
from entrepot.oci.media_type import OCTET_STREAM
from entrepot.storage.base import Statistics
from entrepot.storage.memory import MemoryStore


async def test_statistics() -> None:
    store = MemoryStore()
    for body in (b"one", b"three"):
        await store.put(Digest.of(body), body, OCTET_STREAM)
    assert store.statistics() == Statistics(2, 8, evictions=0, evicted_bytes=0)


async def test_a_closed_content_says_so() -> None:
    store = MemoryStore()
    await store.put(Digest.of(b"one"), b"one", OCTET_STREAM)
    content = await store.open(Digest.of(b"one"))
    assert content is not None
    content.close()
    with pytest.raises(ValueError, match="closed"):
        await content.read(0, 1)
