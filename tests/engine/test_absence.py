"""A 404 is a word on what is there only from who may tell: not for strangers, nor for clients that
do not accept what is there.
"""

import json
from collections.abc import AsyncIterator, Iterator

import pytest

from entrepot.config.local import LocalRegistry
from entrepot.config.model import Config
from entrepot.engine.token_service import TOKEN_PATH
from entrepot.oci.digest import Digest
from entrepot.oci.media_type import DOCKER_MANIFEST
from tests.support.clock import ManualClock
from tests.support.engine import (
    NAME,
    Rig,
    accepting,
    basic,
    blob_path,
    impatient,
    manifest_path,
    open_engine,
)
from tests.support.faults import AnswerWith
from tests.support.registry import ScriptedRegistry
from tests.support.token_service import Auth

TAG = manifest_path("1.0")
ALICE = {"Authorization": basic("alice", "wonder")}
BOB = {"Authorization": basic("bob", "builder")}
AGED_S = 400
DIGEST = str(Digest.of(b"nowhere"))


@pytest.fixture
def registry() -> Iterator[ScriptedRegistry]:
    auth = Auth(users={"alice": "wonder", "bob": "builder"})
    with ScriptedRegistry(auth=auth) as registry:
        registry.make_private("app", "alice", "bob")
        yield registry


@pytest.fixture
async def rig(registry: ScriptedRegistry, clock: ManualClock) -> AsyncIterator[Rig]:
    async with open_engine(registry, clock) as rig:
        yield rig


@pytest.fixture
async def open_rig(clock: ManualClock) -> AsyncIterator[Rig]:
    """Towards a registry that asks nobody who they are."""
    with ScriptedRegistry() as registry:
        async with open_engine(registry, clock) as rig:
            yield rig


async def test_of_a_local_registry_it_is_said_what_is_not_there(clock: ManualClock) -> None:
    with ScriptedRegistry() as registry:
        local = LocalRegistry(upstream=(registry.url,), anonymous=("pull",))
        config = Config(registries={}, local_registries={NAME: local}, upstream=impatient())
        async with open_engine(registry, clock, config=config) as rig:
            token = json.loads((await rig.ask(TOKEN_PATH, host=NAME)).body)["token"]
            headers = {"Authorization": f"Bearer {token}"}
            for path, name in ((TAG, "app:1.0"), (blob_path(DIGEST), f"app@{DIGEST}")):
                answer = await rig.ask(path, headers, host=NAME)
                assert answer.status == 404
                assert json.loads(answer.body)["errors"][0]["message"] == f"{NAME} has no {name}"


async def said(rig: Rig, path: str, headers: dict[str, str]) -> int:
    return (await rig.ask(path, headers)).status


async def test_a_tag_is_not_forgotten_by_what_a_stranger_hears(
    rig: Rig, clock: ManualClock
) -> None:
    image = accepting(rig.registry.add_image("app", "1.0"))
    assert await said(rig, TAG, image | ALICE) == 200
    clock.advance(61)
    rig.registry.fault(AnswerWith(404), path=TAG, times=1)
    assert await said(rig, TAG, image) == 404
    rig.registry.die()
    assert (await rig.ask(TAG, image | ALICE)).cache == "stale"


async def test_a_tag_is_not_forgotten_by_what_a_former_reader_hears(
    rig: Rig, clock: ManualClock
) -> None:
    image = accepting(rig.registry.add_image("app", "1.0"))
    for who in (BOB, ALICE):
        assert await said(rig, TAG, image | who) == 200
    clock.advance(AGED_S)
    rig.registry.fault(AnswerWith(404), path=TAG, times=1)
    assert await said(rig, TAG, image | BOB) == 404
    rig.registry.die()
    assert (await rig.ask(TAG, image | ALICE)).cache == "stale"


async def test_a_tag_is_forgotten_by_what_a_reader_hears(rig: Rig, clock: ManualClock) -> None:
    image = accepting(rig.registry.add_image("app", "1.0"))
    assert await said(rig, TAG, image | ALICE) == 200
    clock.advance(61)
    rig.registry.delete_tag("app", "1.0")
    assert await said(rig, TAG, image | ALICE) == 404
    clock.advance(11)
    rig.registry.die()
    assert await said(rig, TAG, image | ALICE) >= 500


async def test_content_is_not_dropped_by_what_a_former_reader_hears(
    rig: Rig, clock: ManualClock
) -> None:
    image = rig.registry.add_image("app", "1.0")
    paths = (manifest_path(image.digest), blob_path(image.blobs[0]))
    for who in (BOB, ALICE):
        for path in paths:
            assert await said(rig, path, accepting(image) | who) == 200
    clock.advance(AGED_S)
    for path in paths:
        rig.registry.fault(AnswerWith(404), path=path, times=1)
        assert await said(rig, path, accepting(image) | BOB) == 404
    rig.registry.die()
    for path in paths:
        assert await said(rig, path, accepting(image) | ALICE) == 200


async def test_a_manifest_is_not_dropped_by_what_is_said_to_who_does_not_accept_it(
    open_rig: Rig, clock: ManualClock
) -> None:
    image = open_rig.registry.add_image("app", "1.0")
    path = manifest_path(image.digest)
    assert await said(open_rig, path, accepting(image)) == 200
    clock.advance(AGED_S)
    open_rig.registry.fault(AnswerWith(404), path=path, times=1)
    assert await said(open_rig, path, {"Accept": DOCKER_MANIFEST}) == 404
    open_rig.registry.die()
    assert await said(open_rig, path, accepting(image)) == 200


async def test_content_is_dropped_by_what_a_reader_hears(open_rig: Rig, clock: ManualClock) -> None:
    image = open_rig.registry.add_image("app", "1.0")
    path = manifest_path(image.digest)
    assert await said(open_rig, path, accepting(image)) == 200
    clock.advance(AGED_S)
    open_rig.registry.fault(AnswerWith(404), path=path, times=1)
    assert await said(open_rig, path, accepting(image)) == 404
    clock.advance(11)
    open_rig.registry.die()
    assert await said(open_rig, path, accepting(image)) >= 500
