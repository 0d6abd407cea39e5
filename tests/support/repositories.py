"""What a scripted registry holds, and the right answers about it."""

import fnmatch
import itertools
import json
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import quote

from entrepot.oci.media_type import OCI_INDEX, essence
from tests.support.content import Content, Given, sha256
from tests.support.http_server import Reply, Request
from tests.support.images import Manifest
from tests.support.token_service import json_reply


@dataclass(slots=True)
class Repository:
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)  # media type, body
    tags: dict[str, str] = field(default_factory=dict)  # tag to digest
    blobs: set[str] = field(default_factory=set)

    def add(self, manifest: Manifest, tag: str | None = None) -> None:
        for each in manifest.all_manifests():
            self.manifests[each.digest] = (each.media_type, each.body)
        self.blobs |= manifest.all_blobs().keys()
        if tag is not None:
            self.tags[tag] = manifest.digest

    def resolve(self, reference: str) -> str | None:
        digest = self.tags.get(reference, reference)
        return digest if digest in self.manifests else None


def error_reply(status: int, code: str, **headers: str) -> Reply:
    document = {"errors": [{"code": code, "message": code.lower().replace("_", " ")}]}
    return json_reply(status, document, **headers)


def manifest_reply(repository: Repository, reference: str, request: Request) -> Reply:
    digest = repository.resolve(reference)
    if digest is None:
        return error_reply(404, "MANIFEST_UNKNOWN")
    media_type, body = repository.manifests[digest]
    if not _accepts(request.headers.get("accept", "*/*"), media_type):
        return error_reply(404, "MANIFEST_UNKNOWN")
    headers = {
        "Content-Type": media_type,
        "Docker-Content-Digest": digest,
        "ETag": f'"{digest}"',
    }
    if request.headers.get("if-none-match") == f'"{digest}"':
        return Reply(304, headers)
    return Reply(200, headers, Given(body))


def blob_reply(content: Content, request: Request) -> Reply:
    etag = f'"{content.digest}"'
    headers = {
        "Content-Type": "application/octet-stream",
        "Docker-Content-Digest": content.digest,
        "ETag": etag,
        "Accept-Ranges": "bytes",
    }
    asked = _parse_range(request.headers.get("range", ""))
    if asked is None or request.headers.get("if-range", etag) != etag:
        return Reply(200, headers, content)
    first, last = asked
    start = max(content.size - last, 0) if first is None else first
    stop = content.size if first is None else min(last + 1, content.size)
    if start >= stop:
        headers["Content-Range"] = f"bytes */{content.size}"
        return Reply(416, headers)
    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{content.size}"
    return Reply(206, headers, content, start, stop)


def list_reply(key: str, values: Iterable[str], request: Request, **more: str) -> Reply:
    """Tags or catalog, a page of `n` after `last`."""
    last, limit = request.argument("last"), int(request.argument("n") or 0)
    rest = [value for value in sorted(values) if value > last]
    page = rest[:limit] if limit else rest
    reply = json_reply(200, {**more, key: page})
    if len(page) < len(rest):
        reply.headers["Link"] = f'<{request.path}?last={quote(page[-1])}&n={limit}>; rel="next"'
    return reply


def referrers_reply(repository: Repository, subject: str, request: Request) -> Reply:
    wanted = request.argument("artifactType")
    found = []
    for media_type, body in repository.manifests.values():
        document = json.loads(body)
        artifact_type = document.get("artifactType", "")
        if document.get("subject", {}).get("digest") != subject:
            continue
        if wanted and not fnmatch.fnmatchcase(artifact_type, wanted):
            continue
        found.append(
            {
                "mediaType": media_type,
                "digest": sha256(body),
                "size": len(body),
                "artifactType": artifact_type,
            }
        )
    reply = json_reply(200, {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": found})
    reply.headers["Content-Type"] = OCI_INDEX
    if wanted:
        reply.headers["OCI-Filters-Applied"] = "artifactType"
    return reply


class Uploads:
    """Blob uploads: chunks in order, or all at once."""

    def __init__(self, blobs: dict[str, Content]) -> None:
        self._blobs = blobs
        self._running: dict[str, bytearray] = {}
        self._numbers = itertools.count(1)

    def answer(self, repository: Repository, name: str, upload: str, request: Request) -> Reply:
        match request.method:
            case "POST":
                return self._begin(repository, name, request)
            case "PATCH" | "PUT" if upload in self._running:
                self._running[upload] += request.body
                if request.method == "PATCH":
                    return self._accepted(name, upload)
                return self._finish(repository, name, self._running.pop(upload), request)
            case "GET" if upload in self._running:
                return self._accepted(name, upload, status=204)
            case "DELETE" if self._running.pop(upload, None) is not None:
                return Reply(204)
        return error_reply(404, "BLOB_UPLOAD_UNKNOWN")

    def _begin(self, repository: Repository, name: str, request: Request) -> Reply:
        mounted = request.argument("mount")
        if mounted in self._blobs:
            repository.blobs.add(mounted)
            return _created(f"/v2/{name}/blobs/{mounted}", mounted)
        if request.argument("digest"):
            return self._finish(repository, name, bytearray(request.body), request)
        upload = str(next(self._numbers))
        self._running[upload] = bytearray()
        return self._accepted(name, upload)

    def _accepted(self, name: str, upload: str, status: int = 202) -> Reply:
        size = len(self._running[upload])
        return Reply(
            status,
            {
                "Location": f"/v2/{name}/blobs/uploads/{upload}",
                "Range": f"0-{max(size - 1, 0)}",
                "Docker-Upload-UUID": upload,
            },
        )

    def _finish(
        self, repository: Repository, name: str, body: bytearray, request: Request
    ) -> Reply:
        content = Given(bytes(body))
        if content.digest != request.argument("digest"):
            return error_reply(400, "DIGEST_INVALID")
        self._blobs[content.digest] = content
        repository.blobs.add(content.digest)
        return _created(f"/v2/{name}/blobs/{content.digest}", content.digest)


def put_manifest(repository: Repository, name: str, reference: str, request: Request) -> Reply:
    digest = sha256(request.body)
    document = json.loads(request.body)
    named = [document.get("config", {}), *document.get("layers", [])]
    if any(each and each["digest"] not in repository.blobs for each in named):
        return error_reply(404, "MANIFEST_BLOB_UNKNOWN")
    media_type = essence(request.headers.get("content-type", ""))
    repository.manifests[digest] = (media_type, request.body)
    if ":" not in reference:
        repository.tags[reference] = digest
    reply = _created(f"/v2/{name}/manifests/{digest}", digest)
    if "subject" in document:
        reply.headers["OCI-Subject"] = document["subject"]["digest"]
    return reply


def _created(location: str, digest: str) -> Reply:
    return Reply(201, {"Location": location, "Docker-Content-Digest": digest})


def _accepts(accept: str, media_type: str) -> bool:
    return any(fnmatch.fnmatchcase(media_type, essence(pattern)) for pattern in accept.split(","))


def _parse_range(value: str) -> tuple[int | None, int] | None:
    """First and last byte; of a suffix its length alone; None for what means no single range."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", value)
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    return (int(first) if first else None), int(last or sys.maxsize)
