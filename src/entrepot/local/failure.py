"""How jobs fail, and how what they do at the same time does."""

import asyncio
from collections.abc import Coroutine, Iterable

from entrepot.errors import EntrepotError


class JobFailed(EntrepotError):  # noqa: N818 - reads as what it says
    """What was to be done to a local registry was not, or not all of it; the message says why."""


async def together[T](work: Iterable[Coroutine[None, None, T]]) -> list[T]:
    """The results in order. The first that fails ends the others, and is raised."""
    try:
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(one) for one in work]
    except BaseExceptionGroup as group:
        raise first_of(group) from None
    return [task.result() for task in running]


def first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
