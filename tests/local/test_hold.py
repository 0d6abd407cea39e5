"""A job and the proxies: who waits for whom, and that all of it ends."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from entrepot.errors import UpstreamError
from entrepot.local.failure import JobFailed
from entrepot.local.hold import Post, claimed
from entrepot.local.keeper import PRESENCE_TTL_S, Doorkeeper
from entrepot.local.pushes import IDLE_S, Step
from entrepot.local.records import (
    Hold,
    Phase,
    encode,
    hold_key,
    hold_prefix,
    presence_prefix,
)
from entrepot.storage.memory import MemoryLedger
from tests.local.holding import APP, NAME, OTHER, Clockwork, keeper_of, passes, write
from tests.support.broken_storage import BreakableLedger
from tests.support.clock import ManualClock

WAIT_S = 600


@pytest.fixture
def work(ledger: MemoryLedger, clock: ManualClock) -> Clockwork:
    return Clockwork(ledger, clock)


@pytest.fixture
async def keeper(work: Clockwork) -> Doorkeeper:
    keeper = keeper_of(work.ledger, work.clock)
    await keeper.look()
    work.keepers.append(keeper)
    return keeper


async def is_refused(keeper: Doorkeeper, step: Step) -> bool:
    try:
        await passes(keeper, step)
    except UpstreamError as error:
        said = (error.status, error.was_sent, bool(error.retry_after_s), NAME in str(error))
        return said == (503, False, True, True)
    return False


async def test_writes_pass_until_they_are_held_back_and_again_after(
    work: Clockwork, keeper: Doorkeeper
) -> None:
    async with work.claim("garbage is collected") as claim:
        await passes(keeper, Step.DELETION)
        await claim.close(WAIT_S)
        for step in Step:
            assert await is_refused(keeper, step)
        assert "garbage is collected" in keeper.held_back()
    await keeper.look()
    assert keeper.held_back() == ""
    for step in Step:
        await passes(keeper, step)


async def test_a_proxy_that_starts_meanwhile_obeys_before_its_first_write(
    work: Clockwork, keeper: Doorkeeper
) -> None:
    async with work.claim() as claim:
        await claim.close(WAIT_S)
        assert await is_refused(keeper_of(work.ledger, work.clock), Step.UPLOAD)


async def test_another_registry_is_not_held(work: Clockwork, keeper: Doorkeeper) -> None:
    keeper.serve([NAME, "other.local"])
    async with work.claim() as claim:
        await claim.close(WAIT_S)
        other = write(Step.TAG)
        async with keeper.admitted(type(other)("other.local", APP, "", Step.TAG)):
            pass


async def test_a_running_write_is_waited_for(work: Clockwork, keeper: Doorkeeper) -> None:
    async with work.claim() as claim:
        async with keeper.admitted(write(Step.OTHER)) as passing, asyncio.TaskGroup() as tasks:
            closing = tasks.create_task(claim.close(WAIT_S))
            await work.wait_until(lambda: bool(keeper.held_back()))
            assert not closing.done()
            assert await is_refused(keeper, Step.OTHER)
            passing.is_done = True
            closing.cancel()
        await claim.close(1)


async def test_a_push_that_has_begun_ends(work: Clockwork, keeper: Doorkeeper) -> None:
    await passes(keeper, Step.UPLOAD)
    async with work.claim() as claim, asyncio.TaskGroup() as tasks:
        closing = tasks.create_task(claim.close(WAIT_S))
        await work.wait_until(lambda: bool(keeper.held_back()))
        for step in (Step.PART, Step.UPLOAD, Step.PART, Step.MANIFEST, Step.TAG):
            await passes(keeper, step)
        assert await is_refused(keeper, Step.UPLOAD)
        await closing


async def test_what_is_waited_for_is_told_once(
    work: Clockwork, keeper: Doorkeeper, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "entrepot.local")
    await passes(keeper, Step.UPLOAD)
    async with work.claim() as claim:
        await claim.close(WAIT_S)
    assert caplog.messages == [f"waiting for pushes to {APP} to end, {WAIT_S} s at the most"]


async def test_a_push_by_another_to_elsewhere_does_not_begin(
    work: Clockwork, keeper: Doorkeeper
) -> None:
    await passes(keeper, Step.UPLOAD)
    async with work.claim() as claim:
        with pytest.raises(JobFailed, match=f"pushing to {APP}"):
            await claim.close(1)
        with pytest.raises(UpstreamError):
            async with keeper.admitted(write(Step.UPLOAD, OTHER)):
                pass
    await keeper.look()
    await passes(keeper, Step.TAG)


async def test_a_push_that_was_given_up_is_not_waited_for_long(
    work: Clockwork, keeper: Doorkeeper
) -> None:
    await passes(keeper, Step.UPLOAD)
    began = work.clock.now()
    async with work.claim() as claim:
        await claim.close(WAIT_S)
    assert work.clock.now() - began < IDLE_S + 5


async def test_a_push_that_failed_is_none(work: Clockwork, keeper: Doorkeeper) -> None:
    async with keeper.admitted(write(Step.UPLOAD)) as passing:
        passing.is_done = False
    async with work.claim() as claim:
        await claim.close(1)


async def test_steps_through_two_processes_are_one_push(
    work: Clockwork, keeper: Doorkeeper
) -> None:
    second = keeper_of(work.ledger, work.clock)
    work.keepers.append(second)
    await passes(keeper, Step.UPLOAD)
    async with work.claim() as claim, asyncio.TaskGroup() as tasks:
        closing = tasks.create_task(claim.close(WAIT_S))
        await work.wait_until(lambda: bool(second.held_back()))
        await passes(second, Step.PART)
        await passes(second, Step.TAG)
        await closing


async def test_a_step_that_is_thought_over_while_the_hold_closes_is_refused(
    clock: ManualClock,
) -> None:
    """What was acknowledged in between says that nothing is on its way."""
    ledger = PausingLedger(clock)
    first, second = keeper_of(ledger, clock), keeper_of(ledger, clock)
    await first.look()
    await passes(first, Step.UPLOAD)

    async def hold(phase: Phase) -> None:
        await ledger.put(hold_key(NAME, "a"), encode(Hold("a", "a test", phase, 0)), 30)
        for keeper in (first, second):
            await keeper.look()

    await hold(Phase.CLOSING)
    async with asyncio.TaskGroup() as tasks:
        asked = tasks.create_task(is_refused(second, Step.UPLOAD))
        await ledger.is_asked.wait()
        await hold(Phase.CLOSED)
        ledger.may_answer.set()
        assert await asked


class PausingLedger(MemoryLedger):
    """Takes its time to say who is there."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.is_asked, self.may_answer = asyncio.Event(), asyncio.Event()

    async def scan(self, prefix: str) -> AsyncIterator[tuple[str, bytes]]:
        found = [record async for record in super().scan(prefix)]
        if prefix == presence_prefix(NAME):
            self.is_asked.set()
            await self.may_answer.wait()
        for record in found:
            yield record


