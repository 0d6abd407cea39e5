"""What all clients have in common: whom they are told to trust, and how they say what went wrong.

All are told of the proxy by HTTPS_PROXY, and of its CA in the way their users do it: dockerd,
containerd and ctr by the system's store, podman by `--cert-dir`, skopeo by SSL_CERT_FILE. Those
that use no proxy trust what lies in certs.d for the registry's name, and nothing else.
"""

import base64
import re
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess
from typing import Protocol
from urllib.parse import quote

from tests.support.netns import Namespace
from tests.support.processes import Program

CALL_S = 60.0
READY_S = 30.0
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class ClientError(Exception):
    """The client refused; the message is what it said to its user."""


@dataclass(frozen=True, slots=True)
class Credentials:
    user: str
    password: str

    @property
    def pair(self) -> str:
        return f"{self.user}:{self.password}"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a client is given."""

    namespace: Namespace
    directory: Path  # its own
    trusted: Path  # PEM of the authorities
    proxy_url: str = ""  # none: it goes to registries by itself
    certs_d: Path | None = None  # where it finds whom it trusts, in place of the system's store

    def environment(self) -> dict[str, str]:
        found = {"HOME": str(self.directory)}
        if self.proxy_url:
            found["HTTPS_PROXY"] = self.proxy_url
        if self.certs_d is not None:
            found |= no_trust(self.directory)
        return found

    def run(
        self, *command: str, environment: dict[str, str] | None = None, timeout_s: float = CALL_S
    ) -> CompletedProcess[str]:
        return self.namespace.run(
            *command, environment=self.environment() | (environment or {}), timeout_s=timeout_s
        )

    def start(self, *command: str, log: str, environment: dict[str, str] | None = None) -> Program:
        """Not waited for; what it says is in a file of that name."""
        return Program(
            self.namespace.command(*command),
            self.directory / log,
            self.environment() | (environment or {}),
        )


class Client(Protocol):
    def version(self) -> str: ...

    def pull(self, image: str, credentials: Credentials | None = None) -> str:
        """Returns the digest under which the client keeps it: an index's or an image's."""
        ...

    def remove_all(self) -> None:
        """Nothing is left of which the next pull could profit."""
        ...

    def close(self) -> None: ...


class Pusher(Client, Protocol):
    def push(
        self,
        archive: Path,
        image: str,
        credentials: Credentials | None = None,
        timeout_s: float = CALL_S,
    ) -> str:
        """What `docker save` would have written, under the name it has there. Returns its digest
        at the registry.
        """
        ...

    def start_push(
        self, archive: Path, image: str, credentials: Credentials | None = None
    ) -> Program:
        """One that the test may kill."""
        ...


class WithLogin(Client, Protocol):
    """Remembers its users' logins, until they log out: each has a place of their own for them."""

    def login(self, host: str, credentials: Credentials) -> str: ...

    def logout(self, host: str, credentials: Credentials) -> None: ...


def forms(credentials: Credentials) -> tuple[str, ...]:
    """In which a password may turn up: as it is, and as Basic and queries have it."""
    basic = base64.b64encode(credentials.pair.encode()).decode()
    return credentials.password, basic.rstrip("="), quote(credentials.password)


def no_trust(directory: Path) -> dict[str, str]:
    """Go looks in these in place of the system's store."""
    empty = directory / "no-certificates"
    empty.mkdir(exist_ok=True)
    return {"SSL_CERT_FILE": str(empty / "none.pem"), "SSL_CERT_DIR": str(empty)}


def output_of(done: CompletedProcess[str]) -> str:
    if done.returncode:
        raise ClientError(done.stderr.strip() or done.stdout.strip())
    return done.stdout


def digest_in(said: str) -> str:
    match = _DIGEST.search(said)
    assert match is not None, f"no digest in {said!r}"
    return match.group()
