"""Tag lists, referrers and the catalog: kept for a moment, and for when the upstream is down."""

import json
from dataclasses import asdict, dataclass, replace
from urllib.parse import parse_qs

from entrepot.cache.decide import is_trouble
from entrepot.cache.entitlement import Standing
from entrepot.cache.record import Listing, listing_key
from entrepot.clock import Clock
from entrepot.config.kinds import DAY
from entrepot.config.model import Tags
from entrepot.engine.access import Access
from entrepot.engine.ask import Ask, Origin
from entrepot.engine.body import PassedBody
from entrepot.engine.catalog import Page, visible_catalog
from entrepot.engine.message import Response
from entrepot.engine.reply import API_VERSION, CacheStatus, length_of, mark
from entrepot.errors import StorageError, UpstreamError
from entrepot.storage.base import Ledger

# What is kept is kept for each who asks, and what is asked for is the clients' choice. Longer
# lists, and those by queries of no client's, are passed on.
_LIMIT = 64 << 10
# A catalog that is filtered is in memory as a whole: a thousand names at their longest are 256 KiB.
_CATALOG_LIMIT = 1 << 20
_QUERIES = frozenset({"n", "last", "artifactType"})
# Older lists are of little use, and `max_stale` is for ever.
_STALE_MOST_S = DAY
_KEPT_HEADERS = ("Content-Type", "Link", "OCI-Filters-Applied")


@dataclass(frozen=True, slots=True)
class _Found:
    listing: Listing
    body: bytes
    status: CacheStatus


class Listings:
    def __init__(
        self, ledger: Ledger, origin: Origin, access: Access, *, settings: Tags, clock: Clock
    ) -> None:
        self._ledger = ledger
        self._origin = origin
        self._access = access
        self._settings = settings
        self._keep_s = settings.list_ttl + min(settings.max_stale, _STALE_MOST_S)
        self._clock = clock

    async def respond(self, ask: Ask) -> Response:
        if ask.repository is None and ask.grant.is_limited:
            return await self._visible(ask)
        found = await self._found(ask, _LIMIT)
        return found if isinstance(found, Response) else self._reply(ask, found)

    async def _visible(self, ask: Ask) -> Response:
        """What is kept is the registry's; who may see what of it is said anew each time."""
        pages: list[_Found] = []

        async def page_of(part: Ask) -> Page:
            found = await self._found(part, _CATALOG_LIMIT)
            if isinstance(found, Response):
                await found.aclose()
                raise UpstreamError(f"{ask.registry}: a page of its catalog is too long to be read")
            pages.append(found)
            return Page(found.body, found.listing.headers.get("Link", ""))

        shown = await visible_catalog(ask, page_of)
        oldest = min(pages, key=lambda found: found.listing.checked_at)
        headers = {"Content-Type": "application/json"}
        if shown.link:
            headers["Link"] = shown.link
        listing = replace(oldest.listing, headers=headers)
        return self._reply(ask, _Found(listing, shown.body, oldest.status))

    async def _found(self, ask: Ask, limit: int) -> _Found | Response:
        # The lists an operator's credentials open are the operator's to see; a catalog is asked
        # for with the client's own or none.
        key = f"{listing_key(ask.registry, ask.request.target, ask.accept)}#{ask.identity.key}"
        kept = await self._kept(key) if _is_usual(ask) else None
        known = await self._access.standing(ask)
        if kept is not None and known is Standing.FRESH and self._is_fresh(kept[0]):
            return _Found(*kept, CacheStatus.HIT)
        stale = None
        if kept is not None and known is not Standing.UNKNOWN and self._may_be_stale(kept[0]):
            stale = kept
        if stale is not None and ask.site.upstream.is_resting():
            return _Found(*stale, CacheStatus.STALE_UNASKED)
        try:
            return await self._fetch(ask, key, limit, is_patient=stale is None)
        except UpstreamError as error:
            if stale is None or not is_trouble(error.status):
                raise
            ask.trace.error = str(error)
            return _Found(*stale, CacheStatus.STALE)

    def _is_fresh(self, listing: Listing) -> bool:
        return 0 <= self._clock.now() - listing.checked_at < self._settings.list_ttl

    def _may_be_stale(self, listing: Listing) -> bool:
        age_s = self._clock.now() - listing.checked_at
        return age_s < self._keep_s

    async def _fetch(
        self, ask: Ask, key: str, limit: int, *, is_patient: bool
    ) -> _Found | Response:
        headers = {"Accept": ask.accept} if ask.accept else {}
        response = await self._origin.open(ask, ask.request.method, headers, is_patient=is_patient)
        kept_headers = {
            name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers
        }
        body = PassedBody(response, _ignore)
        try:
            is_passed = ask.is_head or not _is_usual(ask)
            content = None if is_passed else await body.whole(limit)
        except BaseException:
            await body.aclose()
            raise
        if content is None:
            out = {**kept_headers, **API_VERSION, **mark(ask.trace, CacheStatus.PASS)}
            return Response(response.status, out, body, length_of(response.headers), ask.trace)
        listing = Listing(self._clock.now(), kept_headers)
        if len(content) <= _LIMIT:
            await self._keep(key, listing, content)
        return _Found(listing, content, CacheStatus.MISS)

    async def _kept(self, key: str) -> tuple[Listing, bytes] | None:
        try:
            data = await self._ledger.get(key)
        except StorageError:
            return None
        head, separator, body = (data or b"").partition(b"\n")
        try:
            return (Listing(**json.loads(head)), body) if separator else None
        except (ValueError, TypeError):
            return None

    async def _keep(self, key: str, listing: Listing, body: bytes) -> None:
        try:
            data = json.dumps(asdict(listing)).encode() + b"\n" + body
            await self._ledger.put(key, data, self._keep_s)
        except StorageError:
            return

    def _reply(self, ask: Ask, found: _Found) -> Response:
        listing, body = found.listing, found.body
        age_s = self._clock.now() - listing.checked_at
        headers = {**listing.headers, **API_VERSION, **mark(ask.trace, found.status, age_s)}
        return Response(200, headers, b"" if ask.is_head else body, len(body), ask.trace)


def _is_usual(ask: Ask) -> bool:
    return parse_qs(ask.request.query, keep_blank_values=True).keys() <= _QUERIES


def _ignore(_size: int) -> None:
    """What is passed on is counted where it is sent."""