async def test_a_process_that_was_killed_is_waited_for_until_it_cannot_write(
    work: Clockwork, keeper: Doorkeeper
) -> None:
    async with keeper.admitted(write(Step.PART)):
        work.keepers.clear()  # it says nothing any more
        began = work.clock.now()
        async with work.claim() as claim:
            with pytest.raises(JobFailed, match="a proxy process does not say"):
                await claim.close(PRESENCE_TTL_S / 2)
            work.clock.advance(PRESENCE_TTL_S / 2)
            await claim.close(WAIT_S, is_alone=True)
        assert work.clock.now() - began >= PRESENCE_TTL_S


async def test_without_a_proxy_nothing_is_held(work: Clockwork) -> None:
    async with work.claim() as claim:
        with pytest.raises(JobFailed, match="--data"):
            await claim.close(WAIT_S)
        await claim.close(WAIT_S, is_alone=True)


async def test_a_process_that_leaves_is_not_waited_for(work: Clockwork, keeper: Doorkeeper) -> None:
    leaving = keeper_of(work.ledger, work.clock)
    stop = asyncio.Event()

    async def forever(_seconds: float) -> None:
        await stop.wait()

    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(leaving.run(forever))
        await asyncio.sleep(0)
        task.cancel()
    async with work.claim() as claim:
        await claim.close(1)


