import asyncio
import json
from typing import Literal

import pytest

from entrepot.config.model import DOCKER_HUB, Config, Registry
from entrepot.engine import realms as realms_module
from entrepot.engine.realms import Realm, Realms
from entrepot.engine.single_flight import SingleFlight
from entrepot.engine.sites import Site, Sites
from entrepot.upstream.fleet import Upstreams
from tests.support.broken_storage import BreakableLedger
from tests.support.clock import ManualClock
from tests.support.engine import NAME
from tests.support.faults import AnswerWith
from tests.support.registry import ScriptedRegistry
from tests.support.token_service import Auth

SERVICE = "registry.test"


class Bench:
    """Realms as they are after a start, over a ledger that outlives it."""

    def __init__(self, registry: ScriptedRegistry, tasks: asyncio.TaskGroup) -> None:
        self.registry = registry
        self.ledger = BreakableLedger(ManualClock())
        self.tasks = tasks
        self.start()

    def start(self) -> None:
        registries = {
            NAME: Registry(endpoints=(self.registry.url,)),
            DOCKER_HUB: Registry(endpoints=(self.registry.url,)),
            "*.example.com": Registry(endpoints=(self.registry.url,)),
        }
        config = Config(registries=registries)
        self.upstreams = Upstreams(config, clock=ManualClock(), pauses_s=())
        self.sites = Sites(registries, self.upstreams.get)
        self.flights: SingleFlight[str, Realm | None] = SingleFlight(self.tasks)
        self.realms = Realms(self.ledger, self.flights)

    async def settle(self) -> None:
        """Until nothing is asked any more behind anybody's back."""
        await asyncio.gather(*self.flights._running.values())

    async def restart(self) -> None:
        await self.aclose()
        self.start()

    async def aclose(self) -> None:
        await self.settle()
        await self.upstreams.aclose()

    def site(self, name: str = NAME) -> Site:
        site = self.sites.find(name, 443)
        assert site is not None
        return site


@pytest.mark.parametrize(("scheme", "service"), [("bearer", SERVICE), ("basic", ""), ("none", "")])
async def test_what_a_registry_asks_for_outlives_a_restart(
    tasks: asyncio.TaskGroup, scheme: Literal["bearer", "basic", "none"], service: str
) -> None:
    auth = Auth(scheme, allows_anonymous=scheme == "none")
    with ScriptedRegistry(auth=auth) as registry:
        bench = Bench(registry, tasks)
        url = f"{registry.url}/token" if scheme == "bearer" else ""
        expected = Realm(scheme, url, service)
        assert await bench.realms.known(bench.site()) is None
        assert await bench.realms.of(bench.site()) == expected
        registry.die()
        await bench.restart()
        assert await bench.realms.known(bench.site()) == expected
        assert await bench.realms.of(bench.site()) == expected
        await bench.aclose()


async def test_nobody_answers_and_nothing_is_known(
    registry: ScriptedRegistry, tasks: asyncio.TaskGroup
) -> None:
    registry.die()
    bench = Bench(registry, tasks)
    assert await bench.realms.of(bench.site()) is None
    registry.revive()
    await bench.restart()
    assert await bench.realms.of(bench.site()) == Realm("none")
    await bench.aclose()


async def test_docker_hub_is_known_at_first_contact(
    registry: ScriptedRegistry, tasks: asyncio.TaskGroup
) -> None:
    registry.die()
    bench = Bench(registry, tasks)
    bench.ledger.break_down()
    realm = await bench.realms.of(bench.site(DOCKER_HUB))
    assert realm == Realm("bearer", "https://auth.docker.io/token", "registry.docker.io")
    await bench.aclose()


@pytest.mark.parametrize("status", [403, 404, 429])
@pytest.mark.parametrize("name", [NAME, DOCKER_HUB])
async def test_trouble_is_no_word_that_nobody_is_asked(
    registry: ScriptedRegistry, tasks: asyncio.TaskGroup, name: str, status: int
) -> None:
    bench = Bench(registry, tasks)
    before = await bench.realms.known(bench.site(name))
    registry.fault(AnswerWith(status), path="/v2/")
    await bench.realms.of(bench.site(name))
    await bench.settle()
    assert await bench.realms.known(bench.site(name)) == before
    assert await bench.ledger.get(f"realm/{name}") is None
    await bench.aclose()


@pytest.mark.usefixtures("task_factory")
async def test_what_is_known_is_made_fresh_behind_the_clients_back(
    registry: ScriptedRegistry, tasks: asyncio.TaskGroup
) -> None:
    bench = Bench(registry, tasks)
    await bench.ledger.put(f"realm/{NAME}", b'{"scheme": "basic"}', 100)
    assert await bench.realms.of(bench.site()) == Realm("basic")
    await registry.log.wait_until_async(lambda: registry.log.count("/v2/") == 1)
    await bench.settle()
    assert await bench.realms.known(bench.site()) == Realm("none")
    kept = await bench.ledger.get(f"realm/{NAME}")
    assert kept is not None
    assert json.loads(kept) == {"scheme": "none", "url": "", "service": ""}
    await bench.aclose()


@pytest.mark.usefixtures("task_factory")
async def test_many_who_come_first_are_one_question(
    registry: ScriptedRegistry, tasks: asyncio.TaskGroup
) -> None:
    bench = Bench(registry, tasks)
    found = await asyncio.gather(*(bench.realms.of(bench.site()) for _ in range(20)))
    assert set(found) == {Realm("none")}
    assert registry.log.count("/v2/") == 1
    await bench.aclose()


@pytest.mark.parametrize("record", [b"", b"{", b"[1]", b'{"realm": 1}', b'{"url": "x"}'])
async def test_what_is_not_understood_is_not_known(
    registry: ScriptedRegistry, tasks: asyncio.TaskGroup, record: bytes
) -> None:
    bench = Bench(registry, tasks)
    await bench.ledger.put(f"realm/{NAME}", record, 100)
    assert await bench.realms.known(bench.site()) is None
    await bench.aclose()


async def test_a_broken_ledger_costs_a_question_after_a_restart(
    registry: ScriptedRegistry, tasks: asyncio.TaskGroup
) -> None:
    bench = Bench(registry, tasks)
    bench.ledger.break_down()
    for _ in range(2):
        assert await bench.realms.of(bench.site()) == Realm("none")
        await bench.restart()
    await bench.aclose()


async def test_what_is_in_memory_is_bounded(
    registry: ScriptedRegistry, tasks: asyncio.TaskGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(realms_module, "_IN_MEMORY_MAX", 2)
    bench = Bench(registry, tasks)
    for host in ("a", "b", "c"):
        assert await bench.realms.of(bench.site(f"{host}.example.com")) == Realm("none")
    bench.ledger.calls.clear()
    for host in ("c", "b", "a"):
        assert await bench.realms.known(bench.site(f"{host}.example.com")) == Realm("none")
    assert bench.ledger.calls == [("get", "realm/a.example.com")]
    await bench.aclose()
