"""Those whose passwords are known here."""

import asyncio
import hmac
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from entrepot.config.kinds import Secret
from entrepot.errors import ConfigError
from entrepot.passwords.htpasswd import PasswordHash, parse_htpasswd
from entrepot.passwords.remembered import Remembered, digest
from entrepot.passwords.watched import Watched

# bcrypt takes a processor for as long as it runs; others are left for the proxy.
_AT_ONCE = 2


class Users(ABC):
    @staticmethod
    def of(
        where: str,
        *,
        username: str,
        password: Secret | None,
        password_file: Path | None,
        htpasswd: Path | None,
    ) -> "Users | None":
        """None where no user is configured. ConfigError, naming `where`, for what is of no use."""
        if htpasswd is not None:
            if username or password or password_file:
                raise ConfigError(f"{where}.htpasswd: expected no username and password beside it")
            return HtpasswdUsers(Watched(f"{where}.htpasswd", htpasswd, parse_htpasswd))
        if not username:
            if password or password_file:
                raise ConfigError(f"{where}.username: expected a name beside the password")
            return None
        if password_file is not None:
            file = Watched(f"{where}.password_file", password_file, _password)
            return OneUser(username, file.current)
        if password is None or not password.reveal():
            raise ConfigError(f"{where}.password: the password is empty")
        return OneUser(username, password.reveal)

    @abstractmethod
    def remembers(self, user: str, password: str) -> bool:
        """Whether they are known to be right; if not they may be all the same. At once."""

    @abstractmethod
    async def knows(self, user: str, password: str) -> bool:
        """Takes the same time for users that there are and for others."""

    @abstractmethod
    def mark_of(self, user: str, key: bytes) -> str | None:
        """Another one when the password is, and alike wherever `key` and it are the same; tells
        nothing of it. None where there is no such user.
        """


class OneUser(Users):
    def __init__(self, name: str, password: Callable[[], str]) -> None:
        self._name = name
        self._password = password
        self._secret = secrets.token_bytes(32)

    def remembers(self, user: str, password: str) -> bool:
        given = digest(self._secret, user, password)
        return hmac.compare_digest(given, digest(self._secret, self._name, self._password()))

    async def knows(self, user: str, password: str) -> bool:
        return self.remembers(user, password)

    def mark_of(self, user: str, key: bytes) -> str | None:
        return digest(key, user, self._password()).hex() if user == self._name else None


class HtpasswdUsers(Users):
    def __init__(
        self,
        file: Watched[dict[str, PasswordHash]],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._file = file
        self._hashes: Mapping[str, PasswordHash] = file.current()
        self._remembered = Remembered(now)
        self._secret = secrets.token_bytes(32)
        # Of its own, and gone with it: a thread cannot be stopped, and clients that leave must not
        # make room for more of them.
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="passwords")
        self._slots = asyncio.Semaphore(_AT_ONCE)

    def remembers(self, user: str, password: str) -> bool:
        self._look()
        return (user, password) in self._remembered

    async def knows(self, user: str, password: str) -> bool:
        async with self._slots:
            # Asked when it is its turn: of a herd that brings the same, one is hashed.
            if self.remembers(user, password):
                return True
            return await self._matches(user, password)

    def mark_of(self, user: str, key: bytes) -> str | None:
        self._look()
        found = self._hashes.get(user)
        return None if found is None else digest(key, user, found.line).hex()

    async def _matches(self, user: str, password: str) -> bool:
        hashes = self._hashes
        found = hashes.get(user) or self._stand_in(user)
        loop = asyncio.get_running_loop()
        matches = await loop.run_in_executor(self._threads, found.matches, password)
        is_right = matches and user in hashes
        # Not where the file has changed meanwhile: the next one is asked anew.
        if is_right and hashes is self._hashes:
            self._remembered.add(user, password)
        return is_right

    def _stand_in(self, user: str) -> PasswordHash:
        """For who has none: another's, always the same one, so that costs do not tell who there
        is, even where they differ within the file.
        """
        hashes = list(self._hashes.values())
        number = int.from_bytes(digest(self._secret, user, ""))
        return hashes[number % len(hashes)]

    def _look(self) -> None:
        hashes = self._file.current()
        if hashes is not self._hashes:
            self._hashes = hashes
            self._remembered.clear()


def _password(text: str) -> str:
    password = text.rstrip("\r\n")
    if not password:
        raise ConfigError("the password is empty")
    return password
