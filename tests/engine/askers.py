"""Every kind of identity that may ask, each at a registry where it is one."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import bcrypt

from entrepot.config.kinds import Secret
from entrepot.config.local import AccessRule, LocalRegistry
from entrepot.config.model import Config, RepositoryRule
from tests.support.clock import ManualClock
from tests.support.content import Generated
from tests.support.engine import NAME, Rig, basic, config_for, impatient, open_engine
from tests.support.faults import AnswerWith
from tests.support.images import Manifest
from tests.support.registry import ScriptedRegistry
from tests.support.token_service import TOKEN_PATH as UPSTREAM_TOKEN_PATH
from tests.support.token_service import Auth

SECRET, MINE, OPEN = "secret/app", "mine/app", "open/app"
INSIDE, OUTSIDE = "10.1.2.3", "192.0.2.1"
USERS = {"robot": "s3cr3t", "alice": "wonder", "bob": "builder"}
BIG = Generated(1, 1 << 20)
UPLOAD = "77"  # one that runs

type Headers = dict[str, str]


@dataclass(frozen=True, slots=True)
class World:
    """A registry with what only some may read, and an engine before it."""

    rig: Rig
    image: Manifest

    @property
    def registry(self) -> ScriptedRegistry:
        return self.rig.registry


type Showing = Callable[[World], Awaitable[Headers]]
"""What somebody shows; may ask for it first."""


async def nothing(_world: World) -> Headers:
    return {}


async def anonymous_token(world: World) -> Headers:
    return await world.rig.login(repository=SECRET)


async def tampered_token(world: World) -> Headers:
    token = (await anonymous_token(world))["Authorization"]
    return {"Authorization": f"{token[:-4]}AAAA"}


def straight(user: str, password: str) -> Showing:
    async def show(_world: World) -> Headers:
        return {"Authorization": basic(user, password)}

    return show


def logged_in(user: str, password: str) -> Showing:
    async def show(world: World) -> Headers:
        return await world.rig.login(basic(user, password), repository=SECRET)

    return show


def bearer(user: str) -> Showing:
    """A token of the upstream's own that was got past the proxy."""

    async def show(world: World) -> Headers:
        scopes = [f"repository:{name}:pull,push" for name in (SECRET, MINE, OPEN)]
        token = world.registry.tokens._issue(user, scopes)["token"]
        return {"Authorization": f"Bearer {token}"}

    return show


async def expired(world: World) -> Headers:
    """Known from before an outage of the token service."""
    credentials = basic("alice", "wonder")
    await world.rig.login(credentials, repository=SECRET)
    undo = world.registry.fault(AnswerWith(503), path=f"{UPSTREAM_TOKEN_PATH}*")
    headers = await world.rig.login(credentials, repository=SECRET)
    undo()
    return headers


async def renewed(world: World) -> Headers:
    return await world.rig.login(basic("alice", "wonder"), repository=SECRET)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    name: str
    shows: Showing
    scheme: Literal["basic", "bearer"] = "bearer"
    settings: dict[str, Any] = field(default_factory=dict)
    client: str = INSIDE
    is_local: bool = False
    may_read: bool = False
    earlier: Showing | None = None  # the same one, before an outage


ROBOT: dict[str, Any] = {"username": "robot", "password": Secret("s3cr3t")}
AS_OPERATOR = ROBOT | {"push_as": "operator"}
FOR_SOME = AS_OPERATOR | {"audience": ("10.0.0.0/8",)}
RULES = {"rules": (RepositoryRule(match="secret/*", pull="deny", push="deny", delete="deny"),)}
ALICE, BOB = straight("alice", "wonder"), straight("bob", "builder")

