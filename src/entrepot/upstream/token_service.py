"""Asks token services, over the registry's own connections."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from multidict import CIMultiDict
from yarl import URL

from entrepot.errors import UpstreamError
from entrepot.upstream.failure import Fault, NoAnswer
from entrepot.upstream.message import RealmAnswer, UpstreamResponse
from entrepot.upstream.patience import Patience
from entrepot.upstream.realm import Origin
from entrepot.upstream.redirect import STATUSES, resolve
from entrepot.upstream.transport import Hop, Transport

_ANSWER_LIMIT = 1 << 20
_MAX_HOPS = 3
UNWELL = frozenset({502, 503, 504})


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenService:
    transport: Transport
    patience: Patience
    pauses: tuple[float, ...]  # between attempts
    asked: Callable[[], None]
    silent: Callable[[], None]  # told when there was no answer at all

    async def __call__(
        self, url: URL, method: str, headers: Mapping[str, str], form: bytes
    ) -> RealmAnswer:
        """Whatever it answers; UpstreamError where it does not. What is sent holds credentials, so
        it is not sent on to another host.
        """
        hop = Hop(
            method=method,
            url=url,
            headers=CIMultiDict(headers, Accept="application/json"),
            patience=self.patience,
            body=form or None,
        )
        outcome = await self._try(hop)
        for pause in self.pauses:
            if not _may_pass(outcome):
                break
            await asyncio.sleep(pause)
            outcome = await self._try(hop)
        if isinstance(outcome, RealmAnswer):
            return outcome
        self.silent()
        raise UpstreamError(f"token service {outcome}")

    async def _try(self, hop: Hop) -> RealmAnswer | NoAnswer:
        try:
            return await self._ask(hop)
        except NoAnswer as error:
            return error

    async def _ask(self, hop: Hop) -> RealmAnswer:
        url = hop.url
        for _ in range(_MAX_HOPS + 1):
            self.asked()
            async with await self.transport.exchange(hop.to(url)) as response:
                target = _redirected(hop, response, url)
                if target is None:
                    body = await response.read(_ANSWER_LIMIT)
                    return RealmAnswer(response.status, response.headers, body)
                url = target
        raise UpstreamError(f"{Origin.of(url)}: the token service redirects without end")


def _may_pass(outcome: RealmAnswer | NoAnswer) -> bool:
    if isinstance(outcome, NoAnswer):
        return outcome.fault in {Fault.UNREACHABLE, Fault.BROKEN}
    return outcome.status in UNWELL


def _redirected(hop: Hop, response: UpstreamResponse, url: URL) -> URL | None:
    location = response.headers.get("Location")
    if hop.method != "GET" or response.status not in STATUSES or not location:
        return None
    try:
        target = resolve(url, location)
    except ValueError:
        return None
    if Origin.of(target) != Origin.of(url):
        raise UpstreamError(f"{Origin.of(url)}: the token service redirects to another host")
    return target
