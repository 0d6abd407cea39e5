"""What a request carries to prove its right, hop by hop.

What an origin asked for is remembered, so that the next request brings its token along. Two lines
are never crossed: the operator's credentials are used only for a challenge of the registry's own
origin, and what they opened is sent only there. A host that a redirect led to is answered, too,
but with nobody's rights.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from yarl import URL

from entrepot.errors import UpstreamError
from entrepot.oci.challenge import Challenge, parse_challenges
from entrepot.upstream.credentials import Credential, CredentialSource
from entrepot.upstream.message import UpstreamRequest
from entrepot.upstream.realm import Origin, is_trusted_realm
from entrepot.upstream.refusals import Refusals
from entrepot.upstream.token import TokenRequest, Tokens, basic

_log = logging.getLogger(__name__)

_REMEMBERED_MAX = 2048
_SCHEMES = ("bearer", "basic")  # in order of preference


@dataclass(frozen=True, slots=True)
class Ownership:
    """What belongs to a registry."""

    origins: frozenset[Origin]
    realms: tuple[str, ...]
    credentials: CredentialSource | None
    # Those that are configured for a host, as a registry of its own.
    credentials_of: Callable[[Origin], CredentialSource | None]

    def trusts(self, realm: Origin) -> bool:
        return is_trusted_realm(realm, self.origins, self.realms)


def choose_challenge(headers: Mapping[str, str]) -> Challenge | None:
    challenges = parse_challenges(headers.get("WWW-Authenticate", ""))
    known = [challenge for challenge in challenges if challenge.scheme in _SCHEMES]
    return min(known, key=lambda challenge: _SCHEMES.index(challenge.scheme), default=None)


class Authorizer:
    def __init__(self, ownership: Ownership, tokens: Tokens, refusals: Refusals) -> None:
        self._own = ownership
        self._tokens = tokens
        self._refusals = refusals
        # What an origin asks for in general, and for one repository where that differs.
        self._general: dict[Origin, Challenge] = {}
        self._special: OrderedDict[tuple[Origin, str], Challenge] = OrderedDict()
        self._warned: set[Origin] = set()

    def knows(self, origin: Origin) -> bool:
        return origin in self._general

    async def prepare(self, origin: Origin, request: UpstreamRequest) -> str | None:
        """What to send along with the first try."""
        if request.is_anonymous:
            return None
        if request.authorization is not None:
            return request.authorization if origin in self._own.origins else None
        challenge = self._special.get((origin, _subject(request))) or self._general.get(origin)
        if challenge is None:
            return None
        return await self._fulfil(challenge, origin, request)

    async def answer(
        self, origin: Origin, request: UpstreamRequest, headers: Mapping[str, str], sent: str | None
    ) -> str | None:
        """What to send after a 401; None where nothing can be done that was not."""
        challenge = choose_challenge(headers)
        if challenge is None or request.authorization is not None or request.is_anonymous:
            return None
        self.refused(sent)
        self.learn(origin, challenge, _subject(request))
        value = await self._fulfil(challenge, origin, request)
        if value != sent:
            return value
        await self._say_refused(challenge, origin, sent)
        return None

    async def _say_refused(self, challenge: Challenge, origin: Origin, sent: str | None) -> None:
        """Of Basic: for a token it is the token service that knows them."""
        if challenge.scheme == "basic" and sent is not None and self._own.credentials is not None:
            credential = await self._own.credentials.get()
            self._refusals.refused(credential, f"{origin} answers 401")

    def refused(self, sent: str | None) -> None:
        if sent is not None:
            self._tokens.forget(sent.removeprefix("Bearer "))

    def learn(self, origin: Origin, challenge: Challenge, subject: str = "") -> None:
        if origin in self._own.origins:
            general = {name: text for name, text in challenge.parameters.items() if name != "scope"}
            general.pop("error", None)
            self._general[origin] = Challenge(challenge.scheme, general)
        if subject:
            self._special[origin, subject] = challenge
            self._special.move_to_end((origin, subject))
            while len(self._special) > _REMEMBERED_MAX:
                self._special.popitem(last=False)

    async def _fulfil(
        self, challenge: Challenge, origin: Origin, request: UpstreamRequest
    ) -> str | None:
        may_use_credentials = origin in self._own.origins and not request.is_stranger
        if challenge.scheme == "basic":
            source = self._own.credentials if may_use_credentials else None
            credential = None if source is None else await source.get()
            if credential is None or credential.is_identity_token:
                return None
            return basic(credential)
        realm = parse_realm(challenge.realm)
        credential = await self._credential_for(Origin.of(realm)) if may_use_credentials else None
        wanted = TokenRequest(realm, challenge.service, challenge.scope or _scope(request))
        token = await self._tokens.get(wanted, credential)
        return None if token is None else f"Bearer {token}"

    async def _credential_for(self, realm: Origin) -> Credential | None:
        own = self._own.credentials
        if not self._own.trusts(realm):
            if own is not None and realm not in self._warned:
                self._warned.add(realm)
                _log.warning(
                    "%s is not sent the credentials of a registry that names it as its token "
                    "service; if it belongs to it, list it under the registry's realms",
                    realm,
                )
            return None
        source = own or self._own.credentials_of(realm)
        return None if source is None else await source.get()


def _subject(request: UpstreamRequest) -> str:
    name = request.repository or request.path.partition("?")[0]
    return " ".join(filter(None, (request.actions, name, request.mounted_from)))


def _scope(request: UpstreamRequest) -> str:
    if request.repository is None:
        return ""
    scope = f"repository:{request.repository}:{request.actions}"
    if request.mounted_from is None:
        return scope
    return f"{scope} repository:{request.mounted_from}:pull"


def parse_realm(text: str) -> URL:
    try:
        realm = URL(text).with_user(None).with_fragment(None)
        Origin.of(realm)
    except ValueError:
        raise UpstreamError("the registry names a token service that has no HTTP address") from None
    return realm
