"""Whether the proxy can do its work: each check by itself, with what is wrong in plain words."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from entrepot.errors import EntrepotError

_TIMEOUT_S = 5

type Check = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Finding:
    name: str
    problem: str  # empty: all is well
    is_serious: bool = True  # it should get no traffic


class Health:
    """Checks raise EntrepotError with what is wrong. `notes` say what does no harm to answers."""

    def __init__(
        self, checks: Mapping[str, Check], notes: Mapping[str, Callable[[], str]] | None = None
    ) -> None:
        self._checks = checks
        self._notes = notes or {}

    async def findings(self) -> list[Finding]:
        serious = [Finding(name, await _problem(check)) for name, check in self._checks.items()]
        told = [Finding(name, tell(), is_serious=False) for name, tell in self._notes.items()]
        return serious + told


async def _problem(check: Check) -> str:
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            await check()
    except TimeoutError:
        return f"no answer within {_TIMEOUT_S} s"
    except EntrepotError as error:
        return str(error)
    return ""
