"""Proxies and jobs at one ledger, in the test's own loop and time."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from entrepot.local.hold import Claim, Post, claimed
from entrepot.local.keeper import Doorkeeper
from entrepot.local.pushes import Step, Write
from entrepot.oci.reference import Repository
from entrepot.storage.base import Ledger
from tests.support.clock import ManualClock

NAME = "docker-registry.local"
APP, OTHER = Repository("team/app"), Repository("other")


def write(step: Step, repository: Repository = APP, client: str = "10.0.0.1") -> Write:
    return Write(NAME, repository, client, step)


def keeper_of(ledger: Ledger, clock: ManualClock) -> Doorkeeper:
    keeper = Doorkeeper(ledger, clock)
    keeper.serve([NAME])
    return keeper


async def passes(keeper: Doorkeeper, step: Step, *, client: str = "10.0.0.1") -> None:
    """One that is answered with success."""
    async with keeper.admitted(write(step, client=client)) as passing:
        passing.is_done = True


class Clockwork:
    """Time goes on as the job sleeps between two looks, and meanwhile the proxies look, too."""

    def __init__(self, ledger: Ledger, clock: ManualClock) -> None:
        self.ledger = ledger
        self.clock = clock
        self.keepers: list[Doorkeeper] = []
        self._tick = asyncio.Condition()

    async def sleep(self, seconds: float) -> None:
        until = self.clock.now() + seconds
        if seconds >= 1:  # between two renewals
            await self.wait_until(lambda: self.clock.now() >= until)
            return
        self.clock.advance(seconds)
        for keeper in self.keepers:
            await keeper.look()
        async with self._tick:
            self._tick.notify_all()
        await asyncio.sleep(0)

    async def wait_until(self, is_so: Callable[[], bool]) -> None:
        async with self._tick:
            await self._tick.wait_for(is_so)

    @asynccontextmanager
    async def claim(self, job: str = "a test") -> AsyncIterator[Claim]:
        async with claimed(Post(NAME, self.ledger, self.clock, self.sleep), job) as claim:
            yield claim


@asynccontextmanager
async def running_keeper(ledger: Ledger, clock: ManualClock) -> AsyncIterator[Doorkeeper]:
    """Of a proxy that looks again and again."""
    keeper = keeper_of(ledger, clock)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(keeper.run(lambda _: asyncio.sleep(0.02)))
        yield keeper
        task.cancel()
