"""An engine over a scripted registry; what is about concurrency runs under both task factories."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.support.clock import ManualClock
from tests.support.engine import Rig, open_engine
from tests.support.registry import ScriptedRegistry


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def registry() -> Iterator[ScriptedRegistry]:
    """Over plain HTTP, open to all."""
    with ScriptedRegistry() as registry:
        yield registry


@pytest.fixture
async def rig(registry: ScriptedRegistry, clock: ManualClock) -> AsyncIterator[Rig]:
    async with open_engine(registry, clock) as rig:
        yield rig


@pytest.fixture(params=["lazy", "eager"])
async def task_factory(request: pytest.FixtureRequest) -> None:
    """As in mitmproxy, tasks may be eager: run to their first wait by `create_task`."""
    if request.param == "eager":
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)


@pytest.fixture
async def tasks() -> AsyncIterator[asyncio.TaskGroup]:
    async with asyncio.TaskGroup() as tasks:
        yield tasks
