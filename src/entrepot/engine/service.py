"""The engine's front: from a request for a registry to the response, whatever happens.

`respond` never raises but when it is cancelled. That is where availability and safety part: an
error of ours is answered as an error, and never passed on to the upstream instead.
"""

import logging
from dataclasses import replace
from urllib.parse import unquote

from entrepot.engine.ask import Ask, TokenExpired
from entrepot.engine.blobs import Blobs
from entrepot.engine.door import Door
from entrepot.engine.forward import Forward
from entrepot.engine.gate import Gate
from entrepot.engine.identity import PROXY
from entrepot.engine.listings import Listings
from entrepot.engine.manifests import Manifests
from entrepot.engine.message import Request, Response, Trace
from entrepot.engine.problem import from_error, problem
from entrepot.engine.sites import Site
from entrepot.engine.token_service import TokenService
from entrepot.engine.uploads import Uploads
from entrepot.errors import EntrepotError, UpstreamError
from entrepot.oci.error_body import ErrorCode
from entrepot.oci.reference import Repository
from entrepot.oci.route import (
    BlobRoute,
    Legacy,
    ListRoute,
    ManifestRoute,
    Other,
    Ping,
    Route,
    UploadRoute,
    parse_route,
)

logger = logging.getLogger(__name__)

_UNAUTHORIZED = 401
_SEARCH = "/v1/search"
_GET_OR_HEAD = frozenset({"GET", "HEAD"})


class Service:
    def __init__(  # noqa: PLR0913 - collaborators, put together in one place
        self,
        tokens: TokenService,
        gate: Gate,
        *,
        uploads: Uploads,
        door: Door,
        manifests: Manifests,
        blobs: Blobs,
        listings: Listings,
        forward: Forward,
    ) -> None:
        self._tokens = tokens
        self._gate = gate
        self._uploads = uploads
        self._door = door
        self._manifests = manifests
        self._blobs = blobs
        self._listings = listings
        self._forward = forward

    async def respond(self, request: Request, site: Site) -> Response:
        trace = Trace(registry=site.name, entry=site.entry)
        route: Route | None = None
        try:
            route = parse_route(request.path)
            return await self._answer(request, site, route, trace)
        except EntrepotError as error:
            return from_error(error, route, trace)
        except Exception as error:
            logger.exception("request failed inside the proxy")
            return from_error(error, route, trace)

    async def _answer(self, request: Request, site: Site, route: Route, trace: Trace) -> Response:
        try:
            if isinstance(route, Other):
                realm_of = await self._tokens.site_of_realm(request, site)
                if realm_of is not None:
                    trace.registry, trace.entry = realm_of.name, realm_of.entry
                    return await self._tokens.token(request, realm_of, trace)
            return await self._route(request, site, route, trace)
        except UpstreamError as error:
            if error.status != _UNAUTHORIZED and not isinstance(error, TokenExpired):
                raise
            # As `_describe` and `Uploads` found it, also where the path does not say it.
            repository = Repository(trace.repository) if trace.repository else None
            return await self._tokens.challenge(request, site, repository, trace)

    async def _route(self, request: Request, site: Site, route: Route, trace: Trace) -> Response:
        _describe(trace, route)
        if isinstance(route, Ping) and request.method in _GET_OR_HEAD:
            return await self._tokens.ping(request, site, trace)
        if isinstance(route, Legacy) and request.path == _SEARCH:
            route = Other()  # of Docker Hub: what `docker search` asks
        if isinstance(route, Legacy):
            message = (
                "the v1 registry protocol is not supported by any registry; use a newer client"
            )
            return problem(404, ErrorCode.UNSUPPORTED, message, trace)
        identity = await self._tokens.identify(request, site)
        repository = _repository_of(route)
        if identity is None:
            has_token = "authorization" in request.headers
            is_api = not isinstance(route, Other)
            if is_api and (has_token or await self._tokens.must_authenticate(site)):
                return await self._tokens.challenge(request, site, repository, trace)
            identity = PROXY
        ask = Ask(_spelled(request, route), site, route, repository, identity, trace)
        ask = await self._gate.admit(self._uploads.resumed(ask))
        return await (self._dispatch(ask) if site.local is None else self._dispatch_home(ask))

    async def _dispatch_home(self, ask: Ask) -> Response:
        """Who may do what there was decided here: should it ask for credentials all the same, it
        is the proxy that it does not let in, and no login of the client's would help.
        """
        try:
            response = await self._dispatch(ask)
        except UpstreamError as error:
            if error.status != _UNAUTHORIZED:
                raise
            raise _not_let_in(ask) from error
        if response.status == _UNAUTHORIZED:
            await response.aclose()
            raise _not_let_in(ask)
        return response

    async def _dispatch(self, ask: Ask) -> Response:
        is_read = ask.request.method in _GET_OR_HEAD
        match ask.route:
            case ManifestRoute() as route if is_read:
                return await self._manifests.respond(_plain(ask), route)
            case BlobRoute() as route if is_read:
                return await self._blobs.respond(_plain(ask), route)
            case ListRoute() if is_read:
                return await self._listings.respond(ask)
            case _ if is_read:
                return await self._forward.respond(ask)
            case _:
                return await self._door.pass_on(ask, self._forward.respond)


def _repository_of(route: Route) -> Repository | None:
    return getattr(route, "repository", None)


def _spelled(request: Request, route: Route) -> Request:
    """As its route says it: an upstream that does not undo escapes takes other spellings for no
    path of the registry API, and what answers there says nothing of who may read.
    """
    if not isinstance(route, ManifestRoute | BlobRoute | ListRoute):
        return request
    path = unquote(request.path).removesuffix("/")
    return request if path == request.path else replace(request, path=path)


def _not_let_in(ask: Ask) -> UpstreamError:
    message = (
        f"the registry behind {ask.registry} does not let the proxy in: upstream_username of"
        f" local_registries.{ask.registry} is not set, or it and its password are wrong"
    )
    return UpstreamError(message, status=502)


def _plain(ask: Ask) -> Ask:
    """Content has no query: `?ns=` and the like are for proxies, and upstream keys by path."""
    return replace(ask, request=replace(ask.request, query="")) if ask.request.query else ask


def _describe(trace: Trace, route: Route) -> None:
    trace.kind = {
        Ping: "ping",
        ManifestRoute: "manifest",
        BlobRoute: "blob",
        ListRoute: "list",
        UploadRoute: "upload",
    }.get(type(route), "other")
    match route:
        case ManifestRoute(repository=repository, reference=reference):
            trace.repository, trace.reference = repository, str(reference)
        case BlobRoute(repository=repository, digest=digest):
            trace.repository, trace.reference = repository, str(digest)
        case ListRoute(repository=repository):
            trace.repository = repository or ""
        case UploadRoute(repository=repository):
            trace.repository = repository
