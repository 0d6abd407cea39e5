from pathlib import Path

import pytest

from entrepot.ca.authority import Authority
from entrepot.config.model import Ca
from tests.support.clock import ManualClock

NAMES = ("docker-registry.local", "docker.io", "*.example.com")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "data" / "ca"


@pytest.fixture
def authority(home: Path, clock: ManualClock) -> Authority:
    return Authority.open(home, Ca(), clock, NAMES)
