"""The proxy's side of a hold: whether a write to a local registry may pass now.

A process tells first that it is there, and looks for holds then; a job holds first, and looks then
who is there. So one of both sees the other, whatever the order. A job waits until each process has
acknowledged its hold and has nothing on its way. Fails closed: a process that cannot tell, because
the ledger is silent, lets no write pass.
"""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from entrepot.clock import Clock
from entrepot.errors import StorageError, UpstreamError
from entrepot.local.forgetting import Forgetting
from entrepot.local.pushes import Pushes, Step, Write
from entrepot.local.records import (
    Hold,
    Phase,
    Presence,
    decode_hold,
    decode_presence,
    encode,
    hold_prefix,
    presence_key,
    presence_prefix,
)
from entrepot.storage.base import Ledger

# A process that was killed is waited for this long: nobody knows whether it still writes.
PRESENCE_TTL_S = 30.0
_RENEWED_AFTER_S = 5.0
_LOOK_S = 1.0
# How long what was seen is acted on. Far less than the life of a presence: while that lasts, a job
# waits for this process.
_BELIEVED_S = 10.0
_REFUSED_S = 0.2
_RETRY_AFTER_S = 30.0
_UNAVAILABLE = 503

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Passing:
    """A write that was let in. `is_done` stays None where no answer came."""

    is_done: bool | None = None


