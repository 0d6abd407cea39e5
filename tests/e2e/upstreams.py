"""Registries of Debian's docker-registry as the lab has them, and what they have been asked."""

import http.client
import re
from pathlib import Path
from typing import Any

import yaml

from tests.support.distribution import Distribution
from tests.support.pki import ServerCertificate
from tests.support.processes import Seat
from tests.support.token_server import ISSUER, TokenServer

_REQUEST = re.compile(r'"(?P<method>[A-Z]+) (?P<path>\S+) HTTP/1\.1" (?P<status>\d+) ')
_BLOB = re.compile(r"/v2/(?P<repository>.+)/blobs/[a-z0-9]+:")
_TARGET = re.compile(r"/v2/(?P<repository>.+)/(?:blobs|manifests)/")


class TokenDistribution(Distribution):
    """Asks for the tokens of a token server, whose key an authority vouches for."""

    def __init__(
        self,
        directory: Path,
        tokens: TokenServer,
        trusted: Path,
        *,
        seat: Seat,
        certificate: ServerCertificate,
        service: str,
    ) -> None:
        super().__init__(directory, seat=seat, certificate=certificate)
        self._tokens = tokens
        self._service = service
        asked = {
            "realm": tokens.realm,
            "service": service,
            "issuer": ISSUER,
            "rootcertbundle": str(trusted),
        }
        config = self._config() | {"auth": {"token": asked}}
        (directory / "config.yml").write_text(yaml.safe_dump(config))

    def _exchange(
        self, method: str, target: str, body: bytes, headers: dict[str, str]
    ) -> http.client.HTTPResponse:
        """With every right in the repository that is meant."""
        access: list[dict[str, Any]] = []
        if match := _TARGET.match(target):
            name = match["repository"]
            access.append({"type": "repository", "name": name, "actions": ["pull", "push"]})
        token = self._tokens.token(access, self._service, "the test")
        own = {"Authorization": f"Bearer {token}", **headers}
        return super()._exchange(method, target, body, own)


def blob_gets(registry: Distribution, repository: str) -> int:
    """How many blobs of the repository it has sent."""
    return len(_done(registry, repository, {"GET"}, _BLOB))


def writes(registry: Distribution, repository: str) -> list[str]:
    """What it has taken for the repository."""
    return _done(registry, repository, {"POST", "PATCH", "PUT", "DELETE"}, _TARGET)


def _done(
    registry: Distribution, repository: str, methods: set[str], path: re.Pattern[str]
) -> list[str]:
    return [
        asked.group()
        for asked in _REQUEST.finditer(registry.log)
        if asked["method"] in methods
        and asked["status"].startswith("2")
        and (target := path.match(asked["path"]))
        and target["repository"] == repository
    ]


def uploaded_bytes(registry: Distribution) -> int:
    """Of uploads that have not come to their end."""
    repositories = registry._storage / "docker/registry/v2/repositories"
    return sum(file.stat().st_size for file in repositories.glob("**/_uploads/*/data"))


def stored_bytes(registry: Distribution) -> int:
    """Of all its blobs."""
    blobs = registry._storage / "docker/registry/v2/blobs"
    return sum(file.stat().st_size for file in blobs.glob("*/*/*/data"))
