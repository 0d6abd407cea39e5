"""When it is due, and that one process of several does it."""

import logging
from datetime import datetime
from pathlib import Path

import pytest

from entrepot.config.kinds import Seconds
from entrepot.config.local import GarbageCollection, RetentionRule
from entrepot.local.schedule import Schedule, due
from entrepot.storage.memory import MemoryLedger
from tests.local.holding import running_keeper
from tests.local.registry import NAME, OwnRegistry
from tests.support.clock import ManualClock
from tests.support.images import build_image


def at(text: str) -> float:
    """A moment of June 2026, whose first day is a monday, by the local clock."""
    return datetime.fromisoformat(f"2026-06-{text}").timestamp()


@pytest.mark.parametrize(
    ("schedule", "after", "until", "expected"),
    [
        ("03:30", "01T03:29:50", "01T03:30:10", "01T03:30:00"),
        ("03:30", "01T03:30:10", "01T03:30:30", None),
        ("03:30", "01T03:30:00", "01T03:30:30", None),
        ("03:30", "01T12:00:00", "02T12:00:00", "02T03:30:00"),
        ("03:30", "01T12:00:00", "09T12:00:00", "09T03:30:00"),
        ("23:59", "01T23:58:50", "02T00:00:05", "01T23:59:00"),
        ("monday 03:30", "01T03:29:50", "01T03:30:10", "01T03:30:00"),
        ("sunday 03:30", "01T03:29:50", "01T03:30:10", None),
        ("sunday 03:30", "01T00:00:00", "08T00:00:00", "07T03:30:00"),
    ],
)
def test_due(schedule: str, after: str, until: str, expected: str | None) -> None:
    assert due(schedule, at(after), at(until)) == (expected and at(expected))


async def test_one_of_several_processes_does_retention_and_then_the_collection(
    own: OwnRegistry, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "entrepot.local.schedule")
    clock = ManualClock(at("01T03:29:50"))
    ledger = MemoryLedger(clock)
    gc = GarbageCollection(
        command=own.command, storage=own.storage, schedule="03:30", wait=Seconds(5)
    )
    config = own.config(tmp_path, gc=gc, retention=(RetentionRule(keep_tags=("kept",)),))
    for number, tag in enumerate(("kept", "old")):
        own.push("app", tag, build_image([10_000], seed=number))
    before = own.stored()
    schedules = [Schedule(lambda: config, ledger, clock) for _ in range(2)]
    clock.advance(20)
    async with running_keeper(ledger, clock):
        for schedule in schedules:
            await schedule.look()
    assert [line for line in caplog.messages if "retention" in line] == [
        f"{NAME}/app: deleted by retention: old"
    ]
    assert len([line for line in caplog.messages if "garbage collected: 3 blobs" in line]) == 1
    assert own.stored() < before
    clock.advance(60)
    await schedules[0].look()
    assert len(caplog.messages) == 2


@pytest.mark.parametrize("untagged", [False, True])
async def test_versions_without_a_tag_go_where_that_is_wanted(
    own: OwnRegistry, tmp_path: Path, *, untagged: bool
) -> None:
    clock = ManualClock(at("01T03:29:50"))
    ledger = MemoryLedger(clock)
    gc = GarbageCollection(
        command=own.command, schedule="03:30", wait=Seconds(5), untagged=untagged
    )
    config = own.config(tmp_path, gc=gc)
    for number in range(2):
        own.push("app", "moving", build_image([10_000], seed=number))
    before = own.stored()
    schedule = Schedule(lambda: config, ledger, clock)
    clock.advance(20)
    async with running_keeper(ledger, clock):
        await schedule.look()
    assert (own.stored() < before) is untagged


async def test_what_goes_wrong_is_logged(
    own: OwnRegistry, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = ManualClock(at("01T03:29:50"))
    own.push("app", "1.0", build_image([1000], seed=1))
    gc = GarbageCollection(command=("/none/such",), schedule="03:30")
    schedule = Schedule(lambda: own.config(tmp_path, gc=gc), MemoryLedger(clock), clock)
    clock.advance(20)
    await schedule.look()
    assert "is not cleaned up: /none/such" in caplog.text
