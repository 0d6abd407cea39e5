"""The token service of every registry that is intercepted.

Clients are always challenged for a Bearer token: they send credentials only when they are. Who
brings none gets a token that says so, also while the upstream is down. Credentials are for the
upstream to judge: its own token is handed on where it gives tokens, and a sealed one that
carries the credentials where it asks for Basic. While it is down, who was let in before is given
a sealed token in either case. At registries of our own `LocalLogins` judges.
"""

from collections.abc import Iterable
from contextlib import suppress
from itertools import chain
from urllib.parse import SplitResult, parse_qs, urlsplit

from entrepot.engine.identity import PROXY, Identity
from entrepot.engine.local_logins import LocalLogins
from entrepot.engine.logins import Login, Logins, is_outage
from entrepot.engine.message import Request, Response, Trace
from entrepot.engine.plain_question import plain_question
from entrepot.engine.problem import problem
from entrepot.engine.realms import Realm, Realms
from entrepot.engine.reply import API_VERSION
from entrepot.engine.sealing import Passport, Sealer
from entrepot.engine.sites import Site, Sites
from entrepot.engine.token_reply import Issuer, read_form, too_large, wrong_credentials
from entrepot.errors import InvalidReference, UpstreamError
from entrepot.oci.challenge import Challenge
from entrepot.oci.error_body import ErrorCode
from entrepot.oci.reference import Repository, parse_repository
from entrepot.oci.route import UploadRoute, parse_route
from entrepot.passwords.basic import basic_credentials
from entrepot.upstream.message import UpstreamRequest

_CATALOG = "/v2/_catalog"
TOKEN_PATH = "/entrepot/token"  # noqa: S105 - a path
_UNAUTHORIZED = 401
_REFUSALS = frozenset({401, 403})
_METHODS = frozenset({"GET", "HEAD", "POST"})
# Of who goes on in an outage. Never sent, and if it were it would open nothing; but without any
# Authorization an identity has the proxy's own rights.
_EXPIRED = "Bearer expired"


