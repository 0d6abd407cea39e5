"""What jobs and proxies share: a clock, and a ledger."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from entrepot.local.premises import Premises, open_premises
from entrepot.storage.memory import MemoryLedger
from tests.local.registry import NAME, OwnRegistry
from tests.support.clock import ManualClock
from tests.support.distribution import is_installed


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def ledger(clock: ManualClock) -> MemoryLedger:
    return MemoryLedger(clock)


@pytest.fixture
def storage() -> dict[str, Any]:
    """What a class of tests has otherwise in the registry's own settings of its storage."""
    return {}


@pytest.fixture
def own(tmp_path: Path, storage: dict[str, Any]) -> Iterator[OwnRegistry]:
    if not is_installed():
        pytest.skip("needs docker-registry and htpasswd")
    with OwnRegistry(tmp_path / "registry", **storage) as registry:
        yield registry


@pytest.fixture
async def premises(
    own: OwnRegistry, tmp_path: Path, ledger: MemoryLedger, clock: ManualClock
) -> AsyncIterator[Premises]:
    """With no proxy running."""
    config = own.config(tmp_path / "data")
    async with open_premises(config, NAME, ledger, clock, is_alone=True) as premises:
        yield premises
