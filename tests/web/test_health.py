import asyncio

import pytest

from entrepot.errors import ConfigError, StorageError
from entrepot.web import health as health_module
from entrepot.web.health import Finding, Health


async def well() -> None:
    """Nothing is wrong."""


async def full() -> None:
    raise StorageError("the disk is full")


async def expired() -> None:
    raise ConfigError("the CA has expired")


async def test_each_check_speaks_for_itself() -> None:
    health = Health({"process": well, "store": full, "ca": expired})
    assert await health.findings() == [
        Finding("process", ""),
        Finding("store", "the disk is full"),
        Finding("ca", "the CA has expired"),
    ]


async def test_one_that_hangs_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_module, "_TIMEOUT_S", 0)

    async def hangs() -> None:
        await asyncio.Event().wait()

    assert await Health({"store": hangs}).findings() == [Finding("store", "no answer within 0 s")]
