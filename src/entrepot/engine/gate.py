"""Whether the operator's rules let a request through, and with whose rights it goes on."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import replace

from entrepot.cache.permission import (
    LOGIN_NEEDED,
    UNSUPPORTED,
    Grant,
    LocalAccess,
    Permissions,
    Refusal,
    RepositoryRules,
)
from entrepot.config.kinds import Action
from entrepot.engine.ask import Ask, TokenExpired
from entrepot.engine.audience import Audience
from entrepot.engine.identity import HOME, PROXY, STRANGER, Identity, operator_identity
from entrepot.engine.mount import without_foreign_mount
from entrepot.engine.sites import Site
from entrepot.engine.spelling import hides_something, is_of_registry
from entrepot.errors import Denied, InvalidReference, UpstreamError
from entrepot.oci.reference import parse_repository
from entrepot.oci.route import BlobRoute, ListRoute, ManifestRoute, Other, UploadRoute

_NOT_FOUND = 404
_GET_OR_HEAD = frozenset({"GET", "HEAD"})
_OF_UPLOADS = frozenset({"POST", "PATCH", "PUT", "DELETE"}) | _GET_OR_HEAD
# ghcr.io's, as `Uploads` knows them too; but a client's own go on without it.
_UPLOAD = re.compile(r"/v2/(?P<name>.+)/blobs/upload/[^/]+\Z")


class Gate:
    """Passed by every request for a registry, whatever its route. Fails closed: what rules cannot
    judge is refused where there are rules.
    """

    def __init__(self, asks_for_login: Callable[[Site], Awaitable[bool]]) -> None:
        self._asks_for_login = asks_for_login
        # By entry: the hosts of a pattern have their settings in common.
        self._permissions: dict[str, Permissions] = {}
        self._audiences: dict[str, Audience] = {}

    async def admit(self, ask: Ask) -> Ask:
        """As it goes on. Denied where rules forbid it, UpstreamError(401) where a login helps."""
        ask = self._known(ask)
        ask.trace.user = ask.identity.user
        if ask.identity.is_expired and not _is_cached(ask):
            raise TokenExpired(f"{ask.registry}: a token is needed, and there was none to be had")
        if ask.site.local is not None and ask.identity.is_own and not ask.identity.user:
            raise UpstreamError(f"not a login of {ask.registry}", status=LOGIN_NEEDED)
        action = self._judge(ask)
        if ask.grant.is_limited and isinstance(ask.route, UploadRoute):
            ask = replace(ask, request=without_foreign_mount(ask.request, ask.grant))
        if ask.site.local is not None:
            return replace(ask, identity=HOME)
        if action != "pull" and _is_write(ask):
            return await self._as_writer(ask)
        return ask

    def _known(self, ask: Ask) -> Ask:
        """With what is known of who asks, and of what is asked for."""
        site = ask.site
        if site.entry not in self._permissions:
            self._permissions[site.entry] = (
                RepositoryRules(site.settings) if site.local is None else LocalAccess(site.local)
            )
            self._audiences[site.entry] = Audience(site.settings.audience)
        grant = Grant(ask.registry, ask.identity.user, self._permissions[site.entry])
        nobody = self._nobody(site, ask.request.client)
        identity = nobody if ask.identity == PROXY else ask.identity
        return _as_upload(replace(ask, grant=grant, nobody=nobody, identity=identity))

    def _nobody(self, site: Site, client: str) -> Identity:
        """Whose rights a client without a login has."""
        if not site.upstream.has_credentials:
            return PROXY
        if not self._audiences[site.entry].includes(client):
            return STRANGER
        return operator_identity(site.settings.username, site.settings.helper)

    # By the rules.

    def _judge(self, ask: Ask) -> Action | None:
        """What it does, if that is allowed."""
        action = _action_of(ask)
        if ask.grant.is_limited and hides_something(ask.path, ask.route):
            raise InvalidReference(f"not a path of the registry API: {ask.path[:300]!r}")
        if action is not None and ask.repository is not None:
            _refuse(ask.grant.refusal(action, ask.repository))
        elif isinstance(ask.route, ListRoute) and ask.request.method in _GET_OR_HEAD:
            _refuse(_no_catalog(ask))
        else:
            _refuse(_no_such_request(ask))
        return action

    # With whose rights.

    async def _as_writer(self, ask: Ask) -> Ask:
        """A write with nobody's credentials takes the operator's where they are meant for that."""
        if ask.identity.is_own:
            return ask
        if ask.site.settings.push_as == "operator" and not ask.identity.is_stranger:
            return ask
        upstream = ask.site.upstream
        # To where an upload goes on outside of the API, clients send no token: the place itself
        # is what opens it. And registries that ask nobody for anything need not be logged in to.
        is_asked = is_of_registry(ask.path) and await self._asks_for_login(ask.site)
        if is_asked and not upstream.is_unreachable():  # else the client is told of that
            raise UpstreamError(f"log in to write to {ask.registry}", status=LOGIN_NEEDED)
        return replace(ask, identity=STRANGER) if upstream.has_credentials else ask


def _action_of(ask: Ask) -> Action | None:
    """None: nothing that is done in a repository, as far as we know."""
    method, is_read = ask.request.method, not ask.request.is_write
    match ask.route:
        case UploadRoute() if method in _OF_UPLOADS:
            return "push"
        case ManifestRoute() | BlobRoute() | ListRoute() if is_read and ask.repository:
            return "pull"
        case ManifestRoute() if method == "PUT":
            return "push"
        case ManifestRoute() | BlobRoute() if method == "DELETE":
            return "delete"
    return None


def _is_write(ask: Ask) -> bool:
    """Also what asks how far an upload is: that is the pusher's."""
    is_upload = isinstance(ask.route, UploadRoute)
    return is_upload or (ask.request.is_write and is_of_registry(ask.path))


