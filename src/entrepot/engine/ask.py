"""One request on its way through the engine, and the questions it puts to the upstream."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from entrepot.cache.entitlement import Standing, standing
from entrepot.cache.permission import UNLIMITED, Grant
from entrepot.clock import Clock
from entrepot.config.model import Auth
from entrepot.engine.facts import Facts
from entrepot.engine.held import HeldManifests
from entrepot.engine.identity import PROXY, Identity
from entrepot.engine.message import Request, Trace
from entrepot.engine.sites import Site
from entrepot.errors import UpstreamError
from entrepot.oci.digest import Digest
from entrepot.oci.media_type import accepts, essence
from entrepot.oci.reference import Repository
from entrepot.oci.route import BlobRoute, ManifestRoute, Route, parse_route
from entrepot.upstream.message import UpstreamRequest, UpstreamResponse

_SUCCESS = range(200, 300)
_REFUSALS = frozenset({401, 403})
_WEB_PAGES = frozenset({"text/html", "application/xhtml+xml"})
_ABSENCES = frozenset({401, 403, 404})
_UNAUTHORIZED, _NOT_FOUND = 401, 404


@dataclass(frozen=True, slots=True)
class Ask:
    request: Request
    site: Site
    route: Route
    repository: Repository | None
    identity: Identity
    trace: Trace
    grant: Grant = UNLIMITED  # by the operator's rules
    nobody: Identity = PROXY  # who this client would be without credentials

    @property
    def registry(self) -> str:
        return self.site.name

    @property
    def path(self) -> str:
        return self.request.path

    @property
    def accept(self) -> str:
        return self.request.headers.get("accept", "")

    @property
    def is_head(self) -> bool:
        return self.request.method == "HEAD"

    @property
    def is_writable(self) -> bool:
        """Whether its repository may be pushed to: then what is there is the upstream's to say."""
        return self.repository is not None and self.grant.may("push", self.repository)

    def about(self, path: str) -> "Ask":
        """The same client asking for something else of the same repository."""
        request = replace(self.request, path=path, query="")
        return replace(self, request=request, route=parse_route(path))


class TokenExpired(UpstreamError):  # noqa: N818 - reads as what it says
    """What is known may bridge it; for all else the client needs another token."""


class Origin:
    """Asks the upstream with the rights of the one who asks, and learns from its answers."""

    def __init__(
        self,
        facts: Facts,
        held: HeldManifests,
        settings: Auth,
        *,
        clock: Clock,
        revalidate_timeout_s: float,
    ) -> None:
        self._facts = facts
        self._held = held
        self._settings = settings
        self._clock = clock
        self._revalidate_timeout_s = revalidate_timeout_s

    async def head(
        self, ask: Ask, headers: Mapping[str, str] | None = None, *, is_patient: bool = True
    ) -> UpstreamResponse:
        response = await self.open(ask, "HEAD", headers or {}, is_patient=is_patient)
        await response.aclose()
        return response

    async def open(
        self,
        ask: Ask,
        method: str,
        headers: Mapping[str, str],
        *,
        is_patient: bool = True,
        is_bulk: bool = False,
    ) -> UpstreamResponse:
        """A successful answer, or UpstreamError with its status."""
        if ask.identity.is_expired:
            raise TokenExpired(f"{ask.registry}: a token is needed, and there was none to be had")
        is_local = ask.site.local is not None  # who may see what there was decided at the gate
        request = UpstreamRequest(
            method=method,
            path=ask.request.target,
            headers=headers,
            repository=ask.repository,
            authorization=ask.identity.authorization,
            # A catalog shows all that the operator may see, asked for by anybody.
            is_anonymous=ask.repository is None and not ask.identity.is_own and not is_local,
            is_stranger=ask.identity.is_stranger,
            header_timeout_s=None if is_patient else self._revalidate_timeout_s,
            is_bulk=is_bulk,
        )
        began = time.monotonic()
        try:
            response = await ask.site.upstream.send(request)
        finally:
            ask.trace.upstream_s += time.monotonic() - began
        try:
            await self._learn(ask, response)
        except BaseException:  # also when the client is gone: an open answer holds a connection
            await response.aclose()
            raise
        return response

    async def is_absence_for_all(self, ask: Ask) -> bool:
        """Whether a 404 to this identity is a word on what is there. Strangers hear 404 of what is
        there, too, and so does who was a reader once.
        """
        verdict = await self._facts.verdict(ask.registry, ask.repository, ask.identity)
        if ask.identity.is_proxys:
            return verdict is not None
        return standing(verdict, self._settings, self._clock.now()) is Standing.FRESH

    async def _learn(self, ask: Ask, response: UpstreamResponse) -> None:
        """What the answer says of who may read; raise if it is no success."""
        if response.status in _SUCCESS:
            if essence(response.headers.get("Content-Type", "")) in _WEB_PAGES:
                raise UpstreamError(f"{ask.registry} answers with a web page, as a portal does")
            await self._facts.allow(ask.registry, ask.repository, ask.identity)
            return
        is_own = ask.site.upstream.owns(response.origin)
        if isinstance(ask.route, BlobRoute) and not is_own and response.status in _ABSENCES:
            # Of a storage behind the registry: a signed URL that ran out, not a word on rights.
            raise UpstreamError(f"{response.final_host} answers {response.status}", status=502)
        await self._learn_refusal(ask, response.status)
        raise UpstreamError(
            _no(ask, response.status),
            status=response.status,
            retry_after_s=_seconds(response.headers.get("Retry-After", "")),
        )

    async def _learn_refusal(self, ask: Ask, status: int) -> None:
        if status == _NOT_FOUND:
            await self._drop_member(ask)
        if status in _REFUSALS:
            await self._facts.revoke(ask.registry, ask.repository, ask.identity)
        # A token of a client's own has expired, maybe: who comes with another is to be heard.
        if status in _ABSENCES and not (status == _UNAUTHORIZED and ask.identity.is_own):
            await self._facts.mark_absent(
                ask.registry, ask.path, ask.identity, ask.accept, status=status
            )

    async def _drop_member(self, ask: Ask) -> None:
        """What the repository no longer holds is served from it no more, also when the upstream
        has fallen silent. Only by the word to somebody who may read there, and who accepts what it
        is: to others registries say 404 of what is there, too.
        """
        digest = _digest_of(ask.route)
        if digest is None or ask.repository is None:
            return
        if isinstance(ask.route, ManifestRoute):
            held = await self._held.get(digest)
            if held is not None and not accepts(ask.accept, held.media_type):
                return
        if await self.is_absence_for_all(ask):
            await self._facts.drop_member(ask.registry, ask.repository, digest)


def _no(ask: Ask, status: int) -> str:
    """Who asks a local registry has been let in there: a 404 is no word on rights."""
    if status == _NOT_FOUND and ask.site.local is not None:
        match ask.route:
            case ManifestRoute(repository=name, reference=Digest() as digest):
                return f"{ask.registry} has no {name}@{digest}"
            case ManifestRoute(repository=name, reference=tag):
                return f"{ask.registry} has no {name}:{tag}"
            case BlobRoute(repository=name, digest=digest):
                return f"{ask.registry} has no {name}@{digest}"
    return f"{ask.registry} answers {status}"


def _digest_of(route: Route) -> Digest | None:
    match route:
        case BlobRoute(digest=digest) | ManifestRoute(reference=Digest() as digest):
            return digest
    return None


def _seconds(header: str) -> float | None:
    return float(header) if header.isdecimal() and len(header) < 9 else None  # noqa: PLR2004
