"""What the operator gave for a registry, and where it is kept: configuration, file or program.

A source that has nothing to give where something is configured is a failure of the request, never
a reason to ask anonymously: another identity sees other content, and draws on another quota.
"""

import hashlib
import hmac
import logging
import re
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from entrepot.clock import Clock
from entrepot.config.kinds import Secret
from entrepot.config.model import DOCKER_HUB, Registry
from entrepot.errors import ConfigError, UpstreamError
from entrepot.upstream.flight import Flights
from entrepot.upstream.program import Output, ProgramFailed, run_program

_log = logging.getLogger(__name__)

# How docker names it when it talks to helpers: what `docker login` stored is found under this.
_DOCKER_HUB_KEY = "https://index.docker.io/v1/"
_HELPER_NAME = re.compile(r"[A-Za-z0-9._-]+\Z")
# Helpers do not say how long their answer holds. Short beside the shortest lives there are (Google
# and Azure: 1 h), long beside what asking costs (a process, and often a request to a cloud).
_DEFAULT_LIFE_S = 600.0
# Asked again ahead of time, so that a program that fails for a while is not felt.
_REFRESH_AT = 0.8
# A program that fails is not started again for each request.
_PAUSE_S = 5.0
_IDENTITY_TOKEN = "<token>"  # noqa: S105 - docker-credential-helpers: Secret is a refresh token


@dataclass(frozen=True, slots=True)
class Credential:
    username: str
    secret: Secret

    @property
    def is_identity_token(self) -> bool:
        return self.username == _IDENTITY_TOKEN


class Fingerprints:
    """Names for credentials in what is kept in memory; the salt makes them useless elsewhere."""

    def __init__(self) -> None:
        self._salt = secrets.token_bytes(16)

    def of(self, credential: Credential | None) -> str:
        if credential is None:
            return ""
        content = f"{credential.username}\0{credential.secret.reveal()}".encode()
        return hmac.new(self._salt, content, hashlib.sha256).hexdigest()


class CredentialSource(Protocol):
    async def get(self) -> Credential:
        """UpstreamError where there is nothing to give."""
        ...


class Static:
    def __init__(self, credential: Credential) -> None:
        self._credential = credential

    async def get(self) -> Credential:
        return self._credential


class PasswordFile:
    """Read again when it changes; what was read last is used while it cannot be."""

    def __init__(self, username: str, path: Path) -> None:
        self._username = username
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._credential: Credential | None = None

    async def get(self) -> Credential:
        try:
            self._read_if_changed()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
            _log.warning("password file %s cannot be read: %s", self._path, reason)
        if self._credential is None:
            raise UpstreamError(f"the password file {self._path} cannot be read")
        return self._credential

    def _read_if_changed(self) -> None:
        # Not in a thread: stat of a local file takes less than the way to one. Size and inode
        # beside the time, for two changes within one tick of the file system's clock.
        status = self._path.stat()
        seen = status.st_mtime_ns, status.st_size, status.st_ino
        if seen == self._seen:
            return
        password = self._path.read_text("utf-8").rstrip("\r\n")
        self._credential = Credential(self._username, Secret(password))
        self._seen = seen


class Program:
    """Asks a program, and keeps what it says for as long as that holds."""

    def __init__(self, argv: tuple[str, ...], stdin: bytes, clock: Clock) -> None:
        self._argv = argv
        self._stdin = stdin
        self._clock = clock
        self._flights: Flights[None, None] = Flights()
        self._credential: Credential | None = None
        self._refresh_at = 0.0
        self._expires_at = 0.0
        self._failed_until = 0.0

    async def get(self) -> Credential:
        if self._clock.now() >= max(self._refresh_at, self._failed_until):
            await self._flights.run(None, self._refresh)
        if self._credential is None or self._clock.now() >= self._expires_at:
            raise UpstreamError(f"{self._argv[0]} gives no credentials")
        return self._credential

    async def _refresh(self) -> None:
        try:
            output = await run_program(self._argv, self._stdin)
        except ProgramFailed as error:
            self._failed_until = self._clock.now() + _PAUSE_S
            _log.warning("%s gives no credentials: %s", self._argv[0], error)
            return
        now = self._clock.now()
        life = _DEFAULT_LIFE_S if output.life_s is None else output.life_s
        if output.expires_at is not None:
            life = output.expires_at - now
        self._credential = _credential(output)
        self._refresh_at = now + life * _REFRESH_AT
        self._expires_at = now + life


def _credential(output: Output) -> Credential:
    return Credential(output.username, Secret(output.secret))


def credential_source(name: str, registry: Registry, clock: Clock) -> CredentialSource | None:
    """None: nothing is configured, and the registry is asked anonymously."""
    ways = [
        way
        for way in ("password", "password_file", "helper", "exec")
        if getattr(registry, way) not in {None, "", ()}
    ]
    if len(ways) > 1:
        raise ConfigError(f"registries.{name}: expected one of {', '.join(ways)}")
    if not ways:
        if registry.username:
            raise ConfigError(f"registries.{name}: expected a password beside username")
        return None
    if registry.password is not None:
        return Static(Credential(registry.username, registry.password))
    if registry.password_file is not None:
        return PasswordFile(registry.username, registry.password_file)
    return _program(name, registry, clock)


def _program(name: str, registry: Registry, clock: Clock) -> Program:
    if registry.exec:
        return Program(registry.exec, b"", clock)
    if not _HELPER_NAME.match(registry.helper):
        raise ConfigError(f"registries.{name}.helper: expected a name such as ecr-login")
    server = _DOCKER_HUB_KEY if name == DOCKER_HUB else name
    argv = (f"docker-credential-{registry.helper}", "get")
    return Program(argv, server.encode(), clock)
