"""Real servers on loopback that record what they are sent, and upstreams that talk to them."""

import asyncio
import socket
import traceback
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from entrepot.config.kinds import Seconds, Secret
from entrepot.config.model import Config, Registry
from entrepot.config.model import Upstream as Settings
from entrepot.errors import UpstreamError
from entrepot.oci.reference import Repository
from entrepot.upstream.client import Upstream
from entrepot.upstream.fleet import Upstreams
from entrepot.upstream.message import UpstreamRequest, UpstreamResponse
from tests.support.clock import ManualClock
from tests.support.pki import ServerCertificate

# Whatever is secret in these tests holds this, so that one look shows whether anything leaked.
SECRET = "s3cr3t-and-never-told"
USER = "robot"
REGISTRY = "registry.example"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Seen:
    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(slots=True)
class Server:
    port: int
    is_tls: bool
    seen: list[Seen] = field(default_factory=list)
    connections: set[object] = field(default_factory=set)

    def url(self, host: str = "127.0.0.1") -> str:
        return f"{'https' if self.is_tls else 'http'}://{host}:{self.port}"

    @property
    def targets(self) -> list[str]:
        return [f"{seen.method} {seen.target}" for seen in self.seen]

    @property
    def authorizations(self) -> list[str | None]:
        return [seen.headers.get("Authorization") for seen in self.seen]


class Names(AbstractResolver):
    """A hosts file."""

    def __init__(self) -> None:
        self.table: dict[str, list[str]] = {}
        self.asked: list[str] = []

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        self.asked.append(host)
        if host not in self.table:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [
            ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=0)
            for address in self.table[host]
        ]

    async def close(self) -> None:
        pass


class Bench:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.names = Names()
        self._closing = AsyncExitStack()

    async def serve(self, handler: Handler, tls: ServerCertificate | None = None) -> Server:
        listening = socket.create_server(("127.0.0.1", 0))
        server = Server(listening.getsockname()[1], tls is not None)

        async def record(request: web.BaseRequest) -> web.StreamResponse:
            assert isinstance(request, web.BaseRequest)
            server.connections.add(request.protocol)
            body = await request.read()
            server.seen.append(Seen(request.method, request.raw_path, request.headers, body))
            return await handler(request)  # type: ignore[arg-type]  # handlers use the base's part

        runner = web.ServerRunner(web.Server(record, access_log=None), shutdown_timeout=0.1)
        await runner.setup()
        self._closing.push_async_callback(runner.cleanup)
        site = web.SockSite(runner, listening, ssl_context=tls.context() if tls else None)
        await site.start()
        return server

    async def listen(self, talk: Callable[..., Awaitable[None]]) -> int:
        """Bytes on a socket: for what no decent server would do. The port."""
        talking: set[asyncio.Task[object]] = set()

        async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            talking.add(task)
            try:
                await talk(reader, writer)
            except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                pass
            finally:
                talking.discard(task)
                writer.close()

        server = await asyncio.start_server(converse, "127.0.0.1", 0)

        async def stop() -> None:
            server.close()
            for task in talking:
                task.cancel()
            await server.wait_closed()

        self._closing.push_async_callback(stop)
        port: int = server.sockets[0].getsockname()[1]
        return port

    def upstreams(
        self, registries: dict[str, Registry], settings: Settings | None = None
    ) -> Upstreams:
        config = Config(registries=registries, upstream=settings or Settings())
        found = Upstreams(config, clock=self.clock, resolver=self.names, pauses_s=(0.0, 0.0))
        self._closing.push_async_callback(found.aclose)
        return found

    def upstream(
        self, *endpoints: str, settings: Settings | None = None, **registry: Any
    ) -> Upstream:
        entry = Registry(endpoints=endpoints, **registry)
        return self.upstreams({REGISTRY: entry}, settings).get(REGISTRY)

    def closes(self, aclose: Callable[[], Awaitable[None]]) -> None:
        """At its end."""
        self._closing.push_async_callback(aclose)

    async def aclose(self) -> None:
        await self._closing.aclose()


def with_password(**more: Any) -> dict[str, Any]:
    return {"username": USER, "password": Secret(SECRET), **more}


def timeouts(**seconds: float) -> Settings:
    changes: dict[str, Any] = {f"{name}_timeout": Seconds(value) for name, value in seconds.items()}
    return replace(Settings(), **changes)


def get(path: str = "/v2/", *, repository: str | None = None, **more: Any) -> UpstreamRequest:
    more.setdefault("headers", {})
    name = Repository(repository) if repository else None
    return UpstreamRequest(**({"method": "GET", "path": path, "repository": name} | more))


def manifest(repository: str = "a/b", **more: Any) -> UpstreamRequest:
    return get(f"/v2/{repository}/manifests/latest", repository=repository, **more)


async def body_of(response: UpstreamResponse) -> bytes:
    return await response.read(1 << 20)


async def fetch(upstream: Upstream, request: UpstreamRequest | None = None) -> tuple[int, bytes]:
    response = await upstream.send(request or get())
    return response.status, await body_of(response)


async def failure(work: Awaitable[object]) -> UpstreamError:
    """The error, after a look through all that a log could show of it."""
    with pytest.raises(UpstreamError) as caught:
        await work
    assert SECRET not in "".join(traceback.format_exception(caught.value, chain=True))
    assert SECRET not in repr(caught.value)
    assert caught.value.__context__ is None or caught.value.__suppress_context__
    return caught.value


def answering(status: int = 200, text: str = "", **headers: str) -> Handler:
    async def answer(_request: web.Request) -> web.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(status=status, text=text, headers=named)

    return answer
