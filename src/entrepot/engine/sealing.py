"""Tokens that only we can open: what they say is encrypted and bound to one registry.

AES-256-GCM with the registry's name as associated data: a token that carries a client's
credentials for one registry opens nowhere else, so they can never be sent to another. One that
carries none is bound to none: registries share token services (lscr.io names that of ghcr.io).
"""

import base64
import hashlib
import json
import os
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from entrepot.clock import Clock
from entrepot.config.kinds import Secret

_PREFIX = "entrepot."
_NONCE = 12
# No name of a registry has this in it: what was sealed for one use opens for no other.
_REFRESH = b"refresh\0"


@dataclass(frozen=True, slots=True)
class Secrets:
    """What seals, and what did so before: that opens only."""

    current: Secret
    former: tuple[Secret, ...] = ()

    def keys(self, use: str) -> tuple[bytes, ...]:
        """One for each secret, the current one's first; `use` keeps those of one use from
        telling anything of another's.
        """
        head = f"entrepot {use}\0".encode()
        every = (self.current, *self.former)
        return tuple(hashlib.sha256(head + secret.reveal().encode()).digest() for secret in every)


@dataclass(frozen=True, slots=True)
class Passport:
    """What a token of ours says: nobody in particular; or with this Authorization upstream, and
    by which keys it is known if not by that; or which user of a registry of our own, and by which
    mark the password is known that was right.
    """

    authorization: str | None = field(default=None, repr=False)
    keys: tuple[str, ...] = ()
    user: str = ""
    mark: str = field(default="", repr=False)

    @property
    def is_anonymous(self) -> bool:
        return self.authorization is None and not self.user


class Sealer:
    def __init__(
        self, secrets: Secrets, clock: Clock, *, lifetime_s: float, refresh_lifetime_s: float
    ) -> None:
        self._ciphers = tuple(AESGCM(key) for key in secrets.keys("tokens"))
        self._clock = clock
        self._lifetime_s = lifetime_s
        self._refresh_lifetime_s = refresh_lifetime_s

    def seal(self, passport: Passport, registry: str, at_most_s: float = float("inf")) -> str:
        bound = b"" if passport.is_anonymous else registry.encode()
        return self._seal(passport, bound, min(self._lifetime_s, at_most_s))

    def seal_refresh(self, passport: Passport, registry: str) -> str:
        """As `open_refresh` alone opens it: to be exchanged for tokens, and none itself."""
        return self._seal(passport, _REFRESH + registry.encode(), self._refresh_lifetime_s)

    @staticmethod
    def is_ours(token: str) -> bool:
        return token.startswith(_PREFIX)

    def open(self, token: str, registry: str) -> Passport | None:
        """None for what is not ours, too old, tampered with, or meant for another registry."""
        return self._open(token, (registry.encode(), b""))

    def open_refresh(self, token: str, registry: str) -> Passport | None:
        return self._open(token, (_REFRESH + registry.encode(),))

    def _seal(self, passport: Passport, bound: bytes, lifetime_s: float) -> str:
        payload = {
            "until": self._clock.now() + lifetime_s,
            "auth": passport.authorization,
            "keys": passport.keys,
            "user": passport.user,
            "mark": passport.mark,
        }
        nonce = os.urandom(_NONCE)
        sealed = self._ciphers[0].encrypt(nonce, json.dumps(payload).encode(), bound)
        return _PREFIX + base64.urlsafe_b64encode(nonce + sealed).decode()

    def _open(self, token: str, bounds: tuple[bytes, ...]) -> Passport | None:
        text = token.removeprefix(_PREFIX)
        try:
            data = base64.urlsafe_b64decode(text)
            # One spelling for one token: the decoder passes over what it does not know.
            if _PREFIX + text != token or base64.urlsafe_b64encode(data).decode() != text:
                return None
        except ValueError:
            return None
        plain = self._decrypt(data, bounds)
        if plain is None:
            return None
        payload = json.loads(plain)
        if payload["until"] < self._clock.now():
            return None
        keys = tuple(payload.get("keys", ()))
        return Passport(payload["auth"], keys, payload.get("user", ""), payload.get("mark", ""))

    def _decrypt(self, data: bytes, bounds: tuple[bytes, ...]) -> bytes | None:
        for cipher in self._ciphers:
            for bound in bounds:
                try:
                    return cipher.decrypt(data[:_NONCE], data[_NONCE:], bound)
                except (InvalidTag, ValueError):
                    continue
        return None
