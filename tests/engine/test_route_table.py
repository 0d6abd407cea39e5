"""Every route, by every kind of identity, in every state of the cache: who is let through.

`route_table.txt` says what is to be answered for each. The repository that is asked for is private:
robot (the operator's) and alice may read and write it upstream, amy at the local registry.
"""

import re
import typing
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path

import pytest

from entrepot.engine import identity as identity_module
from entrepot.engine.identity import Identity
from entrepot.engine.sealing import Passport
from entrepot.errors import InvalidReference
from entrepot.oci.route import Route, parse_route
from tests.engine.askers import (
    ASKERS,
    BIG,
    INSIDE,
    MINE,
    SECRET,
    UPLOAD,
    Asker,
    Headers,
    World,
    furnish,
    reader_of,
    registry_of,
    world_of,
    write_passwords,
)
from tests.support.content import Given
from tests.support.engine import Answer, read_all
from tests.support.faults import Hold
from tests.support.images import build_image
from tests.support.registry import ScriptedRegistry

_PORT = re.compile(r"(?<=127\.0\.0\.1):\d+")
LAYER = Given(b"a layer that is new")
NEW = build_image((), seed=9)

STATES = COLD, WARM, FILLING, DOWN = "cold", "warm", "filling", "down"


@dataclass(frozen=True, slots=True)
class Step:
    """A request. In the path, {tag}, {digest}, {big} and so on are filled in."""

    name: str
    method: str
    path: str
    headers: Headers = field(default_factory=dict)
    body: bytes | None = None

    def path_in(self, world: World) -> str:
        return self.path.format(
            repo=f"/v2/{SECRET}",
            manifest=world.image.digest,
            big=BIG.digest,
            small=world.image.blobs[0].digest,
            layer=LAYER.digest,
        )


def _etag(digest: str) -> Headers:
    return {"If-None-Match": f'"{digest}"'}


ANY = {"Accept": "*/*"}
STEPS = (
    Step("ping", "GET", "/v2/"),
    Step("tag", "GET", "{repo}/manifests/1.0", ANY),
    Step("tag-head", "HEAD", "{repo}/manifests/1.0", ANY),
    Step("tag-options", "OPTIONS", "{repo}/manifests/1.0"),
    Step("digest", "GET", "{repo}/manifests/{manifest}", ANY),
    Step("digest-head", "HEAD", "{repo}/manifests/{manifest}", ANY),
    Step("digest-escaped", "GET", "/v2/secret%2Fapp/manifests/{manifest}", ANY),
    Step("blob", "GET", "{repo}/blobs/{big}"),
    Step("blob-head", "HEAD", "{repo}/blobs/{big}"),
    Step("blob-range", "GET", "{repo}/blobs/{big}", {"Range": "bytes=100-199"}),
    Step("blob-etag", "GET", "{repo}/blobs/{big}", _etag(BIG.digest)),
    Step("blob-elsewhere", "GET", f"/v2/{MINE}/blobs/{{big}}"),
    Step("referrers", "GET", "{repo}/referrers/{manifest}"),
    Step("tags", "GET", "{repo}/tags/list"),
    Step("tags-head", "HEAD", "{repo}/tags/list"),
    Step("catalog", "GET", "/v2/_catalog"),
    Step("catalog-page", "GET", "/v2/_catalog?n=1"),
    Step("catalog-head", "HEAD", "/v2/_catalog"),
    Step("catalog-options", "OPTIONS", "/v2/_catalog"),
    Step("twice-slashed", "GET", f"/v2//{SECRET}/manifests/1.0", ANY),
    Step("dotted", "GET", f"/v2/open/../{SECRET}/manifests/1.0", ANY),
    Step("dots-escaped", "GET", f"/v2/open/%2e%2e/{SECRET}/manifests/1.0", ANY),
    Step("slash-before", "GET", f"//v2/{SECRET}/manifests/1.0", ANY),
    Step("led-up", "GET", f"/x/%2e%2e/v2/{SECRET}/manifests/1.0", ANY),
    Step("escaped", "GET", f"/%76%32/{SECRET}/manifests/1.0", ANY),
    Step("escaped-twice", "GET", f"/%2576%2532/{SECRET}/manifests/1.0", ANY),
    Step("unknown-below", "GET", "{repo}/unknown"),
    Step("unknown-written", "PUT", "{repo}/unknown", body=b""),
    Step("page", "GET", "/page"),
    Step("search", "GET", "/v1/search?q=app"),
    Step("v1", "GET", "/v1/repositories/secret/app/images"),
    Step("upload", "POST", "{repo}/blobs/uploads/"),
    Step("upload-patch", "PATCH", f"{{repo}}/blobs/uploads/{UPLOAD}", body=b"a"),
    Step(
        "upload-put",
        "PUT",
        f"{{repo}}/blobs/uploads/{UPLOAD}?digest={LAYER.digest}",
        body=LAYER.body,
    ),
    Step("upload-status", "GET", f"{{repo}}/blobs/uploads/{UPLOAD}"),
    Step("upload-cancel", "DELETE", f"{{repo}}/blobs/uploads/{UPLOAD}"),
    Step("mount", "POST", f"/v2/{MINE}/blobs/uploads/?mount={{big}}&from={SECRET}"),
    Step(
        "manifest-put",
        "PUT",
        "{repo}/manifests/2.0",
        {"Content-Type": NEW.media_type},
        b'{"config": {}, "layers": []}',
    ),
    Step("manifest-post", "POST", "{repo}/manifests/1.0", body=b"{}"),
    Step("tag-delete", "DELETE", "{repo}/manifests/1.0"),
    Step("digest-delete", "DELETE", "{repo}/manifests/{manifest}"),
    Step("blob-delete", "DELETE", "{repo}/blobs/{big}"),
)
FILLING_STEPS = tuple(step for step in STEPS if step.name.startswith("blob"))
# What is answered of the private repository, and what an answer could tell of it.
PRIVATE = {step.name for step in STEPS if "{repo}" in step.path or "secret" in step.path} - {
    "mount",
    "v1",
}
TELLING = {"docker-content-digest", "etag", "content-range", "accept-ranges", "link", "age"}


