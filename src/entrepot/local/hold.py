"""The job's side of a hold: one job at a time, and no writes while it says so.

The hold is a record in the ledger that lives for half a minute and is renewed while the job does:
whatever ends a job, kill -9 among it, writes are back half a minute later at the latest. So what a
job does under a hold must end when the hold is no longer sure: `is_sure` says so in time, and what
was begun is cancelled when a renewal finds that the hold has gone.
"""

import asyncio
import logging
import random
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from entrepot.clock import Clock
from entrepot.errors import StorageError
from entrepot.local.failure import JobFailed, first_of
from entrepot.local.records import (
    Hold,
    Phase,
    Presence,
    decode_hold,
    decode_presence,
    encode,
    hold_key,
    hold_prefix,
    presence_prefix,
)
from entrepot.storage.base import Ledger

HOLD_TTL_S = 30.0
_RENEW_S = 5.0
# From the last renewal. With the patience of a guard and what it takes to kill, below the TTL.
_SURE_S = 14.0
_POLL_S = 0.25
_TRIES = 5

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Post:
    """Where holds are: of which registry, in which ledger."""

    registry: str
    ledger: Ledger
    clock: Clock
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep


@asynccontextmanager
async def claimed(post: Post, job: str) -> AsyncIterator["Claim"]:
    """The only job at this registry, or JobFailed. Writes pass until `Claim.close`."""
    claim = Claim(post, job)
    await claim.take()
    try:
        async with asyncio.TaskGroup() as tasks:
            renewing = tasks.create_task(claim.renew_until_cancelled())
            try:
                yield claim
            finally:
                renewing.cancel()
    except BaseExceptionGroup as group:
        raise first_of(group) from None
    finally:
        await asyncio.shield(claim.release())


class Claim:
    def __init__(self, post: Post, job: str) -> None:
        self._post = post
        self._ledger = post.ledger
        self._clock = post.clock
        self._hold = Hold(secrets.token_hex(8), job, Phase.CLAIMING, post.clock.now())
        self._key = hold_key(post.registry, self._hold.owner)
        self._writing = asyncio.Lock()
        self._renewed_at = float("-inf")

    @property
    def is_sure(self) -> bool:
        """Whether the hold lives, and will for a while."""
        return 0 <= self._clock.now() - self._renewed_at < _SURE_S

    async def take(self) -> None:
        """Write, then look: of two who do, one at least sees the other, and steps back."""
        try:
            for _ in range(_TRIES):
                await self._enter(Phase.CLAIMING)
                others = await self._others()
                if not others:
                    await self._enter(Phase.PREPARING)
                    return
                await self._ledger.delete(self._key)
                if any(other.phase is not Phase.CLAIMING for other in others):
                    break
                await self._post.sleep(random.uniform(0.05, 0.4))  # noqa: S311 - no secret
        except BaseException:
            await asyncio.shield(self.release())
            raise
        raise JobFailed(
            f"another job is at work on {self._post.registry}; when it has ended, or half a minute"
            " after it was killed, this can be tried again"
        )

    async def close(self, wait_s: float, *, is_alone: bool = False) -> None:
        """Hold writes back, and wait until none is on its way. JobFailed when that takes too long;
        `is_alone`: no proxy is running, and none is expected to say that it has heard.
        """
        if not is_alone and not await self._present():
            raise JobFailed(
                f"no running proxy that serves {self._post.registry} has its data here, so none"
                " would hold pushes back: give the data directory of the proxy (--data), or"
                " --offline when it is stopped"
            )
        deadline = self._clock.now() + wait_s
        await self._enter(Phase.CLOSING)
        await self._wait_until(lambda presence: not presence.pushes, deadline, wait_s)
        # Whatever else was let in meanwhile ends before this is acknowledged.
        await self._enter(Phase.CLOSED)
        await self._wait_until(lambda presence: not presence.running, deadline, wait_s)

    async def renew_until_cancelled(self) -> None:
        while True:
            await self._post.sleep(_RENEW_S)
            try:
                if await self._ledger.get(self._key) is None:
                    raise JobFailed(
                        f"the hold on {self._post.registry} ran out while the job stood still:"
                        " stopped, as writes are let in again"
                    )
                await self._enter(self._hold.phase)
            except StorageError as error:
                if not self.is_sure:
                    raise JobFailed(f"the hold cannot be renewed: {error}") from error

    async def release(self) -> None:
        try:
            await self._ledger.delete(self._key)
        except StorageError as error:
            logger.warning(
                "writes to %s come back in half a minute: %s", self._post.registry, error
            )

    async def _enter(self, phase: Phase) -> None:
        async with self._writing:
            self._hold = Hold(self._hold.owner, self._hold.job, phase, self._hold.since)
            now = self._clock.now()
            await self._ledger.put(self._key, encode(self._hold), HOLD_TTL_S)
            self._renewed_at = now

    async def _others(self) -> list[Hold]:
        prefix = hold_prefix(self._post.registry)
        return [
            decode_hold(data) async for key, data in self._ledger.scan(prefix) if key != self._key
        ]

    async def _present(self) -> list[Presence]:
        prefix = presence_prefix(self._post.registry)
        return [decode_presence(data) async for _, data in self._ledger.scan(prefix)]

    async def _wait_until(
        self, is_ready: Callable[[Presence], bool], deadline: float, wait_s: float
    ) -> None:
        """Of every process that is present."""
        told = ""
        while True:
            stage = self._hold.stage
            late = [p for p in await self._present() if p.seen != stage or not is_ready(p)]
            if not late:
                return
            if self._clock.now() >= deadline:
                raise JobFailed(f"put off after {wait_s:g} s (gc.wait): {_reason(late, stage)}")
            if (names := _pushed_to(late)) and names != told:
                told = names
                logger.info("waiting for pushes to %s to end, %g s at the most", names, wait_s)
            await self._post.sleep(_POLL_S)


def _reason(late: list[Presence], stage: str) -> str:
    if any(presence.seen != stage for presence in late):
        return "a proxy process does not say that it holds writes back"
    return f"somebody is still pushing to {_pushed_to(late) or 'it'}"


def _pushed_to(late: list[Presence]) -> str:
    names = sorted({name for presence in late for name in presence.pushes})
    return ", ".join(names[:10])
