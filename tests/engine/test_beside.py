"""What is asked of a registry's other hosts and is no registry's goes to those hosts."""

from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest

from tests.support.clock import ManualClock
from tests.support.engine import Rig, config_for, open_engine
from tests.support.faults import AnswerWith
from tests.support.registry import CDN, REGISTRY, ScriptedRegistry

SEARCH = "/v1/search"


@pytest.fixture
def other(registry: ScriptedRegistry) -> str:
    return urlsplit(registry.cdn_url).netloc


@pytest.fixture
async def rig(registry: ScriptedRegistry, clock: ManualClock, other: str) -> AsyncIterator[Rig]:
    async with open_engine(registry, clock, config=config_for(registry, hosts=(other,))) as rig:
        yield rig


async def test_docker_search(rig: Rig, other: str) -> None:
    rig.registry.fault(AnswerWith(200, b"found"), path=SEARCH)
    answer = await rig.ask(f"{SEARCH}?q=alpine", host=other)
    assert (answer.status, answer.body) == (200, b"found")
    assert rig.registry.log.count(SEARCH, listener=CDN) == 1


async def test_images_come_from_where_the_registry_is(rig: Rig, other: str) -> None:
    image = rig.registry.add_image("app", "1.0")
    answer = await rig.ask("/v2/app/manifests/1.0", host=other)
    assert answer.body == image.body
    assert not rig.registry.log.count("/v2/app/*", listener=CDN)
    assert rig.registry.log.count("/v2/app/*", listener=REGISTRY)


async def test_other_requests_of_old_are_refused(rig: Rig, other: str) -> None:
    answer = await rig.ask("/v1/repositories/x/images", host=other)
    assert answer.status == 404
