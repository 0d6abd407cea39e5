import asyncio

import pytest

from entrepot.errors import UpstreamError
from entrepot.upstream.flight import Flights


class Work:
    """Waits to be told how to end; counts how often it was begun."""

    def __init__(self) -> None:
        self.begun = 0
        self.started = asyncio.Event()
        self.may_end = asyncio.Event()
        self.failure: UpstreamError | None = None

    async def __call__(self) -> str:
        self.begun += 1
        self.started.set()
        await self.may_end.wait()
        if self.failure:
            raise self.failure
        return "result"


async def test_all_who_wait_share_one_attempt() -> None:
    flights: Flights[str, str] = Flights()
    work = Work()
    async with asyncio.TaskGroup() as group:
        waiting = [group.create_task(flights.run("key", work)) for _ in range(10)]
        await work.started.wait()
        work.may_end.set()
    assert [task.result() for task in waiting] == ["result"] * 10
    assert work.begun == 1


async def test_all_who_wait_share_a_failure_and_the_next_tries_again() -> None:
    flights: Flights[str, str] = Flights()
    work = Work()
    work.failure = UpstreamError("down", status=503, retry_after_s=7)
    waiting = [asyncio.gather(flights.run("key", work), return_exceptions=True) for _ in range(5)]
    await work.started.wait()
    work.may_end.set()
    errors = [(await one)[0] for one in waiting]
    for error in errors:
        assert isinstance(error, UpstreamError)
        assert (str(error), error.status, error.retry_after_s) == ("down", 503, 7)
    assert work.begun == 1
    work.failure = None
    assert await flights.run("key", work) == "result"


async def test_who_is_cancelled_leaves_the_work_to_the_next() -> None:
    flights: Flights[str, str] = Flights()
    work = Work()
    async with asyncio.TaskGroup() as group:
        first = group.create_task(flights.run("key", work))
        await work.started.wait()
        second = group.create_task(flights.run("key", work))
        work.started.clear()
        first.cancel()
        await work.started.wait()
        work.may_end.set()
    assert first.cancelled()
    assert second.result() == "result"
    assert work.begun == 2


async def test_keys_do_not_wait_for_each_other() -> None:
    flights: Flights[str, str] = Flights()
    slow, quick = Work(), Work()
    quick.may_end.set()
    async with asyncio.TaskGroup() as group:
        group.create_task(flights.run("slow", slow))
        await slow.started.wait()
        assert await flights.run("quick", quick) == "result"
        slow.may_end.set()


async def test_a_fault_of_ours_is_not_handed_to_others() -> None:
    flights: Flights[str, str] = Flights()

    async def broken() -> str:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await flights.run("key", broken)
