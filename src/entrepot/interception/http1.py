"""HTTP/1.1 as a server speaks it: bytes to requests, responses to bytes. No I/O.

llhttp (httptools) parses, and refuses both lengths at once, bad chunks and stray line ends. What
it lets pass and we do not: heads without bound, two Hosts, unknown transfer codings, obsolete
folding, control characters.
"""

import re
import time
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import lru_cache

import httptools

from entrepot.oci.error_body import ErrorCode, error_body

# Far above what clients send (a docker request's head has under 2 kB, tokens of GitLab 4 kB).
MAX_HEAD = 64 << 10
MAX_TARGET = 16 << 10
MAX_HEADERS = 128

_TARGET = re.compile(rb"[\x21-\x7e]+\Z")
_METHOD = re.compile(r"[A-Z]{1,20}\Z")
_VERSIONS = frozenset({"1.0", "1.1"})  # llhttp knows 0.9 and 2.0 too
_BAD_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")

_DENIALS = frozenset({401, 403, 407})

REASONS = {
    200: "OK", 201: "Created", 202: "Accepted", 204: "No Content", 206: "Partial Content",
    301: "Moved Permanently", 302: "Found", 303: "See Other", 304: "Not Modified",
    307: "Temporary Redirect", 308: "Permanent Redirect", 400: "Bad Request", 401: "Unauthorized",
    403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed",
    407: "Proxy Authentication Required", 408: "Request Timeout",
    411: "Length Required", 413: "Content Too Large", 414: "URI Too Long",
    416: "Range Not Satisfiable", 421: "Misdirected Request", 429: "Too Many Requests",
    431: "Request Header Fields Too Large", 500: "Internal Server Error", 501: "Not Implemented",
    502: "Bad Gateway", 503: "Service Unavailable", 504: "Gateway Timeout",
}  # fmt: skip


class BadRequest(Exception):  # noqa: N818 - named for what it is
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(slots=True)
class Head:
    method: str
    target: str
    headers: list[tuple[str, str]]
    is_http10: bool
    keep_alive: bool
    content_length: int | None = None
    is_chunked: bool = False

    @property
    def has_body(self) -> bool:
        return self.is_chunked or bool(self.content_length)

    @property
    def expects_continue(self) -> bool:
        if self.is_http10:  # RFC 9110 section 10.1.1: such a client cannot mean it
            return False
        return any(n == "expect" and v.lower() == "100-continue" for n, v in self.headers)


@dataclass(frozen=True, slots=True)
class BodyData:
    data: bytes


@dataclass(frozen=True, slots=True)
class BodyEnd:
    pass


Event = Head | BodyData | BodyEnd


@dataclass(slots=True)
class RequestParser:
    """Feed it bytes, get events; raises BadRequest, after which it is of no more use."""

    _events: list[Event] = field(default_factory=list)
    _target: bytes = b""
    _headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    _unheard: int = 0  # bytes fed since the last event
    _fields_size: int = 0
    _in_head: bool = False
    _parser: httptools.HttpRequestParser = field(init=False)

    def __post_init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)

    @property
    def is_in_head(self) -> bool:
        """Something of a head is here, but not all of it."""
        return self._in_head

    def feed(self, data: bytes) -> list[Event]:
        self._unheard += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            raise BadRequest(400, "CONNECT and Upgrade are not spoken here") from None
        except httptools.HttpParserCallbackError as error:
            cause = error.__context__
            raise (
                cause if isinstance(cause, BadRequest) else BadRequest(400, "bad request")
            ) from None
        except httptools.HttpParserError as error:
            raise BadRequest(400, f"not HTTP/1.1: {error}") from None
        events, self._events = self._events, []
        if events:
            self._unheard = 0
        elif self._unheard > MAX_HEAD:
            # A head, a trailer or a chunk extension that does not end: httptools keeps what it has
            # of a field.
            raise BadRequest(431, "the request's head is too large")
        return events

    # Called by httptools.

    def on_message_begin(self) -> None:
        self._target = b""
        self._headers = []
        self._fields_size = 0
        self._in_head = True

    def on_url(self, url: bytes) -> None:
        self._target += url
        if len(self._target) > MAX_TARGET:
            raise BadRequest(414, "the request target is too long")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields_size += len(name) + len(value)
        if len(self._headers) >= MAX_HEADERS or self._fields_size > MAX_HEAD:
            raise BadRequest(431, "the request's head is too large")
        if _BAD_VALUE.search(value):
            raise BadRequest(400, "a header field holds control characters")
        self._headers.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._events.append(self._head())

    def on_body(self, data: bytes) -> None:
        self._events.append(BodyData(data))

    def on_message_complete(self) -> None:
        self._events.append(BodyEnd())

    def _head(self) -> Head:
        method = self._parser.get_method().decode("latin-1")
        version = self._parser.get_http_version()
        is_plausible = _METHOD.match(method) and _TARGET.match(self._target)
        if not is_plausible or version not in _VERSIONS:
            raise BadRequest(400, "bad request line")
        head = Head(
            method=method,
            target=self._target.decode("ascii"),
            headers=[(n.decode("latin-1"), v.decode("latin-1")) for n, v in self._headers],
            is_http10=version == "1.0",
            keep_alive=self._parser.should_keep_alive(),
        )
        return _with_length(head)


def _with_length(head: Head) -> Head:
    hosts = [value for name, value in head.headers if name == "host"]
    if len(hosts) > 1 or (not hosts and not head.is_http10):
        raise BadRequest(400, "exactly one Host is expected")
    codings = [value for name, value in head.headers if name == "transfer-encoding"]
    lengths = {value for name, value in head.headers if name == "content-length"}
    if codings:
        # RFC 9112 section 6.1: a message with both could be read in two ways.
        if lengths or head.is_http10 or [c.strip().lower() for c in codings] != ["chunked"]:
            raise BadRequest(400, "ambiguous length of the request body")
        head.is_chunked = True
    elif lengths:
        (value, *others) = lengths
        if others or not value.isdecimal() or len(value) > 18:  # noqa: PLR2004 - int() is quadratic
            raise BadRequest(400, "bad Content-Length")
        head.content_length = int(value)
    return head


def response_head(status: int, headers: dict[str, str]) -> bytes:
    """The head of a response; a value with a line end would be two headers, and is cut there."""
    lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Status')}"]
    for name, value in headers.items():
        lines.append(f"{name}: {value}" if value.isprintable() else f"{name}: ")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")


def date() -> str:
    """Of now, as a Date header has it."""
    return _date(int(time.time()))


@lru_cache(maxsize=2)  # answers come many a second
def _date(seconds: int) -> str:
    return formatdate(seconds, usegmt=True)


def refusal(status: int, message: str, also: dict[str, str] | None = None) -> bytes:
    """A whole answer, for what never comes as far as a responder."""
    code = ErrorCode.DENIED if status in _DENIALS else ErrorCode.UNSUPPORTED
    if status == 429:  # noqa: PLR2004
        code = ErrorCode.TOOMANYREQUESTS
    elif status >= 500:  # noqa: PLR2004
        code = ErrorCode.UNAVAILABLE
    body = error_body(code, message)
    headers = {
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Connection": "close",
    }
    return response_head(status, headers | (also or {})) + body


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
