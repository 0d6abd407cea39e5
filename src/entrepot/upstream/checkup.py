"""Whether the endpoints of a local registry are well: looked after, so that no request finds out.

A write can be sent but once. One that went to an instance that has just died would fail, though
another stood beside it.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence

from yarl import URL

from entrepot.upstream.endpoint import Endpoint
from entrepot.upstream.failure import Fault, NoAnswer
from entrepot.upstream.flight import Flights
from entrepot.upstream.patience import Patience
from entrepot.upstream.transport import Hop, Transport

logger = logging.getLogger(__name__)

# For the connection, and again for the answer. An instance that takes longer for `/v2/`, which
# reads nothing from its storage, would take far too long for all else.
_TIMEOUT_S = 3.0
_PATIENCE = Patience(connect_s=_TIMEOUT_S, header_s=_TIMEOUT_S, read_s=_TIMEOUT_S)
# Several proxies before one registry do not go on in step for ever.
_JITTER = 0.1
_SERVER_ERROR = 500


class Checkup:
    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        transport: Transport,
        now: Callable[[], float],
        *,
        interval_s: float,
    ) -> None:
        self.interval_s = interval_s
        self._endpoints = endpoints
        self._transport = transport
        self._now = now
        self._flights: Flights[None, None] = Flights()

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            try:
                await self.look()
            except Exception:
                # Of ours. What was known stands; it is no reason for the whole proxy to end.
                logger.exception("looking after %s failed", self._endpoints[0].registry)
            spread = random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 - no secret
            await asyncio.sleep(self.interval_s * spread)

    async def look(self) -> None:
        """At all of them. Who comes while somebody does waits for the same."""
        await self._flights.run(None, self._look)

    async def _look(self) -> None:
        async with asyncio.TaskGroup() as group:
            for endpoint in self._endpoints:
                group.create_task(self._ask(endpoint))

    async def _ask(self, endpoint: Endpoint) -> None:
        url = URL(f"{endpoint.url}/v2/", encoded=True)
        try:
            answer = await self._transport.exchange(
                Hop(method="GET", url=url, headers={}, patience=_PATIENCE)
            )
        except NoAnswer as error:
            if error.fault is not Fault.REFUSED:  # by us: says nothing of it
                endpoint.failed(str(error), self._now())
            return
        await answer.aclose()
        if answer.status >= _SERVER_ERROR:
            endpoint.failed(f"{endpoint.origin}: it answers {answer.status}", self._now())
        else:
            endpoint.recovered()
