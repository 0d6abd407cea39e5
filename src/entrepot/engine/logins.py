"""Who has logged in: credentials for which the upstream's token service gave a token.

Each token is another, and holds for minutes. What is known of an identity is therefore known of
its credentials, and of the scopes that a token was asked for: a token that was limited to one
repository opens no more here than there. So nothing is asked again when a token is renewed, and
who was let in before goes on while the upstream is down. What was learned under a former secret
is looked up, too: who replaces the secret must not lock everybody out of what is cached.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from urllib.parse import parse_qs

from entrepot.cache.decide import is_trouble
from entrepot.cache.entitlement import Standing, standing
from entrepot.clock import Clock
from entrepot.config.model import Auth
from entrepot.engine.facts import Facts
from entrepot.engine.identity import Identity, own_identity
from entrepot.upstream.message import RealmAnswer
from entrepot.upstream.token import parse_token

_TOKENS_MAX = 20_000
_SUCCESS, _TOO_MANY = 200, 429
_REFUSALS = frozenset({400, 401, 403})
# Of an OAuth2 form: what shows who somebody is.
_CREDENTIALS = ("username", "password", "refresh_token")

type Keys = tuple[str, ...]  # what somebody is known by, and then what by former secrets


@dataclass(frozen=True, slots=True)
class Login:
    registry: str
    user: Identity  # the credentials
    keys: Keys  # of the identity: the credentials and the scopes


class Logins:
    def __init__(
        self, facts: Facts, settings: Auth, clock: Clock, identity_keys: Sequence[bytes]
    ) -> None:
        """The first names identities; by the others they were named before."""
        self._facts = facts
        self._settings = settings
        self._clock = clock
        self._identity_keys = identity_keys
        self._tokens: OrderedDict[tuple[str, str], tuple[Keys, float]] = OrderedDict()

    def of(self, registry: str, authorization: str, scopes: str = "") -> Login:
        names = self._keys_of(authorization)
        user = _identity(tuple(f"login-{name}" for name in names), None)
        keys = self._keys_of(f"{authorization}\0{scopes}") if scopes else names
        return Login(registry, user, keys)

    def of_request(self, registry: str, authorization: str, query: str, form: bytes) -> Login:
        """By the query of a GET with Basic, or the form of a POST."""
        fields = parse_qs(form.decode("latin-1"))
        shown = [value for name in _CREDENTIALS for value in fields.get(name, ())]
        asked = parse_qs(query).get("scope", []) + fields.get("scope", [])
        scopes = " ".join(sorted(" ".join(asked).split()))
        return self.of(registry, "\0".join((authorization, *shown)), scopes or "none")

    async def heard(self, login: Login, answer: RealmAnswer) -> None:
        """The token service has judged."""
        if answer.status in _REFUSALS:
            await self.refused(login)
        token = parse_token(answer.body, self._clock.now())
        if answer.status != _SUCCESS or token is None:
            return
        await self.let_in(login)
        # No longer than the token holds: one that leaks is not to live on with its user's others.
        name = login.registry, self._keys_of(f"Bearer {token.text}")[0]
        self._tokens[name] = login.keys, token.valid_until
        if len(self._tokens) > _TOKENS_MAX:
            self._tokens.popitem(last=False)

    async def let_in(self, login: Login) -> None:
        await self._facts.allow(login.registry, None, login.user)

    async def refused(self, login: Login) -> None:
        await self._facts.revoke(login.registry, None, login.user)

    async def may_go_on(self, login: Login, status: int | None) -> bool:
        """Whether who was let in before goes on, now that this is all the upstream says."""
        if not is_outage(status):
            return False
        verdict = await self._facts.verdict(login.registry, None, login.user)
        return standing(verdict, self._settings, self._clock.now()) is not Standing.UNKNOWN

    def identity(self, registry: str, authorization: str) -> Identity:
        """Of who shows this, be it a token that was given to a login."""
        keys = self._keys_of(authorization)
        known = self._tokens.get((registry, keys[0]))
        if known is not None and self._clock.now() < known[1]:
            return _identity(known[0], authorization)
        is_passing = authorization.lower().startswith("bearer ")
        return replace(_identity(keys, authorization), is_passing=is_passing)

    def _keys_of(self, text: str) -> Keys:
        return tuple(own_identity(text, secret).key for secret in self._identity_keys)


def is_outage(status: int | None) -> bool:
    """Of a token service. A quota that is used up, maybe by who asks, is an answer: it must not
    keep anybody's rights alive.
    """
    return is_trouble(status) and status != _TOO_MANY


def _identity(keys: Keys, authorization: str | None) -> Identity:
    return Identity(keys[0], authorization, former_keys=keys[1:])
