"""A write that succeeded changes what names mean at once, whatever runs beside it."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from entrepot.config.model import TagRule, Tags
from tests.support.clock import ManualClock
from tests.support.engine import Rig, accepting, config_for, manifest_path, open_engine
from tests.support.faults import Hold
from tests.support.images import build_image
from tests.support.registry import ScriptedRegistry

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
