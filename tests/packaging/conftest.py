import os
from pathlib import Path

import pytest

from tests.packaging.debian import Debian, why_not


@pytest.fixture
def debian(tmp_path: Path) -> Debian:
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    return Debian.unpack(tmp_path / "debian")


@pytest.fixture
def quiet_environment() -> dict[str, str]:
    """The environment, without what make would tell a make below it."""
    return {
        name: value
        for name, value in os.environ.items()
        if name not in {"MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "VIRTUAL_ENV"}
    }
