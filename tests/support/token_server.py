"""A token server of the distribution's kind: users, what each may do where, and signed tokens.

The registry that asks for its tokens knows it by the authority alone that vouches for its key: it
is told nothing, so that what is revoked here is revoked when the tokens given out have expired.
"""

import base64
import binascii
import fnmatch
import json
import secrets
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from tests.support.closing import Closing
from tests.support.http_server import Listener, Reply, Request, listening_socket
from tests.support.loop_thread import LoopThread
from tests.support.pki import ServerCertificate, TestAuthority
from tests.support.processes import Seat

PATH = "/token"
ISSUER = "tests' token server"
_VALID_S = 3600  # of the signature; what clients are told is `expires_in_s`
_COORDINATE = 32  # bytes of each half of an ES256 signature


@dataclass(slots=True)
class Rights:
    """Patterns of repositories, and the actions allowed in what they match."""

    password: str = field(repr=False)
    allowed: dict[str, frozenset[str]] = field(default_factory=dict)

    def of(self, repository: str, asked: Iterable[str]) -> list[str]:
        may = {
            action
            for pattern, actions in self.allowed.items()
            if fnmatch.fnmatchcase(repository, pattern)
            for action in actions
        }
        return [action for action in asked if action in may]


class TokenServer(Closing):
    """Over TLS, in a thread of its own. Nobody without a password is given any right."""

    def __init__(
        self, authority: TestAuthority, host: str, seat: Seat, *, expires_in_s: int = 300
    ) -> None:
        self.host = host
        self.expires_in_s = expires_in_s
        self.users: dict[str, Rights] = {}
        self.issued: list[str] = []  # access and refresh tokens, all that were ever given
        self.asked: list[str] = []  # by whom, once for each request; "" is anonymous
        self._seat = seat
        self._context = authority.issue(host).context()
        self._key = SigningKey(authority.issue(ISSUER))
        self._refresh_tokens: dict[str, str] = {}
        self._thread = LoopThread("token-server")
        self._listener: Listener | None = None
        self.start()

    def close(self) -> None:
        self.stop()
        self._thread.close()

    @property
    def realm(self) -> str:
        return f"https://{self.host}{PATH}"

    def add_user(self, name: str, password: str) -> None:
        self.users[name] = Rights(password)

    def grant(self, user: str, repositories: str, *actions: str) -> None:
        self.users[user].allowed[repositories] = frozenset(actions)

    def revoke(self, user: str, repositories: str) -> None:
        del self.users[user].allowed[repositories]

    def start(self) -> None:
        with self._seat.entered():
            sock = listening_socket(self._seat.address, self._seat.port)
        self._listener = Listener("tokens", sock, self._answer, self._context)
        self._thread.loop.call_soon_threadsafe(self._listener.start, self._thread)

    def stop(self) -> None:
        """Refuses connections from now on."""
        listener, self._listener = self._listener, None
        if listener is not None:
            self._thread.run(listener.stop())

    def token(self, access: Iterable[Mapping[str, Any]], service: str, user: str = "") -> str:
        """As the registry takes it, for whoever holds it."""
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "sub": user,
            "aud": service,
            "iat": now,
            "nbf": now - 10,
            "exp": now + _VALID_S,
            "jti": secrets.token_hex(8),
            "access": list(access),
        }
        token = self._key.sign(claims)
        self.issued.append(token)
        return token

    async def _answer(self, request: Request) -> Reply:
        if request.path != PATH:
            return _json(404, {"details": "no such page"})
        match request.method:
            case "GET":
                return self._given(request)
            case "POST":
                return self._exchanged(request)
            case _:
                return _json(405, {"details": "method not allowed"})

    def _given(self, request: Request) -> Reply:
        user = self._user_of(request.headers.get("authorization", ""))
        if user is None:
            return _json(401, {"details": "incorrect username or password"})
        answer = self._tokens(user, request.query.get("scope", []), request.argument("service"))
        if user and request.argument("offline_token"):
            answer["refresh_token"] = self._refresh_token(user)
        return _json(200, answer)

    def _exchanged(self, request: Request) -> Reply:
        """OAuth2, as docker asks with a refresh token and containerd with a password."""
        form = {name: values[0] for name, values in parse_qs(request.body.decode()).items()}
        user: str | None = None
        if form.get("grant_type") == "refresh_token":
            user = self._refresh_tokens.get(form.get("refresh_token", ""))
        elif self._is_right(form.get("username", ""), form.get("password", "")):
            user = form["username"]
        if user is None:
            return _json(401, {"details": "incorrect username or password"})
        answer = self._tokens(user, form.get("scope", "").split(), form.get("service", ""))
        if form.get("access_type") == "offline":
            answer["refresh_token"] = self._refresh_token(user)
        return _json(200, answer)

    def _tokens(self, user: str, scopes: Iterable[str], service: str) -> dict[str, Any]:
        self.asked.append(user)
        rights = self.users.get(user, Rights(""))
        access = []
        for scope in " ".join(scopes).split():
            kind, _, rest = scope.partition(":")
            name, _, actions = rest.rpartition(":")
            if allowed := rights.of(name, actions.split(",")):
                access.append({"type": kind, "name": name, "actions": allowed})
        token = self.token(access, service, user)
        return {"token": token, "access_token": token, "expires_in": self.expires_in_s}

    def _refresh_token(self, user: str) -> str:
        value = secrets.token_urlsafe(24)
        self._refresh_tokens[value] = user
        self.issued.append(value)
        return value

    def _user_of(self, authorization: str) -> str | None:
        """None for credentials that are wrong."""
        if not authorization:
            return ""
        try:
            pair = base64.b64decode(authorization.partition(" ")[2]).decode()
        except (binascii.Error, ValueError):
            return None
        user, _, password = pair.partition(":")
        return user if self._is_right(user, password) else None

    def _is_right(self, user: str, password: str) -> bool:
        return user in self.users and self.users[user].password == password


class SigningKey:
    """Signs as RFC 7515 has it with ES256; x5c tells the registry whose key that is."""

    def __init__(self, certificate: ServerCertificate) -> None:
        key = serialization.load_pem_private_key(certificate.key.read_bytes(), password=None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self._key = key
        der = x509.load_pem_x509_certificate(certificate.certificate.read_bytes()).public_bytes(
            serialization.Encoding.DER
        )
        self._header = {"typ": "JWT", "alg": "ES256", "x5c": [base64.b64encode(der).decode()]}

    def sign(self, claims: Mapping[str, Any]) -> str:
        signed = f"{_part(self._header)}.{_part(claims)}"
        signature = self._key.sign(signed.encode(), ec.ECDSA(hashes.SHA256()))
        halves = decode_dss_signature(signature)
        raw = b"".join(half.to_bytes(_COORDINATE, "big") for half in halves)
        return f"{signed}.{_base64url(raw)}"


def _part(document: Mapping[str, Any]) -> str:
    return _base64url(json.dumps(document, separators=(",", ":")).encode())


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _json(status: int, document: Mapping[str, Any]) -> Reply:
    reply = Reply()
    reply.replace(status, {"Content-Type": "application/json"}, json.dumps(document).encode())
    return reply
