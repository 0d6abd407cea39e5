"""The headers that answers from the cache carry."""

from collections.abc import Mapping
from enum import Enum

from entrepot.engine.message import Response, Trace
from entrepot.oci.byte_range import ByteRange
from entrepot.oci.digest import Digest

_MAX_DIGITS = 18  # longer numbers are the length of nothing
API_VERSION = {"Docker-Distribution-Api-Version": "registry/2.0"}


class CacheStatus(Enum):
    """How the cache took part (RFC 9211 `Cache-Status`), and the word for logs and metrics."""

    HIT = ("hit", "hit")
    REVALIDATED = ("revalidated", "hit; detail=revalidated")
    STALE = ("stale", "fwd=stale; detail=upstream-unavailable")
    STALE_UNASKED = ("stale", "hit; detail=upstream-unavailable")
    MISS = ("miss", "fwd=uri-miss; stored")
    COLLAPSED = ("collapsed", "fwd=uri-miss; collapsed")
    BYPASS = ("bypass", "fwd=bypass")
    PASS = ("pass", "fwd=request")

    @property
    def word(self) -> str:
        return self.value[0]

    @property
    def header(self) -> str:
        return f"Entrepot; {self.value[1]}"


def mark(trace: Trace, status: CacheStatus, age_s: float | None = None) -> dict[str, str]:
    """The cache headers of a response, noted in the trace too."""
    trace.cache = status.word
    headers = {"Cache-Status": status.header}
    if age_s is not None:
        headers["Age"] = str(max(0, int(age_s)))
    return headers


def content_headers(digest: Digest, media_type: str) -> dict[str, str]:
    return {
        "Content-Type": media_type,
        "Docker-Content-Digest": str(digest),
        "ETag": f'"{digest}"',
        **API_VERSION,
    }


def partial(response: Response, span: ByteRange, size: int) -> Response:
    response.status = 206
    response.headers["Content-Range"] = span.content_range(size)
    response.length = len(span)
    return response


def length_of(headers: Mapping[str, str]) -> int | None:
    """What an upstream announces, if it does."""
    length = headers.get("Content-Length", "")
    return int(length) if length.isdecimal() and len(length) <= _MAX_DIGITS else None


def matches_etag(header: str | None, digest: Digest) -> bool:
    """`If-None-Match` and `If-Range`: weak comparison does no harm to immutable content."""
    if not header:
        return False
    tags = {tag.strip().removeprefix("W/").strip('"') for tag in header.split(",")}
    return str(digest) in tags or "*" in tags
