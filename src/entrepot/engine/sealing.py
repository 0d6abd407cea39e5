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


@dataclass(frozen=True, slots=True)
class Passport:
    """What a token of ours says: nobody in particular, or with this Authorization upstream, and
    by which key it is known if not by that.
    """

    authorization: str | None = field(default=None, repr=False)
    key: str = ""


class Sealer:
    def __init__(self, secret: Secret, clock: Clock, *, lifetime_s: float) -> None:
        digest = hashlib.sha256(b"entrepot tokens\0" + secret.reveal().encode())
        self._cipher = AESGCM(digest.digest())
        self._clock = clock
        self._lifetime_s = lifetime_s

    def seal(self, passport: Passport, registry: str) -> str:
        payload = {
            "until": self._clock.now() + self._lifetime_s,
            "auth": passport.authorization,
            "key": passport.key,
        }
        nonce = os.urandom(_NONCE)
        bound = b"" if passport.authorization is None else registry.encode()
        sealed = self._cipher.encrypt(nonce, json.dumps(payload).encode(), bound)
        return _PREFIX + base64.urlsafe_b64encode(nonce + sealed).decode()

    @staticmethod
    def is_ours(token: str) -> bool:
        return token.startswith(_PREFIX)

    def open(self, token: str, registry: str) -> Passport | None:
        """None for what is not ours, too old, tampered with, or meant for another registry."""
        text = token.removeprefix(_PREFIX)
        try:
            data = base64.urlsafe_b64decode(text)
            # One spelling for one token: the decoder passes over what it does not know.
            if _PREFIX + text != token or base64.urlsafe_b64encode(data).decode() != text:
                return None
        except ValueError:
            return None
        plain = self._decrypt(data, registry.encode()) or self._decrypt(data, b"")
        if plain is None:
            return None
        payload = json.loads(plain)
        if payload["until"] < self._clock.now():
            return None
        return Passport(payload["auth"], payload.get("key", ""))

    def _decrypt(self, data: bytes, bound: bytes) -> bytes | None:
        try:
            return self._cipher.decrypt(data[:_NONCE], data[_NONCE:], bound)
        except (InvalidTag, ValueError):
            return None
