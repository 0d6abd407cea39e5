"""Who has logged in: credentials for which the upstream's token service gave a token.

Each token is another, and holds for minutes. What is known of an identity is therefore known of
its credentials, and of the scopes that a token was asked for: a token that was limited to one
repository opens no more here than there. So nothing is asked again when a token is renewed, and
who was let in before goes on while the upstream is down.
"""

from collections import OrderedDict
from dataclasses import dataclass
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
_SUCCESS = 200
_REFUSALS = frozenset({400, 401, 403})
# Of an OAuth2 form: what shows who somebody is.
_CREDENTIALS = ("username", "password", "refresh_token")


@dataclass(frozen=True, slots=True)
class Login:
    registry: str
    user: Identity  # the credentials
    key: str  # of the identity: the credentials and the scopes


class Logins:
    def __init__(self, facts: Facts, settings: Auth, clock: Clock, identity_key: bytes) -> None:
        self._facts = facts
        self._settings = settings
        self._clock = clock
        self._identity_key = identity_key
        self._tokens: OrderedDict[tuple[str, str], tuple[str, float]] = OrderedDict()

    def of(self, registry: str, authorization: str, scopes: str = "") -> Login:
        user = self._key_of(authorization)
        key = self._key_of(f"{authorization}\0{scopes}") if scopes else user
        return Login(registry, Identity(f"login-{user}"), key)

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
        name = login.registry, self._key_of(f"Bearer {token.text}")
        self._tokens[name] = login.key, token.valid_until
        if len(self._tokens) > _TOKENS_MAX:
            self._tokens.popitem(last=False)

    async def let_in(self, login: Login) -> None:
        await self._facts.allow(login.registry, None, login.user)

    async def refused(self, login: Login) -> None:
        await self._facts.revoke(login.registry, None, login.user)

    async def may_go_on(self, login: Login, status: int | None) -> bool:
        """Whether who was let in before goes on, now that this is all the upstream says."""
        if not is_trouble(status):
            return False
        verdict = await self._facts.verdict(login.registry, None, login.user)
        return standing(verdict, self._settings, self._clock.now()) is not Standing.UNKNOWN

    def identity(self, registry: str, authorization: str) -> Identity:
        """Of who shows this, be it a token that was given to a login."""
        key = self._key_of(authorization)
        known = self._tokens.get((registry, key))
        if known is not None and self._clock.now() < known[1]:
            return Identity(known[0], authorization)
        is_passing = authorization.lower().startswith("bearer ")
        return Identity(key, authorization, is_passing=is_passing)

    def _key_of(self, text: str) -> str:
        return own_identity(text, self._identity_key).key
