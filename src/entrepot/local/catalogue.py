"""What a registry says that it holds, asked page by page with the proxy's own rights."""

import asyncio
import json
import re
import secrets
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

from entrepot.errors import InvalidReference, UpstreamError
from entrepot.local.failure import JobFailed, together
from entrepot.oci.digest import Digest
from entrepot.oci.manifest import Descriptor, Manifest
from entrepot.oci.media_type import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    DOCKER_SCHEMA1,
    OCI_INDEX,
    OCI_MANIFEST,
)
from entrepot.oci.reference import Reference, Repository, Tag, parse_repository, parse_tag
from entrepot.upstream.client import Upstream
from entrepot.upstream.message import UpstreamRequest

_ACCEPT = f"{OCI_INDEX}, {OCI_MANIFEST}, {DOCKER_LIST}, {DOCKER_MANIFEST}, {DOCKER_SCHEMA1}"
_NEXT = re.compile(r'<([^>]+)>\s*;[^,]*\brel="?next"?')
_DOCUMENT_MAX = 8 << 20
# Questions at the same time: a registry on one disk has little to gain from more.
_AT_ONCE = 8
_OK, _ACCEPTED, _CREATED, _NOT_FOUND, _NOT_ALLOWED = 200, 202, 201, 404, 405
_REFUSALS = frozenset({401, 403})


@dataclass(frozen=True, slots=True)
class Version:
    """A manifest or index as it is stored: bytes of that, and what it names."""

    digest: Digest
    media_type: str
    size: int
    children: tuple[Descriptor, ...] = ()
    blobs: tuple[Descriptor, ...] = ()
    platforms: tuple[str, ...] = ()  # of the children of an index
    subject: Digest | None = None