class Doorkeeper:
    """One for each process, whatever becomes of its configuration."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock
        self._process = secrets.token_hex(8)
        self._registries: frozenset[str] = frozenset()
        self._pushes: dict[str, Pushes] = {}
        self._holds: dict[str, Hold] = {}
        self._met: set[str] = set()  # registries once seen without a hold
        self._told: dict[str, tuple[float, Presence]] = {}
        self._looked_at = float("-inf")
        self._looking = asyncio.Lock()
        self._is_deaf = False

    def serve(self, registries: Iterable[str]) -> None:
        self._registries = frozenset(registries)

    async def run(self, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep) -> None:
        """Until cancelled."""
        try:
            while True:
                await self._look_again()
                await sleep(_LOOK_S)
        finally:
            await self._leave()

    @asynccontextmanager
    async def admitted(self, write: Write) -> AsyncIterator[Passing]:
        """UpstreamError(503) while writes are held back."""
        await self._check(write)
        pushes = self._of(write.registry)
        pushes.began(write)
        passing = Passing()
        try:
            yield passing
        finally:
            pushes.ended(write, is_done=passing.is_done)

    def held_back(self) -> str:
        """What is held back and why, in words; empty when nothing is."""
        return "; ".join(
            f"no pushes to {registry}: {hold.job}"
            for registry, hold in sorted(self._holds.items())
            if self._is_held(registry)
        )

    async def look(self) -> None:
        """Tell that this process is there, see what is held, acknowledge it. StorageError."""
        async with self._looking:
            began = self._clock.now()
            names = self._names()
            for registry in names:
                await self._tell(registry)
            holds = {registry: hold async for registry, hold in self._find_holds(names)}
            for registry in names - holds.keys():
                await self._see_to_doomed(registry)
            self._holds = holds
            self._looked_at = began
            for registry in names:
                await self._tell(registry)

    # Whether a write may pass.

    async def _check(self, write: Write) -> None:
        await self._look_if_older(_BELIEVED_S, write.registry)
        if self._is_held(write.registry):
            # It may have ended a moment ago: who comes back after Retry-After is let in at once.
            await self._look_if_older(_REFUSED_S, write.registry)
        hold = self._holds.get(write.registry)
        is_shared = False
        if hold is not None and hold.phase is Phase.CLOSING and write.is_of_push:
            is_shared = await self._has_begun_elsewhere(write)
        # From here to the count of what is running nothing may be awaited: what is told of this
        # process in between would be wrong.
        hold = self._holds.get(write.registry)
        if hold is None or not self._is_held(write.registry):
            return
        if hold.phase is Phase.CLOSING and (is_shared or self._may_end(write)):
            return
        raise _not_now(
            f"{write.registry} takes no pushes for a moment ({hold.job}); pulls go on, try again"
            " in a minute"
        )

    def _is_held(self, registry: str) -> bool:
        hold = self._holds.get(registry)
        return hold is not None and hold.phase in {Phase.CLOSING, Phase.CLOSED}

    async def _look_if_older(self, age_s: float, registry: str) -> None:
        if 0 <= self._clock.now() - self._looked_at < age_s:
            return
        try:
            await self.look()
        except StorageError as error:
            raise _not_now(
                f"whether {registry} takes writes cannot be told, as the proxy's ledger cannot be"
                " read or written; see the proxy's log"
            ) from error

    def _may_end(self, write: Write) -> bool:
        if write.step is Step.PART:
            return True
        return write.is_of_push and self._of(write.registry).has_begun(write.repository)

    async def _has_begun_elsewhere(self, write: Write) -> bool:
        """Clients of several processes open a connection for each step."""
        if self._may_end(write):
            return True
        with suppress(StorageError):
            async for _, data in self._ledger.scan(presence_prefix(write.registry)):
                other = decode_presence(data)
                if other.process != self._process and write.repository in other.pushes:
                    return True
        return False

    # What is told and seen.

    async def _look_again(self) -> None:
        try:
            if self._names():
                await self.look()
            self._is_deaf = False
        except StorageError as error:
            if not self._is_deaf:
                logger.error("local registries take no writes: %s", error)  # noqa: TRY400 - said
            self._is_deaf = True

    def _names(self) -> frozenset[str]:
        """Those of a former configuration, too, while something is on its way to them."""
        busy = {name for name, pushes in self._pushes.items() if pushes.running}
        return self._registries | busy

    async def _find_holds(self, names: Iterable[str]) -> AsyncIterator[tuple[str, Hold]]:
        """A job that only tries to be the one is none."""
        for registry in names:
            async for _, data in self._ledger.scan(hold_prefix(registry)):
                hold = decode_hold(data)
                if hold.phase is not Phase.CLAIMING:
                    yield registry, hold

    async def _see_to_doomed(self, registry: str) -> None:
        """Of a job that was killed: what it has removed must not be said to be there when pushes
        begin again, or they would leave it out.
        """
        former = self._holds.get(registry)
        if registry not in self._met or (former is not None and former.phase is Phase.CLOSED):
            await Forgetting(self._ledger, registry).see_to_doomed()
            self._met.add(registry)

    async def _tell(self, registry: str) -> None:
        now = self._clock.now()
        hold, pushes = self._holds.get(registry), self._of(registry)
        presence = Presence(
            self._process, hold.stage if hold else "", pushes.running, pushes.repositories()
        )
        if self._has_told(presence, now, registry):
            return
        key = presence_key(registry, self._process)
        await self._ledger.put(key, encode(presence), PRESENCE_TTL_S)
        self._told[registry] = (now, presence)

    def _has_told(self, presence: Presence, now: float, registry: str) -> bool:
        told_at, told = self._told.get(registry, (float("-inf"), presence))
        # Nobody waits to hear of pushes while nothing is held.
        is_news = told != presence and bool(told.seen or presence.seen)
        return 0 <= now - told_at < _RENEWED_AFTER_S and not is_news

    async def _leave(self) -> None:
        """What may still be on its way keeps its presence until that expires."""
        for registry in self._told:
            if not self._of(registry).running:
                with suppress(StorageError):
                    await self._ledger.delete(presence_key(registry, self._process))

    def _of(self, registry: str) -> Pushes:
        return self._pushes.setdefault(registry, Pushes(self._clock))


def _not_now(message: str) -> UpstreamError:
    return UpstreamError(message, status=_UNAVAILABLE, retry_after_s=_RETRY_AFTER_S, was_sent=False)
