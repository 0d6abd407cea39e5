"""What a scripted registry and its CDN answer when nothing goes wrong."""

import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tests.support.http_server import Reply, Request
from tests.support.repositories import (
    Repository,
    Uploads,
    blob_reply,
    error_reply,
    list_reply,
    manifest_reply,
    put_manifest,
    referrers_reply,
)
from tests.support.token_service import TOKEN_PATH, TokenService

if TYPE_CHECKING:
    from tests.support.content import Content

_ACTION = re.compile(
    r"/v2/(?P<name>.+)/(?:manifests/(?P<reference>[^/]+)|blobs/uploads/(?P<upload>[^/]*)"
    r"|blobs/(?P<digest>[^/]+)|tags/(?P<tags>list)|referrers/(?P<subject>[^/]+))\Z"
)


@dataclass(frozen=True, slots=True)
class Redirects:
    """How blobs reach the client: over so many hops, the last of which carries a signature."""

    hops: int = 1
    starts_relative: bool = False  # hops before the last stay on the registry, not on the CDN
    is_one_time: bool = True  # a signature that was used is refused


class Origins(Protocol):
    """Where registry and CDN are known to clients."""

    @property
    def url(self) -> str: ...

    @property
    def cdn_url(self) -> str: ...


class RegistryAnswers:
    def __init__(self, origins: Origins, tokens: TokenService) -> None:
        self.repositories: dict[str, Repository] = {}
        self.blobs: dict[str, Content] = {}
        self.redirects: Redirects | None = None
        self.realm = ""  # default: a path of the registry's own
        self._origins = origins
        self._tokens = tokens
        self._uploads = Uploads(self.blobs)
        self._signatures: dict[str, tuple[str, str]] = {}  # to (method, digest)

    def at_registry(self, request: Request) -> Reply:
        path = request.path
        if path == TOKEN_PATH:
            return self._tokens.answer(request)
        if path.startswith("/hop/"):
            return self._hop(request)
        return self._api_reply(request, path, _ACTION.match(path))

    def _api_reply(self, request: Request, path: str, match: re.Match[str] | None) -> Reply:
        name = match["name"] if match else ""
        action = "pull" if request.method in {"GET", "HEAD"} else "push"
        if not self._tokens.allows(request, name, action):
            challenge = self._tokens.challenge(
                self.realm or self._origins.url + TOKEN_PATH, name, action
            )
            return error_reply(401, "UNAUTHORIZED", **{"WWW-Authenticate": challenge})
        if path == "/v2/":
            return Reply(headers={"Docker-Distribution-Api-Version": "registry/2.0"})
        if path == "/v2/_catalog":
            return list_reply("repositories", self.repositories, request)
        if match is None:
            return error_reply(404, "NOT_FOUND")
        if request.method not in {"GET", "HEAD"}:
            return self._write(match, request)
        if name not in self.repositories:
            return error_reply(404, "NAME_UNKNOWN")
        return self._read(match, request)

    def _read(self, match: re.Match[str], request: Request) -> Reply:
        repository = self.repositories[match["name"]]
        if match["reference"]:
            return manifest_reply(repository, match["reference"], request)
        if match["tags"]:
            return list_reply("tags", repository.tags, request, name=match["name"])
        if match["subject"]:
            return referrers_reply(repository, match["subject"], request)
        if match["digest"] not in repository.blobs:
            return error_reply(404, "BLOB_UNKNOWN")
        if self.redirects is not None:
            return self._redirected(request.method, match["digest"], self.redirects.hops)
        return blob_reply(self.blobs[match["digest"]], request)

    def _write(self, match: re.Match[str], request: Request) -> Reply:
        name = match["name"]
        repository = self.repository(name)
        if match["reference"] and request.method == "PUT":
            return put_manifest(repository, name, match["reference"], request)
        if match["upload"] is not None:
            return self._uploads.answer(repository, name, match["upload"], request)
        if match["reference"] and request.method == "DELETE":
            repository.tags.pop(match["reference"], None)
            repository.manifests.pop(match["reference"], None)
            return Reply(202)
        return error_reply(405, "UNSUPPORTED")

    # How it redirects

    def _redirected(self, method: str, digest: str, hops_left: int) -> Reply:
        assert self.redirects is not None
        key = secrets.token_urlsafe(16)
        self._signatures[key] = (method, digest)
        if hops_left == 1:
            location = f"{self._origins.cdn_url}/signed/{digest}?X-Signature={key}"
        elif self.redirects.starts_relative or hops_left < self.redirects.hops:
            location = f"/hop/{hops_left - 1}?X-Signature={key}"
        else:
            location = f"{self._origins.cdn_url}/hop/{hops_left - 1}?X-Signature={key}"
        return Reply(307, {"Location": location})

    def _hop(self, request: Request) -> Reply:
        signed = self._signatures.get(request.argument("X-Signature"))
        if signed is None:
            return error_reply(403, "DENIED")
        return self._redirected(*signed, int(request.path.removeprefix("/hop/")))

    def at_cdn(self, request: Request) -> Reply:
        if "authorization" in request.headers:
            return error_reply(400, "ONLY_ONE_AUTH_MECHANISM_ALLOWED")  # as S3 says it
        if request.path.startswith("/hop/"):
            return self._hop(request)
        key = request.argument("X-Signature")
        method, digest = self._signatures.get(key, ("", ""))
        if request.method != method or not request.path.endswith(digest):
            return error_reply(403, "SIGNATURE_DOES_NOT_MATCH")
        if self.redirects is not None and self.redirects.is_one_time:
            del self._signatures[key]
        return blob_reply(self.blobs[digest], request)

    def repository(self, name: str) -> Repository:
        return self.repositories.setdefault(name, Repository())
