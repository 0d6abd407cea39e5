"""What only the ledger on a disk does: tests/contract has what every ledger does."""

import pytest

from entrepot.storage.disk import ledger as ledger_module
from tests.storage.disk.conftest import Disk


@pytest.mark.parametrize(("limit", "most"), [("_ROWS_MAX", 3), ("_BYTES_MAX", 30)])
async def test_what_expires_first_goes_when_there_is_too_much(
    disk: Disk, monkeypatch: pytest.MonkeyPatch, limit: str, most: int
) -> None:
    monkeypatch.setattr(ledger_module, limit, most)
    monkeypatch.setattr(ledger_module, "_PAGE", 1)
    ledger = disk.open().ledger
    for number in (3, 1, 5, 2, 4):
        await ledger.put(f"key/{number}", bytes(10), ttl_s=100 * number)
    assert await ledger.expire() == 2
    assert [key async for key, _ in ledger.scan("key/")] == ["key/3", "key/4", "key/5"]
    assert await ledger.expire() == 0


async def test_what_lives_for_moments_is_spared(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "_ROWS_MAX", 1)
    ledger = disk.open().ledger
    for key, ttl_s in (("hold", 30), ("binding", 3600), ("member", float("inf"))):
        await ledger.put(key, b"", ttl_s)
    await ledger.expire()
    assert await ledger.get("hold") == b""
    assert await ledger.get("binding") is None