async def test_one_job_at_a_time(work: Clockwork) -> None:
    async with work.claim():
        with pytest.raises(JobFailed, match="another job is at work"):
            async with work.claim():
                pytest.fail("two jobs at once")
    async with work.claim():
        pass


async def test_of_many_that_begin_together_one_is_at_work(
    ledger: MemoryLedger, clock: ManualClock
) -> None:
    at_work = most = done = 0

    async def job() -> None:
        nonlocal at_work, most, done
        try:
            async with claimed(Post(NAME, ledger, clock), "a test"):
                at_work += 1
                most = max(most, at_work)
                await asyncio.sleep(0.01)
                at_work -= 1
                done += 1
        except JobFailed:
            pass

    async with asyncio.TaskGroup() as tasks:
        for _ in range(8):
            tasks.create_task(job())
    assert most == 1
    assert done >= 1


async def test_a_job_that_fails_holds_nothing(work: Clockwork, keeper: Doorkeeper) -> None:
    async def fail() -> None:
        async with work.claim() as claim:
            await claim.close(WAIT_S)
            raise RuntimeError("the job fails")

    with pytest.raises(RuntimeError, match="the job fails"):
        await fail()
    assert not [key async for key, _ in work.ledger.scan(hold_prefix(NAME))]


async def test_a_job_that_was_killed_holds_nothing_after_its_time(
    work: Clockwork, keeper: Doorkeeper
) -> None:
    async with work.claim() as claim:
        await claim.close(WAIT_S)
        kept = [(key, data) async for key, data in work.ledger.scan(hold_prefix(NAME))]
    ((key, data),) = kept
    await work.ledger.put(key, data, 30)  # as it was left
    await keeper.look()
    assert await is_refused(keeper, Step.TAG)
    work.clock.advance(31)
    await passes(keeper, Step.TAG)


async def test_a_job_whose_hold_ran_out_is_stopped(
    ledger: MemoryLedger, clock: ManualClock
) -> None:
    renewals = asyncio.Event()

    async def sleep(_seconds: float) -> None:
        await renewals.wait()

    async def stand_still() -> None:
        async with claimed(Post(NAME, ledger, clock, sleep), "a test") as claim:
            assert claim.is_sure
            clock.advance(31)
            assert not claim.is_sure
            renewals.set()
            await asyncio.Event().wait()

    with pytest.raises(JobFailed, match="ran out"):
        await stand_still()


class TestTheLedgerIsSilent:
    async def test_nothing_is_written(self, clock: ManualClock) -> None:
        assert await is_refused(keeper_of(silent(clock), clock), Step.TAG)

    async def test_what_was_seen_a_moment_ago_is_believed(
        self, work: Clockwork, keeper: Doorkeeper
    ) -> None:
        keeper._ledger = silent(work.clock)
        work.clock.advance(5)
        await passes(keeper, Step.TAG)
        work.clock.advance(10)
        assert await is_refused(keeper, Step.TAG)

    async def test_the_keeper_goes_on(self, clock: ManualClock) -> None:
        ledger = silent(clock)
        keeper = keeper_of(ledger, clock)
        looks = 0

        async def sleep(_seconds: float) -> None:
            nonlocal looks
            looks += 1
            if looks == 3:
                raise asyncio.CancelledError

        with pytest.raises(asyncio.CancelledError):
            await keeper.run(sleep)
        assert looks == 3


async def test_a_hold_of_another_release_holds(work: Clockwork, keeper: Doorkeeper) -> None:
    await work.ledger.put(f"{hold_prefix(NAME)}x", b'{"v": 2}', 30)
    await keeper.look()
    assert await is_refused(keeper, Step.TAG)


def silent(clock: ManualClock) -> BreakableLedger:
    ledger = BreakableLedger(clock)
    ledger.break_down()
    return ledger
