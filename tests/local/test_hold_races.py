"""Jobs and proxies in every order that chance makes: nothing is written while a job is sure."""

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from entrepot.errors import UpstreamError
from entrepot.local.failure import JobFailed
from entrepot.local.hold import Post, claimed
from entrepot.local.keeper import Doorkeeper
from entrepot.local.pushes import Step
from entrepot.oci.reference import Repository
from entrepot.storage.memory import MemoryLedger
from tests.local.holding import NAME, keeper_of, write
from tests.support.clock import ManualClock


class SlowLedger(MemoryLedger):
    """Others come between any two of its steps, and between asking and being answered."""

    async def get(self, key: str) -> bytes | None:
        await moments()
        value = await super().get(key)
        await moments()
        return value

    async def put(self, key: str, value: bytes, ttl_s: float) -> None:
        await moments()
        await super().put(key, value, ttl_s)
        await moments()

    async def delete(self, key: str) -> None:
        await moments()
        await super().delete(key)

    async def scan(self, prefix: str) -> AsyncIterator[tuple[str, bytes]]:
        await moments()
        found = [record async for record in super().scan(prefix)]
        await moments()
        for record in found:
            yield record


async def moments(_seconds: float = 0) -> None:
    for _ in range(random.randrange(4)):
        await asyncio.sleep(0)


class Scene:
    """Says so when a write and a job that is sure to be alone are at work together."""

    def __init__(self) -> None:
        self.writing = 0
        self.at_work = 0
        self.jobs = 0
        self.writes = 0

    async def push(self, keeper: Doorkeeper, others: Doorkeeper, name: str) -> None:
        """All its steps, each through one of two processes."""
        steps = (Step.UPLOAD, Step.PART, Step.UPLOAD, Step.PART, Step.TAG)
        for step in random.choice((steps, (Step.OTHER,), (Step.TAG,))):
            door = random.choice((keeper, others))
            async with door.admitted(write(step, Repository(name))) as passing:
                self.writing += 1
                assert not self.at_work
                await moments()
                assert not self.at_work
                self.writing -= 1
                passing.is_done = True
                self.writes += 1

    async def job(self, ledger: SlowLedger, clock: ManualClock) -> None:
        async with claimed(Post(NAME, ledger, clock, moments), "a test") as claim:
            await claim.close(1e9)
            self.at_work += 1
            for _ in range(5):
                assert (self.writing, self.at_work) == (0, 1)
                await moments()
            self.at_work -= 1
            self.jobs += 1


@pytest.mark.parametrize("seed", range(8))
async def test_whoever_is_first(seed: int) -> None:
    random.seed(seed)
    clock = ManualClock()
    ledger = SlowLedger(clock)
    scene, stop = Scene(), asyncio.Event()
    keepers = [keeper_of(ledger, clock) for _ in range(3)]

    async def looks(keeper: Doorkeeper) -> None:
        while not stop.is_set():
            await keeper.look()
            clock.advance(0.3)  # for holds to be seen to have ended
            await moments()

    async def pushes(number: int) -> None:
        while not stop.is_set():
            try:
                await scene.push(keepers[number % 3], keepers[(number + 1) % 3], f"r{number}")
            except UpstreamError:
                await moments()
            await moments()

    async def jobs() -> None:
        for _ in range(6):
            try:
                await scene.job(ledger, clock)
            except JobFailed:
                await moments()

    async with asyncio.TaskGroup() as tasks:
        for keeper in keepers:
            await keeper.look()
            tasks.create_task(looks(keeper))
        for number in range(4):
            tasks.create_task(pushes(number))
        working = [tasks.create_task(jobs()) for _ in range(2)]
        await asyncio.wait(working)
        stop.set()
    assert scene.jobs
    assert scene.writes