class TokenService:
    def __init__(  # noqa: PLR0913 - collaborators, put together in one place
        self,
        sites: Sites,
        realms: Realms,
        sealer: Sealer,
        issuer: Issuer,
        *,
        logins: Logins,
        local: LocalLogins,
    ) -> None:
        self._sites = sites
        self._realms = realms
        self._sealer = sealer
        self._issuer = issuer
        self._logins = logins
        self._local = local

    # Who asks.

    async def identify(self, request: Request, site: Site) -> Identity | None:
        """None where a token must be asked for (again)."""
        if site.local is not None:
            return await self._local.identify(request, site)
        authorization = request.headers.get("authorization", "").strip()
        if not authorization:
            return None
        scheme, _, value = authorization.partition(" ")
        if scheme.lower() != "bearer" or not self._sealer.is_ours(value.strip()):
            return self._logins.identity(site.name, authorization)
        passport = self._sealer.open(value.strip(), site.name)
        if passport is not None and passport.is_anonymous:
            return PROXY
        if passport is None or passport.authorization is None:
            return None
        if passport.keys:
            key, *former = passport.keys
            return Identity(key, passport.authorization, is_expired=True, former_keys=tuple(former))
        return self._logins.identity(site.name, passport.authorization)

    async def must_authenticate(self, site: Site) -> bool:
        """Registries that ask nobody need not be made to: plain requests work there as before."""
        if site.local is not None:
            return self._local.has_users(site)
        realm = await self._realms.of(site)
        return realm is None or realm.scheme != "none"

    # `/v2/` and 401.

    async def ping(self, request: Request, site: Site, trace: Trace) -> Response:
        identity = await self.identify(request, site)
        if identity is None:
            return await self.challenge(request, site, None, trace)
        if identity.is_own and not identity.is_expired:
            return await self._ping_upstream(request, site, identity, trace)
        return _pong(trace)

    async def _ping_upstream(
        self, request: Request, site: Site, identity: Identity, trace: Trace
    ) -> Response:
        try:
            answer = await site.upstream.send(
                UpstreamRequest(
                    method="GET", path="/v2/", headers={}, authorization=identity.authorization
                )
            )
        except UpstreamError:
            return _pong(trace)  # opens nothing: what is asked for next is judged by itself
        await answer.aclose()
        if answer.status == _UNAUTHORIZED:
            return await self.challenge(request, site, None, trace)
        return _pong(trace)

    async def challenge(
        self, request: Request, site: Site, repository: Repository | None, trace: Trace
    ) -> Response:
        known = None if site.local is not None else await self._realms.of(site)
        realm = self._shown(request, known, site)
        parameters = {"realm": realm.url, "service": realm.service}
        if scope := _scope(request, repository):
            parameters["scope"] = scope
        trace.cache = "challenge"
        # Docker repeats a push for 50 s that is refused with the code's usual message and no more.
        message = f"authentication required: log in to {site.name}"
        response = problem(_UNAUTHORIZED, ErrorCode.UNAUTHORIZED, message, trace)
        response.headers["WWW-Authenticate"] = str(Challenge("bearer", parameters))
        response.headers |= API_VERSION
        trace.error = ""  # how every pull begins
        return response

    def _shown(self, request: Request, realm: Realm | None, site: Site) -> Realm:
        """The upstream's own realm where requests to it come past us, else one of ours."""
        if realm is not None and realm.scheme == "bearer":
            parts = urlsplit(realm.url)
            there = self._sites.by_authority(parts.netloc, parts.scheme)
            if there is not None and there.local is None:
                return realm
        service = realm.service if realm else ""
        url = f"{request.scheme}://{request.host}{TOKEN_PATH}"
        return Realm("bearer", url, service or site.name)

    # Tokens.

    async def site_of_realm(self, request: Request, site: Site) -> Site | None:
        """The registry whose token service this request is for; None: it is for something else."""
        if request.path == TOKEN_PATH:
            return site
        if site.local is not None:
            return None
        for candidate in chain((site,), self._sites):
            if candidate.local is not None:  # whatever was known of its name when it was another's
                continue
            realm = await self._realms.known(candidate)
            if realm is None or realm.scheme != "bearer":
                continue
            if self._is_for(request, site, urlsplit(realm.url)):
                return candidate
        return None

    def _is_for(self, request: Request, site: Site, realm: SplitResult) -> bool:
        hosts = {realm.netloc, *_without_default_port(realm.netloc)}
        if realm.path != request.path or request.host not in hosts:
            return False
        return self._sites.by_authority(realm.netloc, realm.scheme) is site

    async def token(self, request: Request, site: Site, trace: Trace) -> Response:
        trace.kind = "token"
        if request.method not in _METHODS:
            response = problem(405, ErrorCode.UNSUPPORTED, "ask with GET or POST", trace)
            response.headers["Allow"] = ", ".join(sorted(_METHODS))
            return response
        if site.local is not None:
            return await self._local.token(request, site, trace)
        if request.method == "POST":
            return await self._exchange(request, site, trace)
        authorization = request.headers.get("authorization", "").strip()
        if not authorization:
            return self._issuer.issue(Passport(), site.name, trace)
        realm = await self._realms.of(site)
        if realm is not None and realm.scheme == "bearer":
            return await self._hand_on(request, site, realm, trace)
        if basic_credentials(authorization) is None:
            return problem(400, ErrorCode.UNSUPPORTED, "Basic credentials are expected", trace)
        return await self._carry(authorization, site, trace)

    async def _carry(self, authorization: str, site: Site, trace: Trace) -> Response:
        """In a token, where the upstream takes them and gives none itself."""
        login = self._logins.of(site.name, authorization)
        try:
            is_right = await self._try(site, authorization)
        except UpstreamError as error:
            if not await self._logins.may_go_on(login, error.status):
                raise
            trace.error = str(error)
            return self._issuer.issue(Passport(authorization), site.name, trace)
        if not is_right:
            await self._logins.refused(login)
            return wrong_credentials(site.name, trace)
        await self._logins.let_in(login)
        return self._issuer.issue(Passport(authorization), site.name, trace)

    async def _try(self, site: Site, authorization: str) -> bool:
        """Whether the upstream takes these credentials."""
        answer = await site.upstream.send(
            UpstreamRequest(method="GET", path="/v2/", headers={}, authorization=authorization)
        )
        await answer.aclose()
        if answer.status >= 400 and answer.status != _UNAUTHORIZED:  # noqa: PLR2004
            raise UpstreamError(f"{site.name} answers {answer.status}", status=answer.status)
        return answer.status != _UNAUTHORIZED

    async def _exchange(self, request: Request, site: Site, trace: Trace) -> Response:
        """OAuth2 is the upstream's where it has a token service; 405 makes clients use GET."""
        realm = await self._realms.of(site)
        if realm is None or realm.scheme != "bearer":
            return problem(405, ErrorCode.UNSUPPORTED, "ask with GET and Basic", trace)
        return await self._hand_on(request, site, realm, trace)

    async def _hand_on(self, request: Request, site: Site, realm: Realm, trace: Trace) -> Response:
        form = await read_form(request)
        if form is None:
            return too_large(trace)
        headers = {
            name: request.headers[name]
            for name in ("authorization", "content-type")
            if name in request.headers
        }
        parts = urlsplit(realm.url)
        url = realm.url if not request.query else parts._replace(query=request.query).geturl()
        authorization = headers.get("authorization", "")
        login = self._logins.of_request(site.name, authorization, request.query, form)
        try:
            answer = await site.upstream.ask_realm(url, request.method, headers, form)
        except UpstreamError as error:
            if not await self._logins.may_go_on(login, error.status):
                raise
            trace.error = str(error)
            return self._issuer.issue(Passport(_EXPIRED, login.keys), site.name, trace)
        if await self._logins.may_go_on(login, answer.status) and await self._is_outage(
            request, site, realm, login, form
        ):
            trace.error = f"the token service answers {answer.status}"
            return self._issuer.issue(Passport(_EXPIRED, login.keys), site.name, trace)
        await self._logins.heard(login, answer)
        trace.cache = "pass"
        media_type = answer.headers.get("Content-Type", "application/json")
        return Response(
            answer.status,
            {"Content-Type": media_type, "Cache-Control": "no-store"},
            answer.body,
            trace=trace,
        )

    async def _is_outage(
        self, request: Request, site: Site, realm: Realm, login: Login, form: bytes
    ) -> bool:
        """Whether its trouble is more than with what this client made of its request."""
        method, url, fields = plain_question(realm, request.method, request.query, form)
        headers = {"Content-Type": "application/x-www-form-urlencoded"} if fields else {}
        if "authorization" in request.headers:
            headers["Authorization"] = request.headers["authorization"]
        try:
            answer = await site.upstream.ask_realm(url, method, headers, fields)
        except UpstreamError as error:
            return is_outage(error.status)
        if answer.status in _REFUSALS:
            await self._logins.refused(login)
        return is_outage(answer.status)


def _pong(trace: Trace) -> Response:
    trace.cache = "hit"
    return Response(200, {"Content-Type": "application/json", **API_VERSION}, b"{}", trace=trace)


def _without_default_port(netloc: str) -> Iterable[str]:
    host, _, port = netloc.rpartition(":")
    return [host] if port in {"443", "80"} else []


def _scope(request: Request, repository: Repository | None) -> str:
    """What a token must allow for this, in distribution's words."""
    if repository is None:
        return "registry:catalog:*" if request.path == _CATALOG else ""
    is_upload = isinstance(parse_route(request.path), UploadRoute)
    actions = "pull,push" if request.is_write or is_upload else "pull"
    if request.method == "DELETE":
        actions = "delete"
    scopes = [f"repository:{repository}:{actions}"]
    if is_upload and request.method == "POST":  # a layer may be mounted from another repository
        scopes += [f"repository:{source}:pull" for source in _sources(request.query)]
    return " ".join(scopes)


def _sources(query: str) -> Iterable[Repository]:
    for name in parse_qs(query).get("from", [])[:1]:
        with suppress(InvalidReference):
            yield parse_repository(name)