@pytest.fixture(scope="module")
def passwords(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_passwords(tmp_path_factory.mktemp("local") / "htpasswd")


async def ask(world: World, step: Step, headers: Headers, client: str) -> Answer:
    """Without what is sent over time: a fill may never end."""
    path = step.path_in(world)
    response = await world.rig.open(
        path, headers | step.headers, method=step.method, body=step.body, client=client
    )
    try:
        is_bytes = isinstance(response.body, bytes)
        body = await read_all(response, is_head=step.method == "HEAD") if is_bytes else b""
    finally:
        await response.aclose()
    length = response.content_length
    return Answer(response.status, response.headers, body, length, response.trace)


async def pull_all(world: World, headers: Headers, client: str) -> None:
    """All that there is to be read, to its end."""
    for step in STEPS:
        if step.method == "GET" and "{repo}" in step.path and "{" + "big}" not in step.path:
            await ask(world, step, headers, client)
    for path in ("/v2/_catalog", f"/v2/{MINE}/manifests/1.0"):
        await world.rig.ask(path, headers, client=client)


async def pull_blob(world: World, headers: Headers, client: str) -> None:
    answer = await world.rig.ask(_step("blob").path_in(world), headers, client=client)
    assert answer.status != 200 or len(answer.body) == BIG.size


def _step(name: str) -> Step:
    return next(step for step in STEPS if step.name == name)


@asynccontextmanager
async def standing_in(
    state: str, asker: Asker, registry: ScriptedRegistry, passwords: Path
) -> AsyncIterator[tuple[World, Headers]]:
    """The engine in this state, and what the asker shows to it."""
    async with world_of(asker, registry, passwords) as world:
        if state != COLD:
            readers = await fill_the_cache(state, asker, world, passwords)
        shown = await asker.shows(world)
        if state == DOWN:
            registry.die()
        if state == FILLING:
            async with filling(world, *readers[0]):
                yield world, shown
        else:
            yield world, shown


async def fill_the_cache(
    state: str, asker: Asker, world: World, passwords: Path
) -> list[tuple[Headers, str]]:
    """By who may read, and by the asker if that is one of them; before there were rules."""
    is_ruled = "rules" in asker.settings
    async with world_of(asker, world.registry, passwords, of=world, without_rules=True) as unruled:
        earlier = unruled if is_ruled else world
        readers = [(await reader_of(asker)(earlier), INSIDE)]
        if asker.may_read or asker.earlier:
            readers.append((await (asker.earlier or asker.shows)(earlier), asker.client))
        for headers, client in readers:
            await pull_all(earlier, headers, client)
            if state != FILLING:
                await pull_blob(earlier, headers, client)
    return readers


@asynccontextmanager
async def filling(world: World, headers: Headers, client: str) -> AsyncIterator[None]:
    """While somebody else's download is on its way, and most of it still to come."""
    gate = world.registry.gate()
    step = _step("blob")
    world.registry.fault(
        Hold(after=1 << 18, gate=gate), path=step.path_in(world), method="GET", times=1
    )
    response = await world.rig.open(step.path_in(world), headers, client=client)
    try:
        yield
    finally:
        gate.open()
        await response.aclose()


async def walk(asker: Asker, state: str, passwords: Path) -> dict[str, Answer]:
    steps = FILLING_STEPS if state == FILLING else STEPS
    # Who may read makes cold what comes next warm.
    is_alone = state == COLD and asker.may_read
    found: dict[str, Answer] = {}
    with registry_of(asker) as registry:
        for group in [(step,) for step in steps] if is_alone else [steps]:
            async with standing_in(state, asker, registry, passwords) as (world, headers):
                for step in group:
                    furnish(registry)  # anew what the last step took away
                    found[step.name] = await ask(world, step, headers, asker.client)
    return found


# The table.


@dataclass(frozen=True, slots=True)
class Table:
    askers: tuple[str, ...]
    cells: dict[tuple[str, str], str]

    def expected(self, asker: str, state: str) -> dict[str, int]:
        steps = FILLING_STEPS if state == FILLING else STEPS
        return {step.name: self._status(step, asker, state) for step in steps}

    def _status(self, step: Step, asker: str, state: str) -> int:
        states = _states_of(step)
        said = self.cells[step.name, asker].split("/")
        assert len(said) in {1, len(states)}, (step.name, asker, said)
        return int(said[states.index(state)] if len(said) > 1 else said[0])


def _states_of(step: Step) -> tuple[str, ...]:
    return STATES if step in FILLING_STEPS else tuple(each for each in STATES if each != FILLING)


def read_table() -> Table:
    """A line for each route, a column for each asker; # begins a remark."""
    text = (Path(__file__).parent / "route_table.txt").read_text()
    lines = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
    askers = tuple(lines[0][1:])
    cells = {
        (line[0], asker): said
        for line in lines[1:]
        for asker, said in zip(askers, line[1:], strict=True)
    }
    return Table(askers, cells)


TABLE = read_table()


@pytest.fixture(scope="module")
def walks() -> dict[tuple[str, str], dict[str, Answer]]:
    return {}


type Walks = dict[tuple[str, str], dict[str, Answer]]


async def walked(walks: Walks, asker: Asker, state: str, passwords: Path) -> dict[str, Answer]:
    key = asker.name, state
    if key not in walks:
        walks[key] = await walk(asker, state, passwords)
    return walks[key]


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("asker", ASKERS, ids=lambda asker: asker.name)
async def test_who_is_let_through(asker: Asker, state: str, passwords: Path, walks: Walks) -> None:
    found = await walked(walks, asker, state, passwords)
    statuses = {name: answer.status for name, answer in found.items()}
    assert statuses == TABLE.expected(asker.name, state)


@pytest.mark.parametrize(
    "asker",
    [asker for asker in ASKERS if not asker.may_read and not asker.earlier],
    ids=lambda asker: asker.name,
)
async def test_who_may_not_read_cannot_tell_what_is_cached(
    asker: Asker, passwords: Path, walks: Walks
) -> None:
    """By no header, length or word."""
    cold = await walked(walks, asker, COLD, passwords)
    warm = await walked(walks, asker, WARM, passwords)
    for step in STEPS:
        if step.name not in {"catalog", "catalog-page", "catalog-head"}:
            assert _seen(cold[step.name]) == _seen(warm[step.name])


def _seen(answer: Answer) -> tuple[int, dict[str, str], bytes, int | None]:
    """Registries differ by their ports, which they say in challenges."""
    headers = {name: _PORT.sub("", value) for name, value in answer.headers.items()}
    return answer.status, headers, answer.body, answer.length


@pytest.mark.parametrize(
    "asker",
    [asker for asker in ASKERS if not asker.may_read and not asker.earlier],
    ids=lambda asker: asker.name,
)
@pytest.mark.parametrize("state", [WARM, DOWN])
async def test_who_may_not_read_is_told_nothing_of_what_is_there(
    asker: Asker, state: str, passwords: Path, walks: Walks
) -> None:
    for name, answer in (await walked(walks, asker, state, passwords)).items():
        if name in PRIVATE:
            told = {header.lower() for header in answer.headers} & TELLING
            assert (name, told) == (name, set())


def test_the_table_is_of_all_that_there_is() -> None:
    """Whoever adds a route, an asker or a mark of identities says here what it may."""
    assert TABLE.askers == tuple(asker.name for asker in ASKERS)
    assert {name for name, _ in TABLE.cells} == {step.name for step in STEPS}
    assert {type(_parsed(step)) for step in STEPS} >= set(typing.get_args(Route))


def test_an_identity_is_no_more_than_the_askers_show() -> None:
    assert {each.name for each in fields(Identity)} == {
        "key",  # each
        "authorization",  # basic-*, bearer-*, sealed
        "is_expired",  # expired
        "is_passing",  # bearer-*
        "is_stranger",  # excluded
        "user",  # local-*
        "former_keys",  # names of the same one
    }
    assert {each.name for each in fields(Passport)} == {
        "authorization",  # sealed
        "keys",  # expired
        "user",  # local-bob
        "mark",
    }
    named = {name for name, value in vars(identity_module).items() if isinstance(value, Identity)}
    assert named == {"PROXY", "STRANGER", "HOME"}  # anonymous; excluded; local-*


def _parsed(step: Step) -> Route | None:
    digest = f"sha256:{'0' * 64}"
    path = step.path.format(repo=f"/v2/{SECRET}", manifest=digest, big=digest)
    try:
        return parse_route(path.partition("?")[0])
    except InvalidReference:
        return None