class Catalogue:
    """JobFailed where the registry does not answer, or not as it should."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._deletes = False

    async def repositories(self) -> AsyncIterator[Repository]:
        async for page in self._pages("/v2/_catalog"):
            for name in page.get("repositories") or ():
                yield parse_repository(name)

    async def tags(self, repository: Repository) -> list[Tag]:
        """None of what is not there. In the order of their names: 2.x has none."""
        found = [
            parse_tag(tag)
            async for page in self._pages(f"/v2/{repository}/tags/list", repository)
            for tag in page.get("tags") or ()
        ]
        return sorted(set(found))

    async def tagged(self, repository: Repository) -> dict[Tag, Digest]:
        """Where all tags point."""
        tags = await self.tags(repository)
        found = await together(self.resolve(repository, tag) for tag in tags)
        return {tag: digest for tag, digest in zip(tags, found, strict=True) if digest is not None}

    async def reached(
        self, repository: Repository, roots: Iterable[Digest]
    ) -> dict[Digest, Version]:
        """The roots, and what they name."""
        found: dict[Digest, Version] = {}
        waiting = set(roots)
        while waiting:
            found |= await self.versions(repository, waiting)
            named = {child.digest for version in found.values() for child in version.children}
            waiting = named - found.keys() - (waiting - found.keys())
        return found

    async def resolve(self, repository: Repository, reference: Reference) -> Digest | None:
        status, headers, _ = await self._ask(
            "HEAD", f"/v2/{repository}/manifests/{reference}", repository
        )
        if status == _NOT_FOUND:
            return None
        self._expect(status, _OK, f"{repository} {reference}")
        return Digest.parse(headers.get("Docker-Content-Digest", ""))

    async def version(self, repository: Repository, reference: Reference) -> Version | None:
        status, headers, body = await self._ask(
            "GET", f"/v2/{repository}/manifests/{reference}", repository
        )
        if status == _NOT_FOUND:
            return None
        self._expect(status, _OK, f"{repository} {reference}")
        named = headers.get("Docker-Content-Digest", "")
        digest = Digest.parse(named) if named else Digest.of(body)
        return _version(digest, headers.get("Content-Type", ""), body)

    async def versions(
        self, repository: Repository, digests: Iterable[Digest]
    ) -> dict[Digest, Version]:
        """Those that are there."""
        found = await together(self.version(repository, digest) for digest in digests)
        return {version.digest: version for version in found if version is not None}

    async def document(self, repository: Repository, digest: Digest) -> dict[str, Any]:
        """A blob that is JSON, such as an image's configuration; empty for what is none."""
        status, _, body = await self._ask("GET", f"/v2/{repository}/blobs/{digest}", repository)
        try:
            value = json.loads(body) if status == _OK else {}
        except (ValueError, RecursionError):
            value = {}
        return value if isinstance(value, dict) else {}

    async def has_blob(self, repository: Repository, digest: Digest) -> bool:
        path = f"/v2/{repository}/blobs/{digest}"
        return (await self._ask("HEAD", path, repository))[0] == _OK

    # Deletions.

    async def check_deletable(self, repository: Repository) -> None:
        """JobFailed unless the registry deletes at all, told by what it says of a digest that
        nothing has.
        """
        if not self._deletes:
            await self.delete(repository, Digest.of(secrets.token_bytes(32)))
            self._deletes = True

    async def delete(self, repository: Repository, digest: Digest) -> bool:
        """With all tags that point to it. Whether it was there."""
        status = await self._delete(repository, digest)
        if status != _NOT_FOUND:
            self._expect(status, _ACCEPTED, f"the deletion of {repository}@{digest}")
        return status == _ACCEPTED

    async def untag(self, repository: Repository, tag: Tag, expected: Digest) -> None:
        """The tag alone. JobFailed where it points elsewhere by now."""
        await self.check_deletable(repository)
        if await self.resolve(repository, tag) != expected:
            raise JobFailed(f"{repository}:{tag} was pushed or deleted meanwhile, and is left")
        if await self._delete(repository, tag) == _ACCEPTED:
            return
        # 2.x deletes by digest only, and with it all tags of that digest. So the tag is made to
        # point to something that is nobody else's.
        decoy = await self._put_decoy(repository, tag)
        was_moved = await self.resolve(repository, tag) != decoy
        await self.delete(repository, decoy)
        if was_moved:
            raise JobFailed(f"{repository}:{tag} was pushed again meanwhile, and is left")

    async def _put_decoy(self, repository: Repository, tag: Tag) -> Digest:
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": [],
            "annotations": {"entrepot.deleted": secrets.token_hex(16)},
        }
        body = json.dumps(document).encode()
        status, _, _ = await self._ask(
            "PUT", f"/v2/{repository}/manifests/{tag}", repository, body=body
        )
        self._expect(status, _CREATED, f"the deletion of {repository}:{tag}")
        return Digest.of(body)

    async def _delete(self, repository: Repository, reference: Reference) -> int:
        path = f"/v2/{repository}/manifests/{reference}"
        status = (await self._ask("DELETE", path, repository))[0]
        if status == _NOT_ALLOWED:
            raise JobFailed(
                "the registry deletes nothing: set storage.delete.enabled: true in its"
                " configuration (REGISTRY_STORAGE_DELETE_ENABLED=true), and restart it"
            )
        return status

    # Questions.

    async def _pages(
        self, path: str, repository: Repository | None = None
    ) -> AsyncIterator[dict[str, Any]]:
        asked: set[str] = set()
        while path and path not in asked:
            asked.add(path)
            status, headers, body = await self._ask("GET", path, repository)
            if status == _NOT_FOUND:
                return
            self._expect(status, _OK, path)
            try:
                page = json.loads(body)
            except ValueError:
                raise JobFailed(f"{path} was not answered with JSON") from None
            yield page if isinstance(page, dict) else {}
            link = _NEXT.search(headers.get("Link", ""))
            parts = urlsplit(urljoin(path, link[1])) if link else urlsplit("")
            path = f"{parts.path}?{parts.query}" if link else ""

    async def _ask(
        self,
        method: str,
        path: str,
        repository: Repository | None,
        *,
        body: bytes | None = None,
    ) -> tuple[int, dict[str, str], bytes]:
        headers = {"Accept": _ACCEPT} if body is None else {"Content-Type": OCI_INDEX}
        request = UpstreamRequest(
            method=method,
            path=path,
            headers=headers,
            repository=repository,
            actions="pull" if method in {"GET", "HEAD"} else "pull,push,delete",
            body=None if body is None else _once(body),
            content_length=None if body is None else len(body),
        )
        try:
            async with self._slots, await self._upstream.send(request) as answer:
                return answer.status, dict(answer.headers), await answer.read(_DOCUMENT_MAX)
        except UpstreamError as error:
            raise JobFailed(str(error)) from error

    def _expect(self, status: int, expected: int, what: str) -> None:
        if status in _REFUSALS:
            raise JobFailed(
                f"the registry refuses {what} ({status}): it wants a user of its own, see"
                " upstream_username and upstream_password_file"
            )
        if status != expected:
            raise JobFailed(f"the registry answers {status} for {what}")


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body


def _version(digest: Digest, media_type: str, body: bytes) -> Version:
    try:
        manifest = Manifest.parse(body, media_type)
    except InvalidReference as error:
        raise JobFailed(f"{digest} is stored as a manifest, and is none: {error}") from error
    document = json.loads(body)
    layers = tuple(_old_layers(document))
    return Version(
        digest,
        manifest.media_type,
        len(body),
        manifest.manifests,
        manifest.blobs + layers,
        tuple(_platforms(document)),
        _subject(document),
    )


def _platforms(document: dict[str, Any]) -> Iterable[str]:
    for child in document.get("manifests") or ():
        platform = platform_of(child.get("platform") if isinstance(child, dict) else None)
        if platform:
            yield platform


def platform_of(said: Any) -> str:
    """`os/architecture[/variant]`; empty for none, and for what is no image (attestations)."""
    parts = [said.get(key) for key in ("os", "architecture", "variant")] if said else []
    words = [part for part in parts if isinstance(part, str) and part]
    return "" if not words or "unknown" in words else "/".join(words)


def _subject(document: dict[str, Any]) -> Digest | None:
    try:
        return Digest.parse(document["subject"]["digest"])
    except (KeyError, TypeError, AttributeError, InvalidReference):
        return None


def _old_layers(document: dict[str, Any]) -> Iterable[Descriptor]:
    """Of schema 1, which 2.x still serves; sizes are not told there."""
    for layer in document.get("fsLayers") or ():
        try:
            yield Descriptor("", Digest.parse(layer["blobSum"]), 0)
        except (KeyError, TypeError, AttributeError, InvalidReference):
            continue
