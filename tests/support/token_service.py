"""Who may do what at the scripted registry, and the tokens that say so."""

import base64
import binascii
import json
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import parse_qs

from tests.support.http_server import Reply, Request

TOKEN_PATH = "/token"


@dataclass(frozen=True, slots=True)
class Auth:
    """`none`: all is open. `bearer`, `basic`: the challenge that is sent."""

    scheme: Literal["none", "bearer", "basic"] = "none"
    users: dict[str, str] = field(default_factory=dict)
    allows_anonymous: bool = True  # to what is public
    expires_in_s: int = 300
    speaks_oauth2: bool = False  # otherwise POST is answered 405, as by many registries
    service: str = "registry.test"


@dataclass(frozen=True, slots=True)
class Token:
    user: str  # "" is anonymous
    scopes: frozenset[tuple[str, str]]  # (repository, action)
    expires_at: float


class TokenService:
    def __init__(self, auth: Auth) -> None:
        self.auth = auth
        self.issued = 0
        self.readers: dict[str, frozenset[str]] = {}  # repositories that are private, and to whom
        self._tokens: dict[str, Token] = {}
        self._refresh_tokens: dict[str, str] = {}

    def expire_all(self) -> None:
        """Every access token that is out there is refused from now on."""
        self._tokens.clear()

    def may(self, user: str, repository: str, action: str) -> bool:
        if repository in self.readers:
            return user in self.readers[repository]
        if action == "pull":
            return bool(user) or self.auth.allows_anonymous
        return bool(user) or self.auth.scheme == "none"

    def user_of(self, request: Request) -> str | None:
        """Who asks; None for credentials that are wrong or expired."""
        kind, _, value = request.headers.get("authorization", "").partition(" ")
        match kind.lower():
            case "":
                return ""
            case "basic":
                return self._user_of_basic(value)
            case _:
                token = self._valid(value)
                return None if token is None else token.user

    def allows(self, request: Request, repository: str, action: str) -> bool:
        user = self.user_of(request)
        if user is None:
            return False
        if self.auth.scheme != "bearer":
            return self.may(user, repository, action)
        token = self._valid(request.headers.get("authorization", "").partition(" ")[2])
        return token is not None and (not repository or (repository, action) in token.scopes)

    def challenge(self, realm: str, repository: str = "", action: str = "pull") -> str:
        if self.auth.scheme == "basic":
            return f'Basic realm="{self.auth.service}"'
        scope = f',scope="repository:{repository}:{action}"' if repository else ""
        return f'Bearer realm="{realm}",service="{self.auth.service}"{scope}'

    def answer(self, request: Request) -> Reply:
        """The token endpoint."""
        if request.method == "POST":
            return self._oauth2(request)
        user = self.user_of(request)
        if user is None:
            return _refusal(401, "incorrect username or password")
        document = self._issue(user, request.query.get("scope", []))
        if request.argument("offline_token") and user:
            document["refresh_token"] = self._refresh_token(user)
        return json_reply(200, document)

    def _oauth2(self, request: Request) -> Reply:
        if not self.auth.speaks_oauth2:
            return _refusal(405, "method not allowed")
        form = {name: values[0] for name, values in parse_qs(request.body.decode()).items()}
        user: str | None = None
        if form.get("grant_type") == "refresh_token":
            user = self._refresh_tokens.get(form.get("refresh_token", ""))
        elif self.auth.users.get(form.get("username", ""), None) == form.get("password", ""):
            user = form["username"]
        if user is None:
            return _refusal(401, "incorrect username or password")
        document = self._issue(user, form.get("scope", "").split())
        if form.get("access_type") == "offline":
            document["refresh_token"] = self._refresh_token(user)
        return json_reply(200, document)

    def _issue(self, user: str, scopes: Iterable[str]) -> dict[str, str | int]:
        granted = frozenset(
            (repository, action)
            for repository, actions in map(_parse_scope, " ".join(scopes).split())
            for action in actions
            if self.may(user, repository, action)
        )
        value = secrets.token_urlsafe(24)
        lifetime = self.auth.expires_in_s
        self._tokens[value] = Token(user, granted, time.time() + lifetime)
        self.issued += 1
        return {"token": value, "access_token": value, "expires_in": lifetime}

    def _refresh_token(self, user: str) -> str:
        value = secrets.token_urlsafe(24)
        self._refresh_tokens[value] = user
        return value

    def _valid(self, value: str) -> Token | None:
        token = self._tokens.get(value)
        return token if token is not None and token.expires_at > time.time() else None

    def _user_of_basic(self, value: str) -> str | None:
        try:
            user, _, password = base64.b64decode(value).decode().partition(":")
        except (binascii.Error, ValueError):
            return None
        return user if self.auth.users.get(user) == password else None


def _parse_scope(scope: str) -> tuple[str, list[str]]:
    """`repository:NAME:ACTIONS`; the name may hold a port."""
    kind, _, rest = scope.partition(":")
    repository, _, actions = rest.rpartition(":")
    return (repository, actions.split(",")) if kind == "repository" else ("", [])


def json_reply(status: int, document: object, **headers: str) -> Reply:
    reply = Reply()
    reply.replace(
        status, {"Content-Type": "application/json", **headers}, json.dumps(document).encode()
    )
    return reply


def _refusal(status: int, message: str) -> Reply:
    return json_reply(status, {"details": message})
