"""One attempt: from an endpoint, over redirects, to an answer."""

from collections.abc import Callable

from yarl import URL

from entrepot.upstream.authorization import Authorizer
from entrepot.upstream.failure import NoAnswer, before_sending
from entrepot.upstream.message import UpstreamRequest, UpstreamResponse, sendable
from entrepot.upstream.patience import Patience
from entrepot.upstream.realm import Origin
from entrepot.upstream.redirect import MAX_HOPS, redirect_target, too_many
from entrepot.upstream.transport import Hop, Transport

_UNAUTHORIZED = 401


class Courier:
    def __init__(
        self,
        transport: Transport,
        authorizer: Authorizer,
        own: frozenset[Origin],
        seen: Callable[[UpstreamResponse], None],
    ) -> None:
        self._transport = transport
        self._authorizer = authorizer
        self._own = own
        self._seen = seen  # is shown each answer of the registry itself

    async def deliver(
        self, request: UpstreamRequest, start: URL, patience: Patience
    ) -> UpstreamResponse:
        url, allows_plain = start, Origin.of(start).is_plain
        for _ in range(MAX_HOPS + 1):
            response = await self._answer(request, url, patience)
            try:
                target = redirect_target(request, response, url, allows_plain=allows_plain)
            except NoAnswer:
                await response.aclose()
                raise
            if target is None:
                return response
            await response.aclose()
            url = target
        raise too_many(start)

    async def _answer(
        self, request: UpstreamRequest, url: URL, patience: Patience
    ) -> UpstreamResponse:
        """Of one hop, asked once more with what its challenge wants."""
        origin = Origin.of(url)
        with before_sending():
            sent = await self._authorizer.prepare(origin, request)
        hop = self._hop(request, url, patience)
        response = await self._exchange(hop.with_authorization(sent))
        if response.status != _UNAUTHORIZED:
            return response
        if request.body is not None:  # is gone; but the next request shall fare better
            self._authorizer.refused(sent)
            return response
        try:
            with before_sending():  # what was refused for want of this changed nothing
                value = await self._authorizer.answer(origin, request, response.headers, sent)
        except BaseException:
            await response.aclose()
            raise
        if value is None:
            return response
        await response.aclose()
        return await self._exchange(hop.with_authorization(value))

    def _hop(self, request: UpstreamRequest, url: URL, patience: Patience) -> Hop:
        headers = sendable(request.headers)
        if Origin.of(url) not in self._own:
            headers.popall("Cookie", None)
        return Hop(
            method=request.method,
            url=url,
            headers=headers,
            patience=patience,
            body=request.body,
            content_length=request.content_length,
        )

    async def _exchange(self, hop: Hop) -> UpstreamResponse:
        response = await self._transport.exchange(hop)
        if response.origin in self._own:
            self._seen(response)
        return response
