"""One registry, as the rest of the program sees it."""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack, nullcontext
from dataclasses import dataclass, field, replace

from yarl import URL

from entrepot.clock import Clock
from entrepot.config.model import Upstream as Settings
from entrepot.errors import UpstreamError
from entrepot.oci.challenge import Challenge
from entrepot.upstream.authorization import Authorizer, Ownership, choose_challenge, parse_realm
from entrepot.upstream.checkup import Checkup
from entrepot.upstream.courier import Courier
from entrepot.upstream.endpoint import Endpoint
from entrepot.upstream.failure import Fault, NoAnswer, before_sending
from entrepot.upstream.flight import Flights
from entrepot.upstream.message import RealmAnswer, UpstreamRequest, UpstreamResponse
from entrepot.upstream.patience import Patience
from entrepot.upstream.realm import Origin
from entrepot.upstream.refusals import Refusals
from entrepot.upstream.standing import RateLimit, Rest, parse_rate_limit, parse_retry_after
from entrepot.upstream.statistics import Counters, EndpointStatistics, UpstreamStatistics
from entrepot.upstream.token import Tokens
from entrepot.upstream.token_service import UNWELL, TokenService
from entrepot.upstream.transport import Transport

_CHALLENGE_KEPT_S = 3600.0
_UNAUTHORIZED, _TOO_MANY, _SERVER_ERROR, _UNAVAILABLE = 401, 429, 500, 503
_SUCCESS = range(200, 300)
# After a 429: as long as it says, within reason; Docker Hub's own says nothing.
_QUOTA_PAUSE_S, _QUOTA_PAUSE_MAX_S = 10.0, 60.0
# Of the connections, what long bodies leave free: while layers come in for minutes, manifests and
# tokens pass in moments and need but few.
_SMALL_SHARE = 4
# What a registry does with an upload that has come whole, before it answers: on object storage it
# is copied and hashed once more, which takes minutes for large layers.
_FILING_S = 900.0
# Between attempts at something that usually passes: a restart, an overloaded node. Podman, skopeo
# and ctr give up at one 503 or reset, and their users would not wait much longer than this.
PAUSES_S = (0.2, 0.8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What an Upstream is made of, see `fleet`."""

    name: str
    endpoints: tuple[URL, ...]  # in order of preference, without trailing slash
    ownership: Ownership
    transport: Transport
    settings: Settings
    connections: int
    clock: Clock
    counters: Counters = field(default_factory=Counters)  # shared by the hosts of a pattern
    borrows_credentials: bool = False
    pauses_s: tuple[float, ...] = PAUSES_S
    checkup_interval_s: float | None = None  # None: requests find out what is well


class Upstream:
    """Fails open for availability (endpoints, retries, old challenges) and closed for identity:
    what cannot be asked with the right credentials is not asked with others.
    """

    def __init__(self, parts: Parts) -> None:
        self.name = parts.name
        self._parts = parts
        self._settings = parts.settings
        self._clock = parts.clock
        pause = parts.settings.retry_pause
        is_watched = parts.checkup_interval_s is not None
        self._endpoints = tuple(
            Endpoint(parts.name, str(url), Origin.of(url), Rest(pause), is_watched)
            for url in parts.endpoints
        )
        self.checkup: Checkup | None = None
        if parts.checkup_interval_s is not None:
            self.checkup = Checkup(
                self._endpoints,
                parts.transport,
                parts.clock.now,
                interval_s=parts.checkup_interval_s,
            )
        self._rest = Rest(pause)  # what is no endpoint's fault: token service, quota of time
        self._quota_until = 0.0
        self._rate_limit: RateLimit | None = None
        self._counters = parts.counters
        self._slots = asyncio.Semaphore(parts.connections)
        reserved = max(1, parts.connections // _SMALL_SHARE)
        self._bulk_slots = asyncio.Semaphore(max(1, parts.connections - reserved))
        self._challenge: tuple[Challenge | None, float] | None = None
        self._challenge_flights: Flights[None, Challenge | None] = Flights()
        self._token_service = TokenService(
            transport=parts.transport,
            patience=self._patience(),
            pauses=parts.pauses_s,
            asked=self._count_token_request,
            silent=lambda: self._rest.failed(self._clock.now()),
        )
        refusals = Refusals(parts.name, parts.clock)
        tokens = Tokens(self._token_service, parts.clock, refusals)
        self._authorizer = Authorizer(parts.ownership, tokens, refusals)
        self._courier = Courier(
            parts.transport, self._authorizer, parts.ownership.origins, self._seen
        )

    # What is asked.

    async def send(self, request: UpstreamRequest) -> UpstreamResponse:
        """Any HTTP answer, also an error's; UpstreamError where there is none."""
        loop = asyncio.get_running_loop()
        start, budget = loop.time(), request.header_timeout_s
        patience = self._patience()
        if _is_filed(request):
            patience = replace(patience, header_s=max(patience.header_s, _FILING_S))
        limit: asyncio.Timeout | nullcontext[None] = nullcontext()
        if budget is not None:
            patience = self._patience(budget, until=start + budget)
            # A little more, so that the hop that is to blame is found first.
            limit = asyncio.timeout(budget * 1.1 + 0.1)
        try:
            async with limit:
                response = await self._send(request, patience)
        except TimeoutError:
            if budget is None:
                raise  # the client's, out of its body
            self._rest.failed(self._clock.now())
            self._counters.failed()
            raise UpstreamError(
                f"{self.name}: no answer within {budget:g} s", is_late=True
            ) from None
        except UpstreamError:
            self._counters.failed()
            raise
        self._rest.answered()
        self._counters.answered(response.status, loop.time() - start)
        response.count_with(self._counters.received, self._counters.failed)
        return response

    async def challenge(self) -> Challenge | None:
        """What `/v2/` asks for; None: nothing. What it once asked for stands while it is away."""
        known = self._challenge
        if known is not None and self._clock.now() < known[1]:
            return known[0]
        try:
            return await self._challenge_flights.run(None, self._ask_challenge)
        except UpstreamError:
            if known is None:
                raise
            return known[0]

    async def ask_realm(
        self, url: str, method: str, headers: Mapping[str, str], form: bytes
    ) -> RealmAnswer:
        """The token service's word on credentials that a client sent; only where it is one that
        this registry's credentials may go to.
        """
        realm = parse_realm(url)
        if not self._parts.ownership.trusts(Origin.of(realm)):
            raise UpstreamError(
                f"{self.name} names {Origin.of(realm)} as its token service, which is not known to "
                f"belong to it; if it does, list it under registries.{self.name}.realms"
            )
        return await self._token_service(realm, method, headers, form)

    # How it stands.

    @property
    def has_credentials(self) -> bool:
        return self._parts.ownership.credentials is not None or self._parts.borrows_credentials

    def rate_limit(self) -> RateLimit | None:
        return self._rate_limit

    def is_resting(self) -> bool:
        """Whether who has something stale in hand should not ask."""
        return self._clock.now() < self._quota_until or self.is_unreachable()

    def is_unreachable(self) -> bool:
        """Whether nobody answered a moment ago: a quota that is used up is an answer."""
        now = self._clock.now()
        if self._rest.is_resting(now):
            return True
        return all(endpoint.is_resting(now) for endpoint in self._endpoints)

    def owns(self, origin: Origin) -> bool:
        """Whether this is the registry itself, and not where it redirects to."""
        return origin in self._parts.ownership.origins

    def ailments(self) -> tuple[str, ...]:
        """Of endpoints that are looked after: what is wrong with those that are not well."""
        unwell = [each for each in self._endpoints if each.is_watched and each.problem]
        return tuple(f"{self.name}: {endpoint.problem}" for endpoint in unwell)

    def statistics(self) -> UpstreamStatistics:
        return self._counters.snapshot(
            self.name,
            is_resting=self.is_resting(),
            rate_limit=self._rate_limit,
            endpoints=tuple(
                EndpointStatistics(endpoint.url, is_up=not endpoint.rest.has_failed)
                for endpoint in self._endpoints
            ),
        )

    async def aclose(self) -> None:
        await self._parts.transport.aclose()

    # Attempts.

    async def _send(self, request: UpstreamRequest, patience: Patience) -> UpstreamResponse:
        with before_sending():
            if not request.is_read:
                await self._find_well()
            if request.body is not None and self._must_ask_first(request):
                await self._ask_first()  # a body can be sent but once
        self._rest.begin(self._clock.now(), patience.connect_s + patience.header_s)
        with before_sending():
            slots = await self._take_slots(request, patience)
        async with slots as taken:
            response = await self._persist(request, patience)
            response.when_closed(taken.pop_all().aclose)
        return response

    async def _find_well(self) -> None:
        """For a write where endpoints are looked after: none is spent on one that is not well."""
        if self.checkup is None or not self._are_all_unwell():
            return
        await self.checkup.look()  # maybe one is back
        if self._are_all_unwell():
            reasons = "; ".join(endpoint.problem for endpoint in self._endpoints)
            raise UpstreamError(
                f"{self.name} takes no writes: nothing behind it is well ({reasons})",
                status=_UNAVAILABLE,
                retry_after_s=self.checkup.interval_s,
            )

    def _are_all_unwell(self) -> bool:
        return all(endpoint.rest.has_failed for endpoint in self._endpoints)

    async def _ask_first(self) -> None:
        try:
            await self.challenge()
        except UpstreamError as error:
            if error.status is None or error.status >= _SERVER_ERROR:
                raise  # else it is there, and will judge the request itself

    def _must_ask_first(self, request: UpstreamRequest) -> bool:
        if request.authorization is not None or request.is_anonymous:
            return False
        return not any(self._authorizer.knows(endpoint.origin) for endpoint in self._endpoints)

    async def _persist(self, request: UpstreamRequest, patience: Patience) -> UpstreamResponse:
        outcome: UpstreamResponse | UpstreamError | None = None
        given_up: set[Endpoint] = set()
        for endpoint, pause in self._plan(request):
            if endpoint in given_up:
                continue
            if isinstance(outcome, UpstreamResponse):
                await outcome.aclose()
            await asyncio.sleep(pause)
            outcome = await self._attempt(endpoint, request, patience)
            if not _may_go_on(request, outcome):
                break
            if not _may_pass(outcome):
                given_up.add(endpoint)
        assert outcome is not None
        if isinstance(outcome, UpstreamError):
            raise outcome
        return outcome

    def _plan(self, request: UpstreamRequest) -> list[tuple[Endpoint, float]]:
        """Endpoints to try, and the pause before each: all in turn, those that rest last; then
        again, unless nothing is to be repeated, something stale is at hand, or all are resting.
        """
        now = self._clock.now()
        ordered = sorted(self._endpoints, key=lambda endpoint: endpoint.is_resting(now))
        if not request.is_read and self.checkup is not None:
            well = [endpoint for endpoint in ordered if not endpoint.is_resting(now)]
            ordered = well or ordered  # none, if the last has failed since it was looked at
        plan = [(endpoint, 0.0) for endpoint in ordered]
        if not request.is_read or request.header_timeout_s is not None or self.is_resting():
            return plan
        for pause in self._parts.pauses_s:
            plan += [(ordered[0], pause), *((endpoint, 0.0) for endpoint in ordered[1:])]
        return plan

    async def _attempt(
        self, endpoint: Endpoint, request: UpstreamRequest, patience: Patience
    ) -> UpstreamResponse | UpstreamError:
        now = self._clock.now()
        if endpoint.is_resting(now):
            patience = patience.at_most(self._settings.connect_timeout)
        endpoint.rest.begin(now, patience.connect_s + patience.header_s)
        start = URL(endpoint.url + request.path, encoded=True)
        try:
            response = await self._courier.deliver(request, start, patience)
        except NoAnswer as error:
            if error.origin == endpoint.origin and error.fault is not Fault.REFUSED:
                endpoint.failed(str(error), self._clock.now())
            return error
        except UpstreamError as error:
            return error
        endpoint.answered()
        return response

    async def _take_slots(self, request: UpstreamRequest, patience: Patience) -> AsyncExitStack:
        needed = (self._bulk_slots, self._slots) if request.is_bulk else (self._slots,)
        async with AsyncExitStack() as taken:
            try:
                async with asyncio.timeout(patience.header_s):
                    for slots in needed:
                        await taken.enter_async_context(slots)
            except TimeoutError:
                limit = f"{self._parts.connections} connections"
                if request.is_bulk:
                    limit += " but those kept for short transfers"
                raise UpstreamError(f"{self.name}: all {limit} are in use", is_late=True) from None
            return taken.pop_all()

    # What is learned on the way.

    async def _ask_challenge(self) -> Challenge | None:
        request = UpstreamRequest(method="GET", path="/v2/", headers={}, is_anonymous=True)
        async with await self.send(request) as response:
            challenge = None
            if response.status == _UNAUTHORIZED:
                challenge = choose_challenge(response.headers)
            if challenge is None and response.status not in _SUCCESS:
                # A quota or a firewall says so of any registry: no word on what it asks for.
                raise UpstreamError(
                    f"{self.name} answers {response.status}", status=response.status
                )
        if challenge is not None:
            self._authorizer.learn(response.origin, challenge)
        self._challenge = challenge, self._clock.now() + _CHALLENGE_KEPT_S
        return challenge

    def _seen(self, response: UpstreamResponse) -> None:
        now = self._clock.now()
        self._rate_limit = parse_rate_limit(response.headers, now) or self._rate_limit
        if response.status == _TOO_MANY:
            said = parse_retry_after(response.headers.get("Retry-After"), now)
            pause = _QUOTA_PAUSE_S if said is None else min(said, _QUOTA_PAUSE_MAX_S)
            self._quota_until = now + pause

    def _count_token_request(self) -> None:
        self._counters.token_requests += 1

    def _patience(self, most_s: float | None = None, until: float | None = None) -> Patience:
        longest = float("inf") if most_s is None else most_s
        return Patience(
            connect_s=min(self._settings.connect_timeout, longest),
            header_s=min(self._settings.header_timeout, longest),
            read_s=self._settings.read_timeout,
            until=until,
        )


def _is_filed(request: UpstreamRequest) -> bool:
    """Whether there may be much to do before it is answered. An upload that only begins is none."""
    brings_something = request.body is not None or request.method == "PUT"
    return request.is_bulk and not request.is_read and brings_something


def _may_go_on(request: UpstreamRequest, outcome: UpstreamResponse | UpstreamError) -> bool:
    """Whether another attempt is safe, and may end better."""
    if isinstance(outcome, UpstreamResponse):
        return request.is_read and outcome.status in UNWELL
    if isinstance(outcome, NoAnswer):
        return outcome.fault is not Fault.REFUSED and (request.is_read or not outcome.was_sent)
    return True  # nothing was sent for want of a token: another endpoint may want none


def _may_pass(outcome: UpstreamResponse | UpstreamError) -> bool:
    """Whether the same endpoint may do better in a moment. One that kept silent would cost the
    whole wait again, and for tokens several attempts were made already.
    """
    if isinstance(outcome, NoAnswer):
        return outcome.fault is not Fault.SILENT
    return isinstance(outcome, UpstreamResponse)
