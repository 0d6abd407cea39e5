"""One piece of work for all who ask for the same thing at the same time."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable


class SingleFlight[Key: Hashable, Result]:
    """The work belongs to the task group, not to the first who asked: who leaves ends nothing."""

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self._tasks = tasks
        self._running: dict[Key, asyncio.Task[Result | Exception]] = {}

    async def run(self, key: Key, work: Callable[[], Coroutine[None, None, Result]]) -> Result:
        outcome = await asyncio.shield(self.start(key, work))
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def start(
        self, key: Key, work: Callable[[], Coroutine[None, None, Result]]
    ) -> asyncio.Task[Result | Exception]:
        """Have it done, without waiting for it."""
        task = self._running.get(key)
        if task is None:
            task = self._running[key] = self._tasks.create_task(_captured(work()))
            task.add_done_callback(lambda _: self._running.pop(key, None))
        return task

    def __len__(self) -> int:
        return len(self._running)


async def _captured[Result](work: Coroutine[None, None, Result]) -> Result | Exception:
    """An exception as a value: raised inside, it would end the task group and all else in it."""
    try:
        return await work
    except Exception as error:  # noqa: BLE001 - handed to every waiter, who raises it
        return error
