"""What jobs and proxies share: a clock, and a ledger."""

import pytest

from entrepot.storage.memory import MemoryLedger
from tests.support.clock import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def ledger(clock: ManualClock) -> MemoryLedger:
    return MemoryLedger(clock)
