"""What of a URL may be shown: query parameters by allow-list, never user names or passwords.

Signed URLs carry their right in the query, under names that differ by storage service; a list of
what to hide would always be one name short.
"""

from urllib.parse import urlsplit

_SHOWN = frozenset(
    {
        "artifacttype", "digest", "from", "last", "mount", "n", "ns", "scope", "service", "tag",
    }
)  # fmt: skip
_HIDDEN = "…"


def redact_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return _HIDDEN
    plain = f"{parts.scheme}://{host}{parts.path}" if host else parts.path
    return f"{plain}?{redact_query(parts.query)}" if parts.query else plain


def redact_query(query: str) -> str:
    return "&".join(_redact_pair(pair) for pair in query.split("&"))


def _redact_pair(pair: str) -> str:
    name, equals, _ = pair.partition("=")
    if name.lower() in _SHOWN:
        return pair
    # Without "=" the whole may be the secret.
    return f"{name}={_HIDDEN}" if equals else _HIDDEN
