"""Uploads whose next step the upstream sends outside `/blobs/uploads/`."""

from collections.abc import AsyncIterator, Iterator

import pytest

from entrepot.config.kinds import Secret
from entrepot.engine import uploads as uploads_module
from entrepot.engine.assembly import Engine
from entrepot.upstream.fleet import Upstreams
from tests.support.clock import ManualClock
from tests.support.engine import NAME, Rig, basic, config_for, open_engine
from tests.support.faults import AnswerWith
from tests.support.registry import ScriptedRegistry
from tests.support.token_service import Auth

BEGIN = "/v2/app/blobs/uploads/"
PLACES = ["/v2/app/blobs/upload/1", "/artifacts-uploads/namespaces/n/uploads/1"]
NOBODY: dict[str, str] = {}


@pytest.fixture
def registry() -> Iterator[ScriptedRegistry]:
    users = {"robot": "s3cr3t", "alice": "wonder"}
    with ScriptedRegistry(auth=Auth("basic", users, allows_anonymous=False)) as registry:
        yield registry


@pytest.fixture
async def rig(registry: ScriptedRegistry, clock: ManualClock) -> AsyncIterator[Rig]:
    robot = Secret("s3cr3t")
    config = config_for(
        registry, push="allow", push_as="operator", username="robot", password=robot
    )
    async with open_engine(registry, clock, config=config) as rig:
        await rig.ask("/v2/")
        yield rig


async def begin(
    rig: Rig, location: str, *, status: int = 202, headers: dict[str, str] | None = None
) -> None:
    answer = AnswerWith(status, b"", (("Location", location),))
    undo = rig.registry.fault(answer, path=BEGIN)
    headers = await rig.login() if headers is None else headers
    assert (await rig.ask(BEGIN, headers, method="POST", body=b"")).status == status
    undo()


async def user_of_step(rig: Rig, place: str, headers: dict[str, str] | None = None) -> str:
    rig.registry.forget()
    undo = rig.registry.fault(AnswerWith(202), path=place.partition("?")[0])
    await rig.ask(place, headers, method="PATCH", body=b"layer")
    undo()
    return rig.registry.log.find()[-1].user or ""


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("base", ["", f"https://{NAME}"])
async def test_go_on_with_the_rights_that_they_began_with(rig: Rig, place: str, base: str) -> None:
    await begin(rig, f"{base}{place}?state=1")
    # Clients send their token along below /v2/ alone.
    assert await user_of_step(rig, f"{place}?state=1") == "robot"


async def test_each_step_names_the_next(rig: Rig, clock: ManualClock) -> None:
    await begin(rig, "/uploads/1")
    for step in range(1, 4):
        clock.advance(600)
        moving = AnswerWith(202, b"", (("Location", f"/uploads/{step + 1}"),))
        undo = rig.registry.fault(moving, path=f"/uploads/{step}")
        answer = await rig.ask(f"/uploads/{step}", NOBODY, method="PATCH", body=b"layer")
        assert (answer.status, answer.trace.kind, answer.trace.repository) == (202, "upload", "app")
        undo()
    assert await user_of_step(rig, "/uploads/4") == "robot"


@pytest.mark.parametrize(
    ("location", "status"),
    [
        ("/uploads/2", 202),
        ("https://elsewhere.test/uploads/1", 202),
        ("/uploads/1", 201),
        ("/uploads/1", 404),
        ("https://[/uploads/1", 202),
        ("/v2//uploads/1", 202),
        ("", 202),
    ],
)
async def test_nothing_else_is_done_with_them(rig: Rig, location: str, status: int) -> None:
    await begin(rig, location, status=status)
    assert await user_of_step(rig, "/uploads/1", await rig.login()) == ""


async def test_nor_after_a_while(rig: Rig, clock: ManualClock) -> None:
    await begin(rig, "/uploads/1")
    clock.advance(901)
    assert await user_of_step(rig, "/uploads/1") == ""


async def test_what_began_with_a_clients_own_goes_on_with_those(rig: Rig) -> None:
    alice = {"Authorization": basic("alice", "wonder")}
    await begin(rig, "/uploads/1", headers=alice)
    assert await user_of_step(rig, "/uploads/1", alice) == "alice"
    assert await user_of_step(rig, "/uploads/1") == ""


async def test_a_step_that_is_a_blob_now_is_heard_of(rig: Rig) -> None:
    digest = "sha256:" + "0" * 64
    headers = await rig.login()
    assert (await rig.ask(f"/v2/app/blobs/{digest}", headers)).status == 404
    await begin(rig, "/uploads/1")
    rig.registry.fault(AnswerWith(201), path="/uploads/1")
    await rig.ask(f"/uploads/1?digest={digest}", method="PUT", body=b"")
    rig.registry.forget()
    await rig.ask(f"/v2/app/blobs/{digest}", headers)
    assert rig.registry.log.count(f"/v2/app/blobs/{digest}") > 0


async def test_what_is_remembered_is_bounded(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads_module, "_MAX", 2)
    for number in range(3):
        await begin(rig, f"/uploads/{number}")
    found = [await user_of_step(rig, f"/uploads/{number}") for number in range(3)]
    assert found == ["", "robot", "robot"]


@pytest.mark.parametrize("place", PLACES)
async def test_go_on_under_another_configuration(rig: Rig, clock: ManualClock, place: str) -> None:
    await begin(rig, f"{place}?state=1")
    upstreams = Upstreams(rig.config, clock=clock, pauses_s=())
    reloaded = Engine(rig.config, rig.ground, upstreams, lambda *_: None)
    after = Rig(rig.registry, rig.config, rig.ground, reloaded)
    try:
        assert await user_of_step(after, f"{place}?state=1") == "robot"
    finally:
        await reloaded.aclose()
