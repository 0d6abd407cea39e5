"""How tests of the running proxy wait: for an answer to become what it should be, with an end."""

import asyncio
from collections.abc import Awaitable, Callable

from tests.support.proxy import ProxyProcess

_TIMEOUT_S = 20.0
_POLL_S = 0.02


async def eventually[Answer](
    ask: Callable[[], Awaitable[Answer]],
    holds: Callable[[Answer], bool],
    timeout_s: float = _TIMEOUT_S,
) -> Answer:
    """Ask again until the answer is as it should be; return it."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    while not holds(answer := await ask()):
        assert loop.time() < deadline, f"not within {timeout_s} s; the last answer was {answer!r}"
        await asyncio.sleep(_POLL_S)
    return answer


async def fills_to_end(proxy: ProxyProcess) -> None:
    """No download runs; nobody has attached to one to find that out."""

    async def running() -> float:
        metrics = await asyncio.to_thread(proxy.metrics)
        return metrics.value("entrepot_fills")

    await eventually(running, lambda count: count == 0)
