"""A request path of the registry API, parsed and validated into one value.

The engine never sees a raw path again, except in `Other`, which is passed on as it came.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import unquote

from entrepot.errors import InvalidReference
from entrepot.oci.digest import Digest
from entrepot.oci.reference import Reference, Repository, parse_reference, parse_repository


@dataclass(frozen=True, slots=True)
class Ping:
    """`/v2/`"""


@dataclass(frozen=True, slots=True)
class ManifestRoute:
    repository: Repository
    reference: Reference


@dataclass(frozen=True, slots=True)
class BlobRoute:
    repository: Repository
    digest: Digest


@dataclass(frozen=True, slots=True)
class ListRoute:
    """Tags, referrers, or (without a repository) the catalog: small, and soon outdated."""

    repository: Repository | None


@dataclass(frozen=True, slots=True)
class UploadRoute:
    """Any step of a blob upload."""

    repository: Repository


@dataclass(frozen=True, slots=True)
class Legacy:
    """`/v1/`: no registry speaks it any more."""


@dataclass(frozen=True, slots=True)
class Other:
    """Not of the registry API: passed through."""


Route = Ping | ManifestRoute | BlobRoute | ListRoute | UploadRoute | Legacy | Other

# The last marker that fits splits name from action: names may hold "manifests" or "blobs" too.
_ACTION = re.compile(
    r"/v2/(?P<name>.+)/(?:manifests/(?P<reference>[^/]+)|blobs/uploads(?P<upload>/.*)?"
    r"|blobs/(?P<digest>[^/]+)|tags/(?P<tags>list)|referrers/(?P<subject>[^/]+))/?\Z"
)
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f\\]|(?:^|/)\.{1,2}(?:/|\Z)|//")


# Of the paths that are asked for again and again; what is longer costs memory.
_REMEMBERED = 4096
_REMEMBERED_SIZE = 300


def parse_route(path: str) -> Route:
    """`path` without its query. Escapes are undone once; what then hides a traversal is refused."""
    return _remembered(path) if len(path) <= _REMEMBERED_SIZE else _parse(path)


@lru_cache(maxsize=_REMEMBERED)
def _remembered(path: str) -> Route:
    return _parse(path)


def _parse(path: str) -> Route:
    plain = unquote(path)
    if not plain.startswith("/v2"):
        return Legacy() if re.match(r"/v1(/|\Z)", plain) else Other()
    if plain in {"/v2", "/v2/"}:
        return Ping()
    if _FORBIDDEN.search(plain):
        raise InvalidReference(f"not a path of the registry API: {path[:300]!r}")
    if plain == "/v2/_catalog":
        return ListRoute(None)
    match = _ACTION.match(plain)
    if match is None:
        return Other()
    repository = parse_repository(match["name"])
    if match["reference"]:
        return ManifestRoute(repository, parse_reference(match["reference"]))
    if match["digest"]:
        return BlobRoute(repository, Digest.parse(match["digest"]))
    if match["subject"]:
        Digest.parse(match["subject"])
    if match["tags"] or match["subject"]:
        return ListRoute(repository)
    return UploadRoute(repository)
