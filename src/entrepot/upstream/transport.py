"""One HTTP exchange: connections, TLS, parent proxy, address policy.

The only user of aiohttp's session, whose exceptions leave here as `NoAnswer`.
"""

import socket
import ssl
from collections.abc import Buffer, Iterable, Mapping
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import aiohttp
from aiohttp import AddrInfoType
from aiohttp.abc import AbstractResolver
from multidict import CIMultiDict
from yarl import URL

from entrepot import __version__
from entrepot.upstream.address import is_forbidden, own_class, parse_literal
from entrepot.upstream.failure import Broke, Fault, NoAnswer, explain, refused_address
from entrepot.upstream.message import UpstreamResponse
from entrepot.upstream.parent_proxy import Proxy, ProxyRule
from entrepot.upstream.patience import Deadline, Patience
from entrepot.upstream.realm import Origin
from entrepot.upstream.resolver import GuardedResolver

USER_AGENT = f"entrepot/{__version__}"
# Beyond twice this much of unread body a connection is paused: what a slow reader costs.
_READ_BUFFER = 256 << 10
# Signed URLs in Location and what stands in challenges outgrow aiohttp's 8 KiB.
_HEADER_LIMIT = 64 << 10
_KEEP_ALIVE_S = 30.0
_NO_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Hop:
    method: str
    url: URL
    headers: Mapping[str, str]
    patience: Patience
    body: object = None  # bytes, or an iterator of them
    content_length: int | None = None

    def to(self, url: URL) -> "Hop":
        return replace(self, url=url)

    def with_authorization(self, value: str | None) -> "Hop":
        if value is None:
            return self
        headers = CIMultiDict(self.headers)
        headers["Authorization"] = value
        return replace(self, headers=headers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What makes one registry's connections different from another's."""

    own: frozenset[Origin]
    tls: ssl.SSLContext
    proxy: ProxyRule
    resolver: AbstractResolver
    ipv6: bool = True


@dataclass(slots=True, eq=False)
class _Pool:
    """Kept until the last answer that came over it is closed, however long ago it was retired."""

    session: aiohttp.ClientSession
    users: int = 0
    is_retired: bool = False

    async def leave(self) -> None:
        self.users -= 1
        if self.is_retired and self.users == 0:
            await self.session.close()


class Transport:
    """Of one registry: its pooled connections, also to where it redirects and to its realm.

    Reads and writes have pools of their own. A pooled connection may be dead without our knowing;
    a read is then sent again, by aiohttp. A write must not be, whatever its method, so each has a
    fresh connection.
    """

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        proxies = [setup.proxy.proxy.origin] if setup.proxy.proxy else []
        self._resolver = GuardedResolver(setup.resolver, own=setup.own, proxies=proxies)
        self._own_hosts = {origin.host for origin in setup.own}
        for host in self._own_hosts:
            if (literal := parse_literal(host)) is not None:
                self._resolver.own_classes.add(own_class(literal))
        self._reading: _Pool | None = None
        self._writing: _Pool | None = None
        self._retired: list[_Pool] = []
        self._is_closed = False

    async def exchange(self, hop: Hop) -> UpstreamResponse:
        """Any answer, with redirects as they are."""
        origin = Origin.of(hop.url)
        if self._is_closed:
            raise _shutting_down(origin, was_sent=False)
        self._judge(origin)
        pool = self._pool(hop.method)
        pool.users += 1
        try:
            answer = await self._request(pool, hop, origin)
        except BaseException:
            await pool.leave()
            raise
        response = UpstreamResponse(answer, origin=origin, read_timeout_s=hop.patience.read_s)
        response.when_closed(pool.leave)
        return response

    async def aclose(self) -> None:
        self._is_closed = True
        pools = [pool for pool in (self._reading, self._writing) if pool is not None]
        for pool in (*pools, *self._retired):
            await pool.session.close()

    def _judge(self, origin: Origin) -> None:
        """Addresses spelled out: aiohttp asks no resolver for them."""
        literal = parse_literal(origin.host)
        if literal is None:
            return
        if literal.version == 6 and not self._setup.ipv6:  # noqa: PLR2004 - a version
            reason = "it has an IPv6 address, and IPv6 is switched off"
            raise NoAnswer(origin, Fault.UNREACHABLE, reason, was_sent=False)
        if origin.host in self._own_hosts:
            return
        if is_forbidden(literal, self._resolver.own_classes):
            raise refused_address(origin)

    async def _request(self, pool: _Pool, hop: Hop, origin: Origin) -> aiohttp.ClientResponse:
        deadline = Deadline(hop.patience)
        try:
            async with deadline:
                return await self._send(pool.session, hop, origin, deadline)
        except TimeoutError:
            failure = _timed_out(origin, deadline)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            failure = explain(error, origin, was_sent=deadline.was_sent)
        # Outside of the handlers, see `failure`.
        if deadline.body_failure is not None:
            raise deadline.body_failure  # not the upstream's fault
        if self._is_closed:
            raise _shutting_down(origin, was_sent=failure.was_sent)  # nor is this
        if failure.fault is Fault.SILENT and failure.was_sent:
            self._retire(pool)
        raise failure

    async def _send(
        self, session: aiohttp.ClientSession, hop: Hop, origin: Origin, deadline: Deadline
    ) -> aiohttp.ClientResponse:
        headers = CIMultiDict(hop.headers)
        headers["Accept-Encoding"] = "identity"
        headers["User-Agent"] = USER_AGENT
        if hop.content_length is not None:
            headers["Content-Length"] = str(hop.content_length)
        proxy = self._setup.proxy.choose(origin)
        if proxy is not None and proxy.authorization is not None and origin.is_plain:
            headers["Proxy-Authorization"] = proxy.authorization
        body = hop.body
        if body is not None and not isinstance(body, bytes):
            body = deadline.pace(body, hop.content_length)  # type: ignore[arg-type] # iterator
        return await session.request(
            hop.method,
            hop.url,
            headers=headers,
            data=body,
            allow_redirects=False,
            proxy=None if proxy is None else proxy.url,
            proxy_headers=_proxy_headers(proxy, origin),
            trace_request_ctx=deadline,
        )

    def _pool(self, method: str) -> _Pool:
        """Made on first use: a session belongs to the loop it is made in."""
        if method in {"GET", "HEAD"}:
            self._reading = self._reading or _Pool(self._session(is_writing=False))
            return self._reading
        self._writing = self._writing or _Pool(self._session(is_writing=True))
        return self._writing

    def _session(self, *, is_writing: bool) -> aiohttp.ClientSession:
        tracing = aiohttp.TraceConfig()
        tracing.on_request_headers_sent.append(_headers_sent)
        family = socket.AF_UNSPEC if self._setup.ipv6 else socket.AF_INET
        connector = aiohttp.TCPConnector(
            ssl=self._setup.tls,
            resolver=self._resolver,
            family=family,
            limit=0,  # counted by the client, whose requests take several hops
            force_close=is_writing,
            socket_factory=_writing_socket if is_writing else None,
        )
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=_NO_TIMEOUT,
            auto_decompress=False,
            skip_auto_headers=("Accept", "Content-Type"),
            read_bufsize=_READ_BUFFER,
            max_line_size=_HEADER_LIMIT,
            max_field_size=_HEADER_LIMIT,
            trace_configs=[tracing],
            middlewares=(_send_once,) if is_writing else (),
        )

    def _retire(self, pool: _Pool) -> None:
        """Other connections of the pool may lead into the same black hole."""
        if pool is self._reading:
            self._reading = None
            pool.is_retired = True
            self._retired = [*(p for p in self._retired if p.users), pool]


class _WritingSocket(socket.socket):
    """Hears its peer out. A registry may refuse an upload long before it has all of it, and hang up
    at once; then to write fails, and asyncio drops what came in before. Here what is written after
    that is lost silently, as it is a moment earlier, in the network; to read fails or ends after
    what there is to read.
    """

    def send(self, data: Buffer, flags: int = 0, /) -> int:
        try:
            return super().send(data, flags)
        except (BrokenPipeError, ConnectionResetError):
            return memoryview(data).nbytes

    def sendmsg(self, buffers: Iterable[Buffer], /, *rest: Any) -> int:
        parts = list(buffers)
        try:
            return super().sendmsg(parts, *rest)
        except (BrokenPipeError, ConnectionResetError):
            return sum(memoryview(part).nbytes for part in parts)


def _writing_socket(address: AddrInfoType) -> socket.socket:
    family, kind, protocol, *_ = address
    return _WritingSocket(family, kind, protocol)


async def _send_once(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Left alone, aiohttp sends PUT and DELETE again when the connection breaks, a fresh one too.
    The PUT that completes an upload has no body; the second would be answered "unknown upload".
    """
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise  # never sent
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError):
        broke = Broke()
    raise broke


async def _headers_sent(
    _session: aiohttp.ClientSession,
    context: SimpleNamespace,
    _parameters: aiohttp.TraceRequestHeadersSentParams,
) -> None:
    context.trace_request_ctx.headers_sent()


def _proxy_headers(proxy: Proxy | None, origin: Origin) -> dict[str, str] | None:
    """For CONNECT; what goes through a proxy without TLS has them among its own."""
    if proxy is None or proxy.authorization is None or origin.is_plain:
        return None
    return {"Proxy-Authorization": proxy.authorization}


def _shutting_down(origin: Origin, *, was_sent: bool) -> NoAnswer:
    return NoAnswer(origin, Fault.REFUSED, "the proxy is shutting down", was_sent=was_sent)


def _timed_out(origin: Origin, deadline: Deadline) -> NoAnswer:
    reason = "no answer in time" if deadline.was_sent else "it could not be connected to in time"
    return NoAnswer(origin, Fault.SILENT, reason, was_sent=deadline.was_sent)
