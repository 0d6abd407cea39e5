"""Every implementation of the storage protocols, empty."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from entrepot.config.kinds import Bytes
from entrepot.config.model import Storage
from entrepot.storage.base import ContentStore, Ledger
from entrepot.storage.disk import open_disk_store
from entrepot.storage.memory import MemoryLedger, MemoryStore
from tests.support.clock import ManualClock


@dataclass(frozen=True, slots=True)
class Stores:
    content: ContentStore
    ledger: Ledger
    clock: ManualClock


@pytest.fixture(params=["memory", "disk"])
async def stores(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stores]:
    clock = ManualClock()
    if request.param == "memory":
        yield Stores(MemoryStore(clock), MemoryLedger(clock), clock)
        return
    store = open_disk_store(tmp_path, Storage(min_free=Bytes(0)), clock)
    yield Stores(store, store.ledger, clock)
    await store.aclose()


@pytest.fixture
def store(stores: Stores) -> ContentStore:
    return stores.content


@pytest.fixture
def ledger(stores: Stores) -> Ledger:
    return stores.ledger


@pytest.fixture
def clock(stores: Stores) -> ManualClock:
    return stores.clock
