"""The engine without the proxy around it: in the test's own loop, towards a scripted registry."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from entrepot.config.kinds import Bytes, Seconds, Secret
from entrepot.config.model import Auth, Config, Registry, Tags, Upstream
from entrepot.engine.assembly import Engine, Ground
from entrepot.engine.message import Body, Headers, Request, Response, Trace
from entrepot.engine.sealing import Secrets
from entrepot.engine.token_service import TOKEN_PATH
from entrepot.engine.uploads import Uploads
from entrepot.local.keeper import Doorkeeper
from entrepot.passwords.guesses import Guesses
from entrepot.storage.base import ContentStore, Ledger
from entrepot.storage.memory import MemoryLedger, MemoryStore
from entrepot.upstream.fleet import Upstreams
from tests.support.clock import ManualClock
from tests.support.content import Content
from tests.support.images import Manifest
from tests.support.registry import ScriptedRegistry

NAME = "registry.test"  # the scripted registry, as clients know it
PIECE = 1 << 16


@dataclass(frozen=True, slots=True)
class Answer:
    """A response that was read to its end."""

    status: int
    headers: dict[str, str]
    body: bytes = field(repr=False)
    length: int | None
    trace: Trace

    @property
    def cache(self) -> str:
        return self.trace.cache

    @property
    def code(self) -> str:
        """Of the OCI error body."""
        return str(json.loads(self.body)["errors"][0]["code"])


class Rig:
    """An engine on what the test gave it, and the requests that tests make of it."""

    def __init__(
        self, registry: ScriptedRegistry, config: Config, ground: Ground, engine: Engine
    ) -> None:
        self.registry = registry
        self.config = config
        self.store = ground.store
        self.ledger = ground.ledger
        self.guesses = ground.guesses
        self.ground = ground
        self.engine = engine
        self.fetched: list[int] = []

    async def open(
        self,
        path: str,
        headers: dict[str, str] | None = None,
        *,
        method: str = "GET",
        host: str = NAME,
        body: bytes | None = None,
        client: str = "127.0.0.1",
    ) -> Response:
        """The body is still to be read, and closed."""
        path, _, query = path.partition("?")
        request = Request(
            method=method,
            path=path,
            query=query,
            headers=Headers((headers or {}).items()),
            host=host,
            client=client,
            body=None if body is None else _in_pieces(body),
            content_length=None if body is None else len(body),
        )
        site = self.engine.sites.by_authority(host)
        assert site is not None
        return await self.engine.service.respond(request, site)

    async def ask(
        self,
        path: str,
        headers: dict[str, str] | None = None,
        *,
        method: str = "GET",
        host: str = NAME,
        body: bytes | None = None,
        client: str = "127.0.0.1",
    ) -> Answer:
        response = await self.open(
            path, headers, method=method, host=host, body=body, client=client
        )
        try:
            content = await read_all(response, is_head=method == "HEAD")
        finally:
            await response.aclose()
        trace = replace(response.trace)
        return Answer(response.status, response.headers, content, response.content_length, trace)

    async def login(self, basic: str = "", *, repository: str = "app") -> dict[str, str]:
        """The header with the token that a client gets for its credentials, or for none."""
        headers = {"Authorization": basic} if basic else {}
        path = f"{TOKEN_PATH}?service=registry.test&scope=repository:{repository}:pull"
        answer = await self.ask(path, headers)
        assert answer.status == 200, answer
        return {"Authorization": f"Bearer {json.loads(answer.body)['token']}"}


@asynccontextmanager
async def open_engine(
    registry: ScriptedRegistry,
    clock: ManualClock,
    *,
    store: ContentStore | None = None,
    ledger: Ledger | None = None,
    config: Config | None = None,
    secrets: Secrets | None = None,
    guesses: Guesses | None = None,
) -> AsyncIterator[Rig]:
    config = config or config_for(registry)
    ledger = ledger or MemoryLedger(clock)
    async with asyncio.TaskGroup() as tasks:
        ground = Ground(
            store or MemoryStore(clock),
            ledger,
            clock,
            secrets or Secrets(Secret("a secret of many characters")),
            guesses or Guesses(clock, sleep=_at_once),
            Doorkeeper(ledger, clock),
            Uploads(clock),
            tasks,
        )
        upstreams = Upstreams(config, clock=clock, pauses_s=())
        fetched: list[int] = []
        engine = Engine(config, ground, upstreams, lambda _, size: fetched.append(size))
        rig = Rig(registry, config, ground, engine)
        rig.fetched = fetched
        try:
            yield rig
        finally:
            await engine.aclose()


def config_for(
    registry: ScriptedRegistry,
    *,
    tags: Tags | None = None,
    auth: Auth | None = None,
    upstream: Upstream | None = None,
    **entry: Any,
) -> Config:
    """With `entry` in the settings of the scripted registry; everything as by default else."""
    return Config(
        registries={NAME: Registry(**({"endpoints": (registry.url,)} | entry))},
        tags=tags or Tags(),
        auth=auth or Auth(),
        upstream=upstream or impatient(),
    )


def impatient(**changes: Any) -> Upstream:
    """Local upstreams answer at once or not at all."""
    usual = Upstream(
        connect_timeout=Seconds(5),
        header_timeout=Seconds(5),
        read_timeout=Seconds(5),
        revalidate_timeout=Seconds(1),
        retries=1,
        max_manifest=Bytes(1 << 20),
        read_ahead=False,  # what a test asks for is asked of the registry, and no more
    )
    return replace(usual, **changes)


async def read_all(response: Response, *, is_head: bool = False) -> bytes:
    if isinstance(response.body, bytes):
        return b"" if is_head else response.body
    return b"" if is_head else await read_body(response.body)


async def read_body(body: Body) -> bytes:
    pieces = []
    while piece := await body.read(PIECE):
        assert len(piece) <= PIECE
        pieces.append(piece)
    return b"".join(pieces)


def manifest_path(reference: str, repository: str = "app") -> str:
    return f"/v2/{repository}/manifests/{reference}"


def blob_path(content: Content | str, repository: str = "app") -> str:
    digest = content if isinstance(content, str) else content.digest
    return f"/v2/{repository}/blobs/{digest}"


def accepting(manifest: Manifest) -> dict[str, str]:
    return {"Accept": manifest.media_type}


def basic(user: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


async def _in_pieces(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), PIECE):
        yield body[start : start + PIECE]


async def _at_once(_seconds: float) -> None:
    """Who guesses passwords waits for nothing, where that is not what is tested."""
