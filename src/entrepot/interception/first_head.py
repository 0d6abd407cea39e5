"""What a connection's first head says, before anything parses it whole, and how it is passed on."""

import re
from functools import lru_cache
from urllib.parse import urlsplit

HEAD_END = b"\r\n\r\n"
_ORIGIN = re.compile(rb"\Ahttp://[^/?#]*", re.IGNORECASE)
_AUTHORITY_MAX = 300  # a DNS name has 253
_NO_AUTHORITY = frozenset(" /?#@")
# Of a request in absolute-form: said to us, not to that host. Its Host counts for nothing
# (RFC 9112 section 3.2.2).
_FOR_US = (b"proxy-", b"connection:", b"keep-alive:", b"host:")


def authority(text: str, default_port: int | None) -> tuple[str, int] | None:
    return _authority(text, default_port) if len(text) <= _AUTHORITY_MAX else None


@lru_cache(maxsize=1000)  # all clients ask for the same few, with each connection anew
def _authority(text: str, default_port: int | None) -> tuple[str, int] | None:
    if not text.isascii() or not text.isprintable() or not _NO_AUTHORITY.isdisjoint(text):
        return None
    try:
        parts = urlsplit(f"//{text}")
        host = (parts.hostname or "").rstrip(".")
        port = default_port if parts.port is None else parts.port
    except ValueError:
        return None
    return (host, port) if host and port else None


def method_and_target(line: bytes) -> tuple[bytes, str]:
    method, _, rest = line.partition(b" ")
    return method, rest.partition(b" ")[0].decode("latin-1")


def is_proxied(line: bytes) -> bool:
    """Whether it is to lead anywhere but to the proxy's own pages."""
    method, target = method_and_target(line)
    return method == b"CONNECT" or not target.startswith("/")


def proxy_authorization(fields: bytes) -> str:
    for line in fields.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"proxy-authorization":
            return value.decode("latin-1")
    return ""


def in_origin_form(data: bytes) -> bytes:
    """`GET http://host/path HTTP/1.1` as the host itself wants to hear it: `GET /path HTTP/1.1`."""
    line, separator, rest = data.partition(b"\r\n")
    method, target, version = [*line.split(b" "), b"", b""][:3]
    path = _ORIGIN.sub(b"", target).partition(b"#")[0]
    if not path.startswith(b"/"):
        path = b"/" + path
    return b" ".join((method, path, version)) + separator + rest


def single(data: bytes, named: str) -> bytes:
    """One request a connection: the next may be for another host, and clients send it down the same
    connection (Go's do).
    """
    head, separator, rest = data.partition(HEAD_END)
    line, *fields = head.split(b"\r\n")
    kept = [field for field in fields if not field.lower().startswith(_FOR_US)]
    host = b"Host: " + named.encode("latin-1")
    return b"\r\n".join([line, host, *kept, b"Connection: close"]) + separator + rest
