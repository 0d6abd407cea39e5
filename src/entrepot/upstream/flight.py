"""One attempt for all who wait for the same thing.

Whoever comes first makes the attempt in its own task; the others wait for the outcome, failure
included. If the first is cancelled, the next one takes over: no task has to own the work, and no
one who leaves takes anything from those who stay.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field

from entrepot.errors import UpstreamError


@dataclass(slots=True, eq=False)
class _Attempt[Result]:
    done: asyncio.Event = field(default_factory=asyncio.Event)
    results: list[Result] = field(default_factory=list)  # one, or none
    failure: UpstreamError | None = None


class Flights[Key: Hashable, Result]:
    def __init__(self) -> None:
        self._running: dict[Key, _Attempt[Result]] = {}

    async def run(self, key: Key, work: Callable[[], Awaitable[Result]]) -> Result:
        while running := self._running.get(key):
            await running.done.wait()
            if running.failure is not None:
                # A copy: each waiter's traceback is its own.
                error = running.failure
                raise UpstreamError(
                    str(error),
                    status=error.status,
                    retry_after_s=error.retry_after_s,
                    is_late=error.is_late,
                )
            if running.results:
                return running.results[0]
        return await self._lead(key, work)

    async def _lead(self, key: Key, work: Callable[[], Awaitable[Result]]) -> Result:
        attempt = self._running[key] = _Attempt[Result]()
        try:
            result = await work()
        except UpstreamError as error:
            attempt.failure = error
            raise
        else:
            attempt.results.append(result)
            return result
        finally:
            del self._running[key]
            attempt.done.set()
