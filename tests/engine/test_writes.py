"""A write that succeeded changes what names mean at once, whatever runs beside it."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from entrepot.config.kinds import Seconds
from entrepot.config.model import TagRule, Tags
from tests.support.clock import ManualClock
from tests.support.engine import (
    Rig,
    accepting,
    blob_path,
    config_for,
    impatient,
    manifest_path,
    open_engine,
)
from tests.support.faults import AnswerWith, Hold
from tests.support.images import build_image
from tests.support.registry import ScriptedRegistry
from tests.support.token_service import Auth

PATH = manifest_path("1.0")


@pytest.fixture
async def pushing(registry: ScriptedRegistry, clock: ManualClock) -> AsyncIterator[Rig]:
    async with open_engine(registry, clock, config=config_for(registry, push="allow")) as rig:
        yield rig


async def put(rig: Rig, body: bytes, media_type: str) -> int:
    headers = {"Content-Type": media_type}
    return (await rig.ask(PATH, headers, method="PUT", body=body)).status


async def test_a_question_from_before_the_push_binds_nothing_after_it(
    pushing: Rig, clock: ManualClock
) -> None:
    old = pushing.registry.add_image("app", "1.0", seed=1)
    new = build_image((1000,), seed=2)
    pushing.registry.add("app", None, new)
    await pushing.ask(PATH, accepting(old))
    clock.advance(61)
    gate = pushing.registry.gate()
    pushing.registry.fault(Hold(gate=gate), path=PATH, method="HEAD", times=1)
    async with asyncio.TaskGroup() as tasks:
        earlier = tasks.create_task(pushing.ask(PATH, accepting(old)))
        log = pushing.registry.log
        await log.wait_until_async(lambda: log.count(PATH, method="HEAD") == 1)
        assert await put(pushing, new.body, new.media_type) == 201
        gate.open()
    assert earlier.result().status == 200
    assert (await pushing.ask(PATH, accepting(old))).body == new.body


async def test_a_pusher_who_leaves_has_pushed(pushing: Rig) -> None:
    old = pushing.registry.add_image("app", "1.0", seed=1)
    new = build_image((1000,), seed=2)
    pushing.registry.add("app", None, new)
    await pushing.ask(PATH, accepting(old))
    headers = {"Content-Type": new.media_type}
    async with asyncio.TaskGroup() as tasks:
        push = tasks.create_task(pushing.open(PATH, headers, method="PUT", body=new.body))
        log = pushing.registry.log
        await log.wait_until_async(
            lambda: any(entry.status == 201 for entry in log.find(PATH, method="PUT"))
        )
        push.cancel()
    assert (await pushing.ask(PATH, accepting(old))).body == new.body


async def test_a_manifest_that_is_deleted_takes_its_tags_along(
    registry: ScriptedRegistry, clock: ManualClock
) -> None:
    rules = Tags(rules=(TagRule(match="*", immutable=True),))
    config = config_for(registry, tags=rules, push="allow")
    async with open_engine(registry, clock, config=config) as rig:
        image = registry.add_image("app", "1.0")
        await rig.ask(PATH, accepting(image))
        assert (await rig.ask(manifest_path(image.digest), method="DELETE")).status == 202
        assert (await rig.ask(PATH, accepting(image))).status == 404


async def test_what_a_pusher_asks_for_is_the_upstreams_to_say(pushing: Rig) -> None:
    image = pushing.registry.add_image("app", "1.0")
    path = manifest_path(image.digest)
    await pushing.ask(path)
    assert (await pushing.ask(path, method="HEAD")).cache == "pass"
    pushing.registry.die()
    assert (await pushing.ask(path, method="HEAD")).cache == "hit"


async def test_what_never_left_has_written_nothing(pushing: Rig, clock: ManualClock) -> None:
    image = pushing.registry.add_image("app", "1.0")
    by_digest = manifest_path(image.digest)
    for path in (PATH, by_digest):
        await pushing.ask(path, accepting(image))
    clock.advance(61)
    assert await put(pushing, image.body, "a\x01b") == 400
    pushing.registry.die()
    assert await put(pushing, image.body, image.media_type) >= 500
    assert (await pushing.ask(by_digest, method="DELETE")).status >= 500
    for path in (PATH, by_digest):
        assert (await pushing.ask(path, accepting(image))).status == 200


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_what_waits_for_a_token_in_vain_has_written_nothing(
    clock: ManualClock, method: str
) -> None:
    with ScriptedRegistry(auth=Auth("bearer")) as registry:
        config = config_for(registry, push="allow", push_as="operator")
        async with open_engine(registry, clock, config=config) as rig:
            image = registry.add_image("app", "1.0")
            headers = accepting(image) | await rig.login()
            await rig.ask(PATH, headers)
            clock.advance(61)
            registry.fault(AnswerWith(503), path="/token*")
            body = image.body if method == "PUT" else None
            assert (await rig.ask(PATH, headers, method=method, body=body)).status >= 500
            assert not registry.log.find(PATH, method="PUT")
            registry.die()
            assert (await rig.ask(PATH, headers)).cache == "stale"


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_what_got_no_answer_may_have_been_written(
    pushing: Rig, clock: ManualClock, method: str
) -> None:
    image = pushing.registry.add_image("app", "1.0")
    await pushing.ask(PATH, accepting(image))
    pushing.registry.fault(Hold(), path=PATH, method=method)
    body = image.body if method == "PUT" else None
    async with asyncio.TaskGroup() as tasks:
        write = tasks.create_task(pushing.ask(PATH, method=method, body=body))
        log = pushing.registry.log
        await log.wait_until_async(lambda: log.count(PATH, method=method) == 1)
        pushing.registry.die()
    assert write.result().status >= 500
    assert (await pushing.ask(PATH, accepting(image))).status >= 500


async def test_a_silent_upstream_is_waited_for_once_by_who_asks_what_is_there(
    pushing: Rig, clock: ManualClock
) -> None:
    image = pushing.registry.add_image("app", "1.0")
    paths = (PATH, manifest_path(image.digest), blob_path(image.blobs[0]))
    for path in paths:
        await pushing.ask(path, accepting(image))
    pushing.registry.fault(Hold())
    for path in paths:
        for _ in range(2):
            answer = await pushing.ask(path, accepting(image), method="HEAD")
            assert answer.status == 200
    assert len(pushing.registry.log.find("*", method="HEAD")) == 1


@pytest.mark.parametrize("which", ["tag", "digest", "blob"])
async def test_a_silent_upstream_is_not_waited_for_long_where_there_is_something_else(
    registry: ScriptedRegistry, clock: ManualClock, which: str
) -> None:
    patience = impatient(header_timeout=Seconds(3600), revalidate_timeout=Seconds(0.2))
    config = config_for(registry, push="allow", upstream=patience)
    async with open_engine(registry, clock, config=config) as rig, asyncio.timeout(30):
        image = registry.add_image("app", "1.0")
        digest, blob = manifest_path(image.digest), blob_path(image.blobs[0])
        path = {"tag": PATH, "digest": digest, "blob": blob}[which]
        await rig.ask(path, accepting(image))
        registry.fault(Hold())
        assert (await rig.ask(path, accepting(image), method="HEAD")).status == 200
