"""Bearer tokens of registries: asked for once, kept while they hold.

The protocol is that of the distribution project (docs "token.md" and "oauth.md"): GET with Basic
credentials or without, POST for identity tokens.
"""

import base64
import json
import logging
import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlencode

from yarl import URL

from entrepot.clock import Clock
from entrepot.errors import UpstreamError
from entrepot.upstream.credentials import Credential, Fingerprints
from entrepot.upstream.flight import Flights
from entrepot.upstream.message import RealmAnswer
from entrepot.upstream.realm import Origin
from entrepot.upstream.refusals import Refusals
from entrepot.upstream.standing import parse_retry_after

_log = logging.getLogger(__name__)

_DEFAULT_LIFE_S = 60.0  # token.md: "for compatibility with older clients"
_LONGEST_LIFE_S = 12 * 3600.0  # what clouds give at the most; more is a slip of theirs
# Not used to its very end: the request is still to travel, and clocks differ.
_MARGIN_SHARE, _MARGIN_MAX_S = 0.2, 60.0
# A token service's no is believed this long: accounts get locked for asking on and on.
_REFUSAL_S = 10.0
_KEPT_MAX = 1024
_TOKEN = re.compile(r"[\x21-\x7e]+\Z")
_REFUSED = frozenset({401, 403})
_NOT_THERE = frozenset({404, 405})
_TOLD = frozenset({429, *range(500, 600)})
CLIENT_ID = "entrepot"


class AskRealm(Protocol):
    """Asks a token service over the registry's connections, without following it elsewhere."""

    async def __call__(
        self, url: URL, method: str, headers: Mapping[str, str], form: bytes
    ) -> RealmAnswer: ...


@dataclass(frozen=True, slots=True)
class TokenRequest:
    realm: URL
    service: str
    scope: str  # as in challenges: several, with blanks between them

    @property
    def url(self) -> URL:
        """A scope parameter each, and the realm's own query kept, as docker does."""
        pairs = [("service", self.service)] if self.service else []
        pairs += [("scope", scope) for scope in self.scope.split()]
        query = "&".join(filter(None, (self.realm.raw_query_string, urlencode(pairs))))
        return self.realm.with_query(None).join(URL(f"?{query}", encoded=True))

    def form(self, refresh_token: str) -> bytes:
        fields = {
            "grant_type": "refresh_token",
            "service": self.service,
            "client_id": CLIENT_ID,
            "scope": self.scope,
            "refresh_token": refresh_token,
        }
        return urlencode(fields).encode()


@dataclass(frozen=True, slots=True, repr=False)
class Token:
    text: str | None  # None: refused
    fresh_until: float
    valid_until: float


type _Key = tuple[TokenRequest, str]


class Tokens:
    def __init__(self, ask: AskRealm, clock: Clock, refusals: Refusals) -> None:
        self._ask = ask
        self._clock = clock
        self._refusals = refusals
        self._fingerprints = Fingerprints()
        self._kept: OrderedDict[_Key, Token] = OrderedDict()
        self._flights: Flights[_Key, Token] = Flights()

    async def get(self, wanted: TokenRequest, credential: Credential | None) -> str | None:
        """None where the token service says no to these credentials."""
        key = wanted, self._fingerprints.of(credential)
        kept = self._kept.get(key)
        if kept is not None and self._clock.now() < kept.fresh_until:
            self._kept.move_to_end(key)
            return kept.text
        try:
            token = await self._flights.run(key, lambda: self._fetch(wanted, credential))
        except UpstreamError as error:
            if kept is None or kept.text is None or self._clock.now() >= kept.valid_until:
                raise
            _log.warning("a token is used to its end: %s", error)
            return kept.text
        self._keep(key, token)
        return token.text

    def forget(self, text: str) -> None:
        """A registry refuses it, whatever was said of how long it holds."""
        for key in [key for key, token in self._kept.items() if token.text == text]:
            del self._kept[key]

    def _keep(self, key: _Key, token: Token) -> None:
        self._kept[key] = token
        self._kept.move_to_end(key)
        while len(self._kept) > _KEPT_MAX:
            self._kept.popitem(last=False)

    async def _fetch(self, wanted: TokenRequest, credential: Credential | None) -> Token:
        asked_at = self._clock.now()
        answer = await self._answer(wanted, credential)
        host = Origin.of(wanted.realm)
        if answer.status in _REFUSED:
            if credential is not None:
                scope = f" for {wanted.scope}" if wanted.scope else ""
                self._refusals.refused(credential, f"{host} answers {answer.status}{scope}")
            return Token(None, asked_at + _REFUSAL_S, asked_at)
        if not 200 <= answer.status < 300:  # noqa: PLR2004 - RFC 9110: successful
            raise UpstreamError(
                f"{host}: the token service answers {answer.status}",
                # What it says of itself is no word on content: 404 would read as "no such tag".
                status=answer.status if answer.status in _TOLD else None,
                retry_after_s=parse_retry_after(answer.headers.get("Retry-After"), asked_at),
            )
        token = parse_token(answer.body, asked_at)
        if token is None:
            raise UpstreamError(f"{host}: the token service answers without a token")
        return token

    async def _answer(self, wanted: TokenRequest, credential: Credential | None) -> RealmAnswer:
        if credential is not None and credential.is_identity_token:
            form = wanted.form(credential.secret.reveal())
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            answer = await self._ask(wanted.realm, "POST", headers, form)
            if answer.status not in _NOT_THERE:
                return answer
        headers = {} if credential is None else {"Authorization": basic(credential)}
        return await self._ask(wanted.url, "GET", headers, b"")


def basic(credential: Credential) -> str:
    pair = f"{credential.username}:{credential.secret.reveal()}"
    return f"Basic {base64.b64encode(pair.encode()).decode()}"


def parse_token(body: bytes, asked_at: float) -> Token | None:
    try:
        document: Any = json.loads(body)
        text = document.get("token") or document.get("access_token")
    except (ValueError, AttributeError):
        return None
    if not isinstance(text, str) or not _TOKEN.match(text):
        return None
    life = _life(document.get("expires_in"))
    margin = min(_MARGIN_MAX_S, life * _MARGIN_SHARE)
    return Token(text, asked_at + life - margin, asked_at + life)


def _life(value: Any) -> float:
    """Counted from when it was asked for: `issued_at` is of a clock that may differ from ours."""
    try:
        life = float(value)
    except (TypeError, ValueError, OverflowError):
        return _DEFAULT_LIFE_S
    return min(life, _LONGEST_LIFE_S) if life > 0 else _DEFAULT_LIFE_S
