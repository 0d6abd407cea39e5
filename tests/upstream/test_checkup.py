"""Endpoints that are looked after: of the registries of one's own."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable

import pytest
from aiohttp import web

from entrepot.config.kinds import Seconds
from entrepot.config.local import LocalRegistry
from entrepot.config.model import Config
from entrepot.upstream.client import Upstream
from entrepot.upstream.fleet import Upstreams
from entrepot.upstream.patience import Patience
from entrepot.upstream.transport import Transport
from tests.integration.waiting import eventually
from tests.upstream.bench import Bench, Server, failure, fetch, get

NAME = "docker-registry.test"
REFUSED = "http://127.0.0.1:1"  # nobody listens there
HOUR, MOMENT = 3600.0, 0.01


class Instance:
    """Answers with its status; `server` has seen what came."""

    def __init__(self, status: int = 200) -> None:
        self.status = status
        self.server: Server

    async def answer(self, _request: web.Request) -> web.Response:
        return web.Response(status=self.status)

    @property
    def url(self) -> str:
        return self.server.url()

    @property
    def writes(self) -> list[str]:
        return [target for target in self.server.targets if not target.startswith("GET")]


async def instances(bench: Bench, *statuses: int) -> list[Instance]:
    made = [Instance(status) for status in statuses]
    for instance in made:
        instance.server = await bench.serve(instance.answer)
    return made


@pytest.fixture
async def tasks() -> AsyncIterator[asyncio.TaskGroup]:
    async with asyncio.TaskGroup() as group:
        yield group


def fleet_of(bench: Bench, urls: Iterable[str], interval_s: float = HOUR) -> Upstreams:
    local = LocalRegistry(upstream=tuple(urls), health_interval=Seconds(interval_s))
    config = Config(registries={}, local_registries={NAME: local})
    fleet = Upstreams(config, clock=bench.clock, resolver=bench.names, pauses_s=(0.0, 0.0))
    bench.closes(fleet.aclose)
    return fleet


def upstream_of(bench: Bench, *urls: str) -> Upstream:
    return fleet_of(bench, urls).get(NAME)


async def look(upstream: Upstream) -> None:
    assert upstream.checkup is not None
    await upstream.checkup.look()


async def until(holds: Callable[[], bool]) -> None:
    async def now() -> bool:
        return holds()

    await eventually(now, bool)


def up(upstream: Upstream) -> list[bool]:
    return [endpoint.is_up for endpoint in upstream.statistics().endpoints]


# What a look finds.


@pytest.mark.parametrize("status", [200, 401, 404, 429])
async def test_who_answers_is_well(bench: Bench, status: int) -> None:
    (one,) = await instances(bench, status)
    upstream = upstream_of(bench, one.url)
    await look(upstream)
    assert up(upstream) == [True]
    assert upstream.ailments() == ()
    assert one.server.targets == ["GET /v2/"]
    assert one.server.authorizations == [None]


async def test_who_is_in_trouble_is_not(bench: Bench) -> None:
    one, other = await instances(bench, 503, 200)
    upstream = upstream_of(bench, one.url, other.url, REFUSED)
    await look(upstream)
    assert up(upstream) == [False, True, False]
    assert upstream.ailments() == (
        f"{NAME}: 127.0.0.1:{one.server.port}: it answers 503",
        f"{NAME}: 127.0.0.1:1: it cannot be reached: Connection refused",
    )
    assert not upstream.is_resting()


async def test_who_is_silent_is_not(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async def silence(*_: object) -> None:
        await asyncio.Event().wait()

    port = await bench.listen(silence)
    impatient = Patience(connect_s=1, header_s=0.05, read_s=1)
    monkeypatch.setattr("entrepot.upstream.checkup._PATIENCE", impatient)
    upstream = upstream_of(bench, f"http://127.0.0.1:{port}")
    await look(upstream)
    assert upstream.ailments() == (f"{NAME}: 127.0.0.1:{port}: no answer in time",)


async def test_a_change_is_logged_once(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    (one,) = await instances(bench, 503)
    upstream = upstream_of(bench, one.url)
    for status in (503, 500, 200, 200):
        one.status = status
        await look(upstream)
    place = f"127.0.0.1:{one.server.port}"
    assert [record.message for record in caplog.records if NAME in record.message] == [
        f"{NAME} cannot be asked: {place}: it answers 503",
        f"{NAME} answers again: {place}",
    ]


async def test_time_alone_makes_nobody_well(bench: Bench) -> None:
    upstream = upstream_of(bench, REFUSED)
    await look(upstream)
    bench.clock.advance(HOUR)
    assert upstream.is_unreachable()
    assert up(upstream) == [False]


async def test_nor_does_an_answer_to_a_request(bench: Bench) -> None:
    (one,) = await instances(bench, 503)
    upstream = upstream_of(bench, one.url)
    await look(upstream)
    assert (await fetch(upstream))[0] == 503
    assert up(upstream) == [False]


async def test_who_looks_at_the_same_time_looks_once(bench: Bench) -> None:
    asked, may_answer = asyncio.Event(), asyncio.Event()

    async def answer(_request: web.Request) -> web.Response:
        asked.set()
        await may_answer.wait()
        return web.Response()

    server = await bench.serve(answer)
    upstream = upstream_of(bench, server.url())
    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(look(upstream))
        await asked.wait()
        may_answer.set()
    assert server.targets == ["GET /v2/"]


async def test_that_we_are_closing_says_nothing_of_an_endpoint(bench: Bench) -> None:
    (one,) = await instances(bench, 200)
    upstream = upstream_of(bench, one.url)
    await upstream.aclose()
    await look(upstream)
    assert up(upstream) == [True]


# What requests make of it.


async def test_a_write_goes_to_who_is_well(bench: Bench) -> None:
    one, other = await instances(bench, 503, 202)
    upstream = upstream_of(bench, one.url, other.url)
    await look(upstream)
    assert (await fetch(upstream, get(method="POST")))[0] == 202
    assert one.writes == []


async def test_a_write_that_found_nobody_goes_to_the_next_who_is_not_tried_again(
    bench: Bench,
) -> None:
    (other,) = await instances(bench, 202)
    upstream = upstream_of(bench, REFUSED, other.url)
    assert (await fetch(upstream, get(method="POST")))[0] == 202
    assert up(upstream) == [False, True]


async def test_a_write_while_nobody_is_well_is_refused_unsent(bench: Bench) -> None:
    (one,) = await instances(bench, 503)
    upstream = upstream_of(bench, one.url, REFUSED)
    await look(upstream)
    error = await failure(upstream.send(get(method="PUT")))
    assert str(error) == (
        f"{NAME} takes no writes: nothing behind it is well (127.0.0.1:{one.server.port}: it"
        " answers 503; 127.0.0.1:1: it cannot be reached: Connection refused)"
    )
    assert (error.status, error.retry_after_s, error.was_sent) == (503, HOUR, False)
    assert one.writes == []


async def test_before_that_is_said_they_are_looked_at(bench: Bench) -> None:
    (one,) = await instances(bench, 503)
    upstream = upstream_of(bench, one.url)
    await look(upstream)
    one.status = 201
    assert (await fetch(upstream, get(method="PUT")))[0] == 201
    assert up(upstream) == [True]


async def test_a_read_is_tried_all_the_same(bench: Bench) -> None:
    (one,) = await instances(bench, 503)
    upstream = upstream_of(bench, one.url)
    await look(upstream)
    one.status = 200
    assert upstream.is_unreachable()  # who has it in the cache serves that
    assert (await fetch(upstream))[0] == 200


# As long as the fleet lives.


async def test_they_are_looked_after_until_it_is_closed(
    bench: Bench, tasks: asyncio.TaskGroup
) -> None:
    (one,) = await instances(bench, 200)
    fleet = fleet_of(bench, [one.url], MOMENT)
    fleet.watch(tasks)
    await until(lambda: len(one.server.seen) >= 3)
    one.status = 500
    await until(lambda: bool(fleet.ailments()))
    one.status = 200
    await until(lambda: not fleet.ailments())
    await fleet.aclose()
    assert all(task.done() for task in fleet._watching)


async def test_what_goes_wrong_here_ends_nothing(
    bench: Bench,
    tasks: asyncio.TaskGroup,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (one,) = await instances(bench, 200)
    fleet = fleet_of(bench, [one.url], MOMENT)
    exchange = Transport.exchange
    failures = iter([ZeroDivisionError()])

    async def broken(self: Transport, hop: object) -> object:
        for error in failures:
            raise error
        return await exchange(self, hop)  # type: ignore[arg-type]  # as it came

    monkeypatch.setattr(Transport, "exchange", broken)
    fleet.watch(tasks)
    await until(lambda: bool(one.server.seen))
    assert f"looking after {NAME} failed" in caplog.text
    await fleet.aclose()


async def test_others_are_not_looked_after(bench: Bench, tasks: asyncio.TaskGroup) -> None:
    upstream = bench.upstream(REFUSED)
    assert upstream.checkup is None
    await failure(upstream.send(get()))
    assert upstream.ailments() == ()
    assert up(upstream) == [False]
