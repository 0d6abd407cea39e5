"""The token dance and requests by hand, with curl: all that a client is told can be looked at."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

from tests.e2e.clients import Credentials
from tests.e2e.lab import Lab
from tests.support.client import ACCEPT

_PARAMETER = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True, slots=True)
class Said:
    status: int
    head: str
    body: bytes


class Curl:
    """Through the proxy to one registry. Keeps what it has heard."""

    def __init__(self, lab: Lab, host: str, directory: Path) -> None:
        self._lab = lab
        self._host = host
        self._body = directory / "curl-body"
        self.heard: list[Said] = []

    def ask(self, path: str, *arguments: str) -> Said:
        types = ("--header", f"Accept: {ACCEPT}")
        return self._fetch(f"https://{self._host}{path}", (*types, *arguments))

    def bearer(
        self, repository: str, credentials: Credentials | None, actions: str = "pull"
    ) -> tuple[str, ...]:
        """Arguments that prove who asks; none where no token is given."""
        token = self.token(repository, credentials, actions)
        return ("--header", f"Authorization: Bearer {token}") if token else ()

    def token(self, repository: str, credentials: Credentials | None, actions: str = "pull") -> str:
        """From where the challenge says."""
        challenge = dict(_PARAMETER.findall(self.ask("/v2/").head))
        query = {
            "service": challenge["service"],
            "scope": f"repository:{repository}:{actions}",
        }
        user = [] if credentials is None else ["--user", credentials.pair]
        said = self._fetch(f"{challenge['realm']}?{urlencode(query)}", user)
        return str(json.loads(said.body)["token"]) if said.status == 200 else ""

    def _fetch(self, url: str, arguments: Sequence[str]) -> Said:
        self._body.unlink(missing_ok=True)
        head = self._lab.curl("--output", str(self._body), "--dump-header", "-", *arguments, url)
        # The first is CONNECT's.
        status = int([line.split()[1] for line in head.splitlines() if line[:5] == "HTTP/"][-1])
        body = self._body.read_bytes() if self._body.exists() else b""
        said = Said(status, head, body)
        self.heard.append(said)
        return said
