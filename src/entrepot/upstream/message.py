"""What is asked of a registry, and its answer."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import aiohttp
from multidict import CIMultiDict

from entrepot.errors import InvalidReference, UpstreamError
from entrepot.oci.reference import Repository
from entrepot.upstream.realm import Origin
from entrepot.upstream.redact import redact_url

PIECE = 1 << 20
_METHOD = re.compile(r"[A-Z]{1,20}\Z")
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+\Z")
_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*\Z")
# Visible ASCII without "#": what may stand in a request line.
_TARGET = re.compile(r"/[\x21\x22\x24-\x7e]*\Z")

# RFC 9110 section 7.6.1, and what proxies and clients leave behind.
_HOP_BY_HOP = frozenset(
    {
        "connection", "keep-alive", "proxy-authenticate", "proxy-authorization",
        "proxy-authentication-info", "proxy-connection", "te", "trailer", "transfer-encoding",
        "upgrade",
    }
)  # fmt: skip
# Said by this package itself, or by nobody.
_OURS = frozenset(
    {"accept-encoding", "authorization", "content-length", "expect", "host", "user-agent"}
)
# Lists by their grammar: several lines mean the same as one with commas (RFC 9110 section 5.3).
_LISTS = frozenset({"cache-control", "link", "vary", "via", "warning", "www-authenticate"})


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class UpstreamRequest:
    method: str
    path: str  # raw path and query as the client sent it, begins with /
    headers: Mapping[str, str]  # what is to be sent on
    repository: Repository | None = None  # for the token's scope; None: no scope
    actions: str = "pull"  # of the scope: "pull", "pull,push", "delete", "*"
    mounted_from: Repository | None = None  # read besides, by who mounts its blob
    # The client's own; then it alone is used, as it is, towards the registry's own endpoints.
    authorization: str | None = None
    is_anonymous: bool = False  # without any right at all, and without asking for one
    # Of somebody whom no credentials of the operator serve: with a token for nobody, if any.
    is_stranger: bool = False
    # A body that may take long: such leave some connections to what is short.
    is_bulk: bool = False
    body: AsyncIterator[bytes] | None = None
    content_length: int | None = None
    # Bounds the whole of it, tokens and redirects included, until the answer begins.
    header_timeout_s: float | None = None

    def __post_init__(self) -> None:
        if not _METHOD.match(self.method):
            raise InvalidReference("not an HTTP method that can be sent on")
        if not _TARGET.match(self.path):
            raise InvalidReference(f"not a path that can be sent on: {redact_url(self.path)!r}")

    def __repr__(self) -> str:
        return f"UpstreamRequest({self.method} {redact_url(self.path)})"

    @property
    def is_read(self) -> bool:
        return self.method in {"GET", "HEAD"}


def sendable(headers: Mapping[str, str]) -> CIMultiDict[str]:
    """What of a client's headers goes on: end to end, and not ours to say."""
    named = {name.strip().lower() for name in headers.get("Connection", "").split(",")}
    kept: CIMultiDict[str] = CIMultiDict()
    for name, value in headers.items():
        if not _NAME.match(name) or not _VALUE.match(value):
            raise InvalidReference("not a header that can be sent on")
        if name.lower() not in _HOP_BY_HOP | _OURS | named:
            kept[name] = value
    return kept


@dataclass(frozen=True, slots=True)
class RealmAnswer:
    """What a token service said, in full."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


class UpstreamResponse:
    """An answer whose body is still coming. To be closed by whoever got it."""

    def __init__(
        self,
        answer: aiohttp.ClientResponse,
        *,
        origin: Origin,
        read_timeout_s: float,
    ) -> None:
        self.status = answer.status
        self.headers: Mapping[str, str] = _end_to_end(answer)
        self.origin = origin
        self.final_host = str(origin)  # after redirects
        self._answer = answer
        self._read_timeout_s = read_timeout_s
        self._received: Callable[[int], None] = lambda _: None
        self._broke: Callable[[], None] = lambda: None
        self._closing = AsyncExitStack()
        self._failure = ""

    def __repr__(self) -> str:
        return f"<UpstreamResponse {self.status} of {self.final_host}>"

    def when_closed(self, callback: Callable[[], Awaitable[None]]) -> None:
        self._closing.push_async_callback(callback)

    def count_with(self, received: Callable[[int], None], broke: Callable[[], None]) -> None:
        self._received, self._broke = received, broke

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes, never decoded, in pieces of at most 1 MiB."""
        try:
            while piece := await self._next():
                self._received(len(piece))
                yield piece
        finally:
            await self.aclose()

    async def _next(self) -> bytes:
        if not self._failure:
            try:
                async with asyncio.timeout(self._read_timeout_s):
                    return await self._answer.content.read(PIECE)
            except TimeoutError:
                self._failure = f"sent nothing for {self._read_timeout_s:g} s"
            except (aiohttp.ClientPayloadError, EOFError):
                self._failure = "ended the answer before it was whole"
            except (aiohttp.ClientError, OSError):
                self._failure = "broke the connection off"
            if rest := self._left_over():
                return rest
        if rescued := self._rescue():
            return rescued
        # Outside of the handlers: the causes' texts hold URLs, whose queries may be secrets.
        self._broke()
        await self.aclose()
        raise UpstreamError(f"{self.final_host}: {self._failure}")

    def _left_over(self) -> bytes:
        """What came before it broke: aiohttp's reader raises rather than give out what it holds,
        up to half a MiB. An upstream that breaks off again and again would get us nowhere.
        """
        return self._answer.content._read_nowait(-1)  # noqa: SLF001 - the public ones raise

    def _rescue(self) -> bytes:
        """What had arrived before the break. aiohttp reports the break first, and has no public way
        to the rest; without it, an upstream that resets early and often would never get on.
        """
        if self._answer.content.exception() is None:
            return b""
        return self._answer.content._read_nowait(PIECE)  # noqa: SLF001 - see above

    async def read(self, limit: int) -> bytes:
        """The whole body, or UpstreamError where it is larger."""
        body = bytearray()
        async with self:
            while piece := await self._next():
                self._received(len(piece))
                body += piece
                if len(body) > limit:
                    raise UpstreamError(f"{self.final_host}: the answer is larger than {limit} B")
        return bytes(body)

    async def aclose(self) -> None:
        # What was not read to its end cannot carry another request; what was is back in the pool.
        if not self._answer.closed:
            self._answer.close()
        await self._closing.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()


def _end_to_end(answer: aiohttp.ClientResponse) -> CIMultiDict[str]:
    """Without Set-Cookie: what one client is told would be kept for others."""
    named = {name.strip().lower() for name in answer.headers.get("Connection", "").split(",")}
    kept: CIMultiDict[str] = CIMultiDict()
    for name, value in answer.headers.items():
        lower = name.lower()
        if lower in _HOP_BY_HOP | named | {"set-cookie"}:
            continue
        if lower in kept:
            if lower in _LISTS:
                kept[name] = f"{kept[name]}, {value}"
            continue
        kept[name] = value
    return kept
