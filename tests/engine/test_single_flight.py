import asyncio
from collections.abc import AsyncIterator

import pytest

from entrepot.engine.single_flight import SingleFlight

pytestmark = pytest.mark.usefixtures("task_factory")


class Work:
    """Counts how often it is done, and ends when the test says so."""

    def __init__(self, error: Exception | None = None) -> None:
        self.begun = 0
        self.may_end = asyncio.Event()
        self.error = error

    async def __call__(self) -> int:
        self.begun += 1
        await self.may_end.wait()
        if self.error is not None:
            raise self.error
        return self.begun


@pytest.fixture
async def tasks(task_factory: None) -> AsyncIterator[asyncio.TaskGroup]:
    async with asyncio.TaskGroup() as tasks:
        yield tasks


@pytest.fixture
def flights(tasks: asyncio.TaskGroup) -> SingleFlight[str, int]:
    return SingleFlight(tasks)


async def test_all_who_ask_meanwhile_get_the_one_result(
    tasks: asyncio.TaskGroup, flights: SingleFlight[str, int]
) -> None:
    work = Work()
    asking = [tasks.create_task(flights.run("key", work)) for _ in range(10)]
    await asyncio.sleep(0)
    work.may_end.set()
    assert await asyncio.gather(*asking) == [1] * 10


async def test_other_keys_are_other_work(
    tasks: asyncio.TaskGroup, flights: SingleFlight[str, int]
) -> None:
    work = Work()
    work.may_end.set()
    one, two = flights.run("one", work), flights.run("two", work)
    assert sorted(await asyncio.gather(one, two)) == [1, 2]


async def test_the_next_who_asks_has_it_done_anew(flights: SingleFlight[str, int]) -> None:
    work = Work()
    work.may_end.set()
    assert [await flights.run("key", work) for _ in range(3)] == [1, 2, 3]


async def test_an_exception_reaches_all_and_ends_nobody_else(
    tasks: asyncio.TaskGroup, flights: SingleFlight[str, int]
) -> None:
    work = Work(LookupError("nothing there"))
    asking = [tasks.create_task(_outcome(flights, "key", work)) for _ in range(10)]
    await asyncio.sleep(0)
    work.may_end.set()
    assert await asyncio.gather(*asking) == ["nothing there"] * 10
    assert work.begun == 1


async def _outcome(flights: SingleFlight[str, int], key: str, work: Work) -> str:
    try:
        return str(await flights.run(key, work))
    except LookupError as error:
        return str(error)


async def test_who_leaves_ends_nothing(
    tasks: asyncio.TaskGroup, flights: SingleFlight[str, int]
) -> None:
    work = Work()
    first = tasks.create_task(flights.run("key", work))
    second = tasks.create_task(flights.run("key", work))
    await asyncio.sleep(0)
    first.cancel()
    work.may_end.set()
    assert await second == 1
    assert first.cancelled()


async def test_the_work_outlives_all_who_asked(
    tasks: asyncio.TaskGroup, flights: SingleFlight[str, int]
) -> None:
    work = Work()
    only = tasks.create_task(flights.run("key", work))
    await asyncio.sleep(0)
    only.cancel()
    with pytest.raises(asyncio.CancelledError):
        await only
    late = tasks.create_task(flights.run("key", work))
    work.may_end.set()
    assert await late == 1


async def test_what_nobody_waits_for_is_done_too(
    tasks: asyncio.TaskGroup, flights: SingleFlight[str, int]
) -> None:
    work = Work(LookupError("nobody hears of it"))
    flights.start("key", work)
    assert len(flights) == 1
    work.may_end.set()
    assert await _outcome(flights, "key", work) == "nobody hears of it"
    await asyncio.sleep(0)
    assert len(flights) == 0


async def test_a_result_is_nobodys_who_comes_after_it(flights: SingleFlight[str, int]) -> None:
    """In the very round of the loop in which the work ended, before its callbacks: who asks again
    because the outcome was not for them would get it for ever, and the loop would never go on.
    """
    work = Work()
    work.may_end.set()
    task = flights.start("key", work)
    if not task.done():  # eager tasks have ended already
        await asyncio.sleep(0)
    again = flights.start("key", work)
    assert again is not task
    assert (await task, await again) == (1, 2)


async def test_a_key_that_was_taken_over_is_not_freed_by_who_had_it(
    flights: SingleFlight[str, int],
) -> None:
    quick, slow = Work(), Work()
    quick.may_end.set()
    task = flights.start("key", quick)
    if not task.done():  # eager tasks have ended already
        await asyncio.sleep(0)
    second = flights.start("key", slow)
    for _ in range(3):
        await asyncio.sleep(0)
    assert len(flights) == 1
    assert flights.start("key", slow) is second
    slow.may_end.set()
    assert await second == 1