ASKERS = (
    Asker(name="no-token", shows=nothing),
    Asker(name="anonymous", shows=anonymous_token),
    Asker(name="tampered", shows=tampered_token),
    Asker(
        name="operator", shows=anonymous_token, settings=AS_OPERATOR, may_read=True
    ),
    Asker(name="operator-pull", shows=anonymous_token, settings=ROBOT, may_read=True),
    Asker(name="excluded", shows=anonymous_token, settings=FOR_SOME, client=OUTSIDE),
    Asker(name="excluded-own", shows=bearer("bob"), settings=FOR_SOME, client=OUTSIDE),
    Asker(name="basic-right", shows=ALICE, scheme="basic", may_read=True),
    Asker(name="basic-other", shows=BOB, scheme="basic"),
    Asker(
        name="basic-wrong", shows=straight("alice", "x"), scheme="basic"
    ),
    Asker(
        name="sealed",
        shows=logged_in("alice", "wonder"),
        scheme="basic",
        may_read=True,
    ),
    Asker(name="bearer-right", shows=bearer("alice"), may_read=True),
    Asker(name="bearer-other", shows=bearer("bob")),
    Asker(name="expired", shows=expired, earlier=renewed),
    Asker(name="ruled-nobody", shows=anonymous_token, settings=AS_OPERATOR | RULES),
    Asker(name="ruled-own", shows=bearer("alice"), settings=RULES),
    Asker(name="local-amy", shows=straight("amy", "a"), is_local=True, may_read=True),
    Asker(name="local-bob", shows=logged_in("bob", "b"), is_local=True),
    Asker(name="local-anonymous", shows=anonymous_token, is_local=True),
    Asker(name="local-wrong", shows=straight("amy", "b"), is_local=True),
    Asker(name="local-foreign", shows=bearer("alice"), is_local=True),
)  # fmt: skip


def reader_of(asker: Asker) -> Showing:
    """Somebody who may read all there is at the same registry, asking from inside."""
    if asker.is_local:
        return straight("amy", "a")
    if "username" in asker.settings:
        return anonymous_token
    return ALICE if asker.scheme == "basic" else bearer("alice")


@contextmanager
def registry_of(asker: Asker) -> Iterator[ScriptedRegistry]:
    auth = Auth(asker.scheme, USERS)
    if asker.is_local:
        auth = Auth("basic", USERS, allows_anonymous=False)
    with ScriptedRegistry(auth=auth) as registry:
        yield registry


def furnish(registry: ScriptedRegistry) -> Manifest:
    image = registry.add_image(SECRET, "1.0", (1000, BIG))
    for name in (MINE, OPEN):
        registry.add_image(name, "1.0", seed=5)
    registry.make_private(SECRET, "robot", "alice")
    registry._answers._uploads._running[UPLOAD] = bytearray()
    registry._answers.repository(MINE).blobs.discard(BIG.digest)
    return image


def config_of(
    asker: Asker, registry: ScriptedRegistry, passwords: Path, *, without_rules: bool = False
) -> Config:
    if not asker.is_local:
        settings = asker.settings | ({"rules": ()} if without_rules else {})
        return config_for(registry, push="allow", **settings)
    local = LocalRegistry(
        upstream=(registry.url,),
        upstream_username="robot",
        upstream_password=Secret("s3cr3t"),
        htpasswd=passwords,
        anonymous=("pull",),
        access=(
            AccessRule(match="*", users=("amy",), allow=("pull", "push", "delete")),
            AccessRule(match="secret/*", allow=()),
            AccessRule(match="secret/*", users=("anonymous",), allow=()),
            AccessRule(match="mine/*", users=("bob",), allow=("pull", "push")),
        ),
    )
    return Config(registries={}, local_registries={NAME: local}, upstream=impatient())


def write_passwords(path: Path) -> Path:
    lines = [
        f"{user}:{bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()}\n"
        for user, password in (("amy", "a"), ("bob", "b"))
    ]
    path.write_text("".join(lines))
    return path


@asynccontextmanager
async def world_of(
    asker: Asker,
    registry: ScriptedRegistry,
    passwords: Path,
    *,
    of: World | None = None,
    without_rules: bool = False,
) -> AsyncIterator[World]:
    """`of`: with what is stored there."""
    image = furnish(registry)
    config = config_of(asker, registry, passwords, without_rules=without_rules)
    clock = ManualClock()
    store, ledger = (of.rig.store, of.rig.ledger) if of else (None, None)
    async with open_engine(registry, clock, store=store, ledger=ledger, config=config) as rig:
        yield World(rig, image)
