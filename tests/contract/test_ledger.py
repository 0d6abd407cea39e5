"""Small records, whatever the store."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from entrepot.storage.base import Ledger
from tests.support.clock import ManualClock

HOUR = 3600


async def records(ledger: Ledger, prefix: str) -> list[tuple[str, bytes]]:
    return [record async for record in ledger.scan(prefix)]


async def test_what_is_put_is_got_until_it_is_deleted(ledger: Ledger) -> None:
    assert await ledger.get("binding/a") is None
    await ledger.put("binding/a", b"1", HOUR)
    assert await ledger.get("binding/a") == b"1"
    await ledger.put("binding/a", b"", HOUR)
    assert await ledger.get("binding/a") == b""
    for _ in range(2):
        await ledger.delete("binding/a")
        assert await ledger.get("binding/a") is None


async def test_a_record_is_forgotten_in_time(ledger: Ledger, clock: ManualClock) -> None:
    await ledger.put("a", b"1", 60)
    await ledger.put("b", b"2", float("inf"))
    clock.advance(59.9)
    assert await ledger.get("a") == b"1"
    clock.advance(0.1)
    assert await ledger.get("a") is None
    assert await records(ledger, "") == [("b", b"2")]


async def test_to_put_again_is_to_live_longer(ledger: Ledger, clock: ManualClock) -> None:
    await ledger.put("a", b"1", 60)
    clock.advance(50)
    await ledger.put("a", b"2", 60)
    clock.advance(50)
    assert await ledger.get("a") == b"2"


@pytest.mark.parametrize("ttl_s", [0, -1])
async def test_no_time_to_live_is_none(ledger: Ledger, ttl_s: float) -> None:
    await ledger.put("a", b"1", HOUR)
    await ledger.put("a", b"2", ttl_s)
    assert await ledger.get("a") is None


async def test_a_scan_is_of_one_prefix_and_in_order(ledger: Ledger) -> None:
    for key in ("b/2", "a/9", "b/1", "b", "b/", "b0", "b/1/x", "c", "B/1", "b/%", "b/_"):
        await ledger.put(key, key.encode(), HOUR)
    expected = ["b/", "b/%", "b/1", "b/1/x", "b/2", "b/_"]
    assert await records(ledger, "b/") == [(key, key.encode()) for key in expected]
    assert await records(ledger, "d") == []


async def test_a_long_scan_is_whole(ledger: Ledger) -> None:
    keys = [f"k/{number:04}" for number in range(600)]
    for key in keys:
        await ledger.put(key, b"", HOUR)
    assert [key for key, _ in await records(ledger, "k/")] == keys


async def test_records_may_change_during_a_scan(ledger: Ledger) -> None:
    for number in range(10):
        await ledger.put(f"k/{number}", b"", HOUR)
    async for key, _ in ledger.scan("k/"):
        await ledger.delete(key)
    assert await records(ledger, "k/") == []


TEXT = st.text(st.sampled_from("ab/\ud7ff\ue000\U0010ffff"), max_size=4)


@settings(
    max_examples=50,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(keys=st.sets(TEXT, max_size=8), prefix=TEXT)
async def test_a_scan_finds_what_begins_so(ledger: Ledger, keys: set[str], prefix: str) -> None:
    for key, _ in await records(ledger, ""):
        await ledger.delete(key)
    for key in keys:
        await ledger.put(key, b"", HOUR)
    found = [key for key, _ in await records(ledger, prefix)]
    assert found == sorted(key for key in keys if key.startswith(prefix))