def _is_cached(ask: Ask) -> bool:
    """Whether there may be something to bridge an outage with."""
    is_content = isinstance(ask.route, ManifestRoute | BlobRoute | ListRoute)
    return is_content and ask.request.method in _GET_OR_HEAD


def _no_catalog(ask: Ask) -> Refusal | None:
    """It is filtered; but to nobody in particular, who may see nothing at all, it is closed."""
    if ask.grant.user or ask.grant.may_somewhere("pull"):
        return None
    return Refusal(LOGIN_NEEDED, f"log in to see what is in {ask.registry}")


def _no_such_request(ask: Ask) -> Refusal | None:
    """What is done in no repository, or not known to be."""
    method, registry, is_api = ask.request.method, ask.registry, is_of_registry(ask.path)
    if is_api and ask.request.is_write and not ask.grant.is_limited:
        if ask.site.settings.push == "allow":
            return None
        return Refusal(
            UNSUPPORTED, f"pushing to {registry} through this proxy is not allowed (push: deny)"
        )
    if ask.grant.is_limited and (is_api or ask.site.local is not None):
        return Refusal(
            UNSUPPORTED if ask.request.is_write else _NOT_FOUND,
            f"{method} is not known here: of {registry}, there is its registry API alone",
        )
    return None


def _refuse(refusal: Refusal | None) -> None:
    if refusal is None:
        return
    if refusal.status == LOGIN_NEEDED:
        raise UpstreamError(refusal.message, status=LOGIN_NEEDED)
    raise Denied(refusal.message, status=refusal.status)


def _as_upload(ask: Ask) -> Ask:
    """Which repository an upload is of must be known also of odd places, for rules and scopes."""
    found = _UPLOAD.match(ask.path) if isinstance(ask.route, Other) else None
    if found is None:
        return ask
    repository = parse_repository(found["name"])
    ask.trace.kind, ask.trace.repository = "upload", repository
    return replace(ask, route=UploadRoute(repository), repository=repository)
