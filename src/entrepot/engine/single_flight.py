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
        # What has ended stays here until the loop comes round. An outcome is for who asked before
        # it: who asks again because of it would be given it again, and the loop stand still.
        if task is None or task.done():
            task = self._running[key] = self._tasks.create_task(_captured(work()))
            task.add_done_callback(lambda done: self._free(key, done))
        return task

    def _free(self, key: Key, done: asyncio.Task[Result | Exception]) -> None:
        if self._running.get(key) is done:
            del self._running[key]

    def __len__(self) -> int:
        return len(self._running)


async def _captured[Result](work: Coroutine[None, None, Result]) -> Result | Exception:
    """An exception as a value: raised inside, it would end the task group and all else in it."""
    try:
        return await work
    except Exception as error:  # noqa: BLE001 - handed to every waiter, who raises it
        return error
