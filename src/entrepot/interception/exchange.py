"""The coroutine of one exchange: ask, then send the answer as fast as the client takes it."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Protocol
from urllib.parse import urlsplit

from entrepot.engine.body import ContentBody, FillBody
from entrepot.engine.message import Body, Exchange, Headers, Request, Response
from entrepot.engine.problem import problem
from entrepot.errors import EntrepotError, UpstreamError
from entrepot.interception.client_port import Bypass, ClientPort
from entrepot.interception.http1 import (
    CONTINUE,
    LAST_CHUNK,
    BadRequest,
    chunk,
    date,
    response_head,
)
from entrepot.interception.http_layer import ClientExchange, Entrance, Place
from entrepot.interception.lane import Lane
from entrepot.oci.error_body import ErrorCode

logger = logging.getLogger(__name__)

# Large steps are worth their memory for a few readers; a thousand share what a few may take.
# TLS keeps a buffer of a connection's largest step until that is closed: at 1 MiB a thousand
# connections held 420 MiB, at 512 KiB they hold 240, and are no slower.
_SMALLEST = 16 << 10
_LARGEST = 512 << 10
_BUDGET = 16 << 20
_NOT_ANSWERED = 499  # in log and metrics, as nginx has it: the client did not wait
_BODILESS = frozenset({204, 304})
_DEFAULT_PORTS = {"https": ":443", "http": ":80"}


class Responder(Protocol):
    """Answers a request. May raise: that is answered as 500, and never forwarded instead."""

    async def __call__(self, request: Request, entrance: Entrance) -> Response: ...


class ExchangeRunner:
    def __init__(self, respond: Responder, observe: Callable[[Exchange], None]) -> None:
        self.lane = Lane()
        self._respond = respond
        self._observe = observe
        self._sending: set[_Sending] = set()
        self._tasks: set[asyncio.Task[object]] = set()

    @property
    def running(self) -> int:
        return len(self._tasks)

    async def wait_for_running(self) -> None:
        """Until all that runs now has ended."""
        if self._tasks:
            await asyncio.wait(self._tasks.copy())

    async def run(self, exchange: ClientExchange, port: ClientPort) -> None:
        """In a task of its own, which `exchange.cancel` ends."""
        task = exchange.task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._run(exchange, port)
        finally:
            self._tasks.discard(task)

    async def _run(self, exchange: ClientExchange, port: ClientPort) -> None:
        exchange.body.pace = port.pace
        started = time.monotonic()
        request = Request(method=exchange.head.method, path="/", client=port.client)
        response = Response(_NOT_ANSWERED)
        sending = _Sending(exchange, port, self.lane, self._sending)
        try:
            try:
                request, entrance = self._request(exchange, port)
            except BadRequest as error:
                response = problem(error.status, ErrorCode.UNSUPPORTED, str(error))
            else:
                response = await self._answer(request, entrance)
            await sending.send(response)
        except (OSError, TimeoutError, EntrepotError) as error:
            response.trace.error = response.trace.error or str(error) or type(error).__name__
        except asyncio.CancelledError:
            reason = exchange.ended_because or "stopped"
            response.trace.error = response.trace.error or reason
            raise
        except Exception:
            logger.exception("sending a response failed inside the proxy")
            response.trace.error = "internal error"
        finally:
            try:
                with contextlib.suppress(OSError, EntrepotError):
                    await response.aclose()
                self._observe(
                    Exchange(
                        request=request,
                        status=response.status,
                        trace=response.trace,
                        sent=sending.sent,
                        seconds=time.monotonic() - started,
                        is_whole=sending.is_whole,
                    )
                )
            finally:
                await sending.finish()

    def _request(self, exchange: ClientExchange, port: ClientPort) -> tuple[Request, Entrance]:
        """The request as the engine knows it, and how it came."""
        head = exchange.head
        headers = Headers(head.headers)
        scheme, target, authority = exchange.place.scheme, head.target, headers.get("host", "")
        is_absolute = not target.startswith("/")
        if is_absolute:
            if _is_of_pages(exchange.place):
                raise BadRequest(421, "what is for another host takes a connection of its own")
            named, authority, target = _absolute(target)
            scheme = scheme if exchange.place.is_registry else named
        path, _, query = target.partition("?")
        tunnelled_to = exchange.place.authority
        if tunnelled_to is not None:
            if _host(authority, scheme) != _host(tunnelled_to, scheme):
                raise BadRequest(421, "this connection leads to another host")
            authority = tunnelled_to
        request = Request(
            method=head.method,
            path=path,
            query=query,
            headers=headers,
            host=_host(authority, scheme),
            scheme=scheme,
            client=port.client,
            body=_body(exchange, port) if head.has_body else None,
            content_length=head.content_length,
        )
        return request, _entrance(exchange.place, is_absolute=is_absolute)

    async def _answer(self, request: Request, entrance: Entrance) -> Response:
        try:
            return await self._respond(request, entrance)
        except Exception:
            logger.exception("answering failed inside the proxy")
            return problem(500, ErrorCode.UNKNOWN, "internal error; see the proxy's log")


class _Sending:
    def __init__(
        self, exchange: ClientExchange, port: ClientPort, lane: Lane, running: "set[_Sending]"
    ) -> None:
        self._lane = lane
        self._exchange = exchange
        self._port = port
        self._running = running
        self._keep_alive = exchange.head.keep_alive
        self.sent = 0
        self.is_whole = False

    async def send(self, response: Response) -> None:
        head = self._exchange.head
        length = response.content_length
        has_body = head.method != "HEAD" and response.status not in _BODILESS
        is_chunked = has_body and length is None and not head.is_http10
        if has_body and length is None and head.is_http10:
            self._keep_alive = False
        headers = self._headers(response, length, is_chunked=is_chunked)
        start = response_head(response.status, headers)
        if isinstance(response.body, bytes):
            body = response.body if has_body else b""
            await self._port.send(self._exchange, start + body)
            self.sent = len(body)
        else:
            await self._port.send(self._exchange, start)
            if has_body:
                await self._send_body(response.body, length, frame=chunk if is_chunked else bytes)
                if is_chunked:
                    await self._port.send(self._exchange, LAST_CHUNK)
        self.is_whole = True

    async def _send_body(
        self, body: Body, length: int | None, *, frame: Callable[[bytes], bytes]
    ) -> None:
        self._running.add(self)
        try:
            bypass = self._port.bypass(self._exchange, self._lane)
            while True:
                if bypass and length is not None and isinstance(body, ContentBody | FillBody):
                    await self._send_files(bypass, body, length)
                if not (data := await body.read(self._step())):
                    break
                if length is not None and self.sent + len(data) > length:
                    raise UpstreamError(f"the body is longer than the {length} bytes announced")
                await self._port.send(self._exchange, frame(data))
                self.sent += len(data)
            await self._port.drained()
        finally:
            self._running.discard(self)
        if length is not None and self.sent != length:
            raise UpstreamError(f"the body ended after {self.sent} of {length} bytes")

    async def _send_files(self, bypass: Bypass, body: ContentBody | FillBody, length: int) -> None:
        """As far as the lane leads."""
        while window := await body.window():
            allowed = replace(window, size=min(window.size, length - self.sent))
            count = await self._port.send_from(bypass, allowed, self._step())
            if not count:
                return
            body.skip(count)
            self.sent += count

    def _step(self) -> int:
        return max(_SMALLEST, min(_LARGEST, _BUDGET // len(self._running)))

    def _headers(
        self, response: Response, length: int | None, *, is_chunked: bool
    ) -> dict[str, str]:
        headers = {"Date": date(), **response.headers}
        for name in [name for name in headers if name.lower() == "content-length"]:
            del headers[name]
        if is_chunked:
            headers["Transfer-Encoding"] = "chunked"
        elif length is not None and response.status not in _BODILESS:
            headers["Content-Length"] = str(length)
        if not self._keep_alive or self._port.is_draining or not self._exchange.body.is_complete:
            headers["Connection"] = "close"
            self._keep_alive = False
        elif self._exchange.head.is_http10:
            headers["Connection"] = "keep-alive"
        return headers

    async def finish(self) -> None:
        if self.is_whole:
            await self._port.end(self._exchange, keep_alive=self._keep_alive)
        else:
            self._port.abort()  # a body that is not whole must not look as if it were


async def _body(exchange: ClientExchange, port: ClientPort) -> AsyncIterator[bytes]:
    if exchange.head.expects_continue:
        await port.send(exchange, CONTINUE)
    port.widen()
    timeout_s = port.idle_timeout_s
    reason = f"the client sent nothing for {timeout_s:.0f} s"
    async for piece in exchange.body.pieces(timeout_s, lambda: exchange.cancel(reason)):
        yield piece


def _is_of_pages(place: Place) -> bool:
    return place.authority is None and not (place.is_proxied or place.is_registry)


def _entrance(place: Place, *, is_absolute: bool) -> Entrance:
    if place.is_registry:
        return Entrance.REGISTRY
    is_for_us = place.authority is None and not is_absolute
    return Entrance.PAGES if is_for_us else Entrance.PROXY


def _absolute(target: str) -> tuple[str, str, str]:
    """`http://host/path`: its scheme, authority and path."""
    try:
        parts = urlsplit(target)
    except ValueError:
        raise BadRequest(400, "bad request target") from None
    if not parts.netloc or "@" in parts.netloc:  # credentials would end in the log
        raise BadRequest(400, "bad request target")
    path = parts._replace(scheme="", netloc="").geturl()
    return parts.scheme.lower(), parts.netloc, path if path.startswith("/") else f"/{path}"


def _host(authority: str, scheme: str) -> str:
    return authority.lower().removesuffix(_DEFAULT_PORTS.get(scheme, ""))
