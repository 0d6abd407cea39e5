import json
from collections.abc import AsyncIterator, Iterator

import pytest

from entrepot.config.kinds import Seconds, Secret
from entrepot.config.model import Auth, Tags
from entrepot.engine import listings as listings_module
from tests.support.broken_storage import BreakableLedger
from tests.support.clock import ManualClock
from tests.support.engine import Answer, Rig, basic, config_for, open_engine
from tests.support.faults import AnswerWith, Chunked, Hold, Truncate
from tests.support.images import build_artifact
from tests.support.registry import ScriptedRegistry
from tests.support.token_service import Auth as RegistryAuth

TAGS = "/v2/app/tags/list"
TTL_S, MAX_STALE_S = 30, 1000
ALICE = {"Authorization": basic("alice", "wonder")}


@pytest.fixture
def registry() -> Iterator[ScriptedRegistry]:
    with ScriptedRegistry(auth=RegistryAuth(users={"alice": "wonder"})) as registry:
        for tag in ("1.0", "1.1", "2.0"):
            registry.add_image("app", tag)
        yield registry


@pytest.fixture
def ledger(clock: ManualClock) -> BreakableLedger:
    return BreakableLedger(clock)


@pytest.fixture
async def rig(
    registry: ScriptedRegistry, clock: ManualClock, ledger: BreakableLedger
) -> AsyncIterator[Rig]:
    config = config_for(
        registry,
        tags=Tags(list_ttl=Seconds(TTL_S), max_stale=Seconds(MAX_STALE_S)),
        auth=Auth(verdict_ttl=Seconds(300)),
    )
    async with open_engine(registry, clock, ledger=ledger, config=config) as rig:
        yield rig


def tags_of(answer: Answer) -> list[str]:
    return list(json.loads(answer.body)["tags"])


async def test_a_list_is_kept_for_a_moment(rig: Rig, clock: ManualClock) -> None:
    assert (await rig.ask(TAGS)).cache == "miss"
    rig.registry.add_image("app", "3.0")
    clock.advance(TTL_S - 1)
    answer = await rig.ask(TAGS)
    assert (answer.cache, tags_of(answer)) == ("hit", ["1.0", "1.1", "2.0"])
    assert answer.headers["Age"] == str(TTL_S - 1)
    assert answer.headers["Content-Type"] == "application/json"
    clock.advance(1)
    answer = await rig.ask(TAGS)
    assert (answer.cache, tags_of(answer)) == ("miss", ["1.0", "1.1", "2.0", "3.0"])


async def test_pages_are_kept_by_themselves_with_their_links(rig: Rig) -> None:
    for cache in ("miss", "hit"):
        first = await rig.ask(f"{TAGS}?n=2")
        second = await rig.ask(f"{TAGS}?n=2&last=1.1")
        assert (first.cache, second.cache) == (cache, cache)
        assert (tags_of(first), tags_of(second)) == (["1.0", "1.1"], ["2.0"])
        assert 'rel="next"' in first.headers["Link"]
        assert "Link" not in second.headers


async def test_heads_pass_until_there_is_something(rig: Rig) -> None:
    head = await rig.ask(TAGS, method="HEAD")
    assert (head.status, head.cache) == (200, "pass")
    got = await rig.ask(TAGS)
    head = await rig.ask(TAGS, method="HEAD")
    assert (head.cache, head.length, head.body) == ("hit", len(got.body), b"")


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_in_trouble_what_is_old_is_served(rig: Rig, clock: ManualClock, status: int) -> None:
    fresh = await rig.ask(TAGS)
    clock.advance(TTL_S)
    rig.registry.fault(AnswerWith(status))
    stale = await rig.ask(TAGS)
    assert (stale.cache, stale.body) == ("stale", fresh.body)
    assert stale.trace.error


async def test_who_is_dead_is_not_asked_each_time(rig: Rig, clock: ManualClock) -> None:
    await rig.ask(TAGS)
    clock.advance(TTL_S)
    rig.registry.die()
    said = [(await rig.ask(TAGS)).headers["Cache-Status"] for _ in range(2)]
    assert [text.partition(";")[2].split(";")[0].strip() for text in said] == ["fwd=stale", "hit"]
    clock.advance(MAX_STALE_S)
    assert (await rig.ask(TAGS)).status == 502


async def test_silence_is_not_waited_out(rig: Rig, clock: ManualClock) -> None:
    await rig.ask(TAGS)
    clock.advance(TTL_S)
    rig.registry.fault(Hold(), path=TAGS)
    assert (await rig.ask(TAGS)).cache == "stale"


async def test_a_list_that_breaks_off_is_not_a_shorter_one(rig: Rig, clock: ManualClock) -> None:
    fresh = await rig.ask(TAGS)
    clock.advance(TTL_S)
    rig.registry.fault(Truncate(after=5), path=TAGS)
    assert (await rig.ask(TAGS)).body == fresh.body
    answer = await rig.ask(f"{TAGS}?n=100")
    assert answer.status == 502


@pytest.mark.parametrize("status", [403, 404])
async def test_a_no_is_an_answer(rig: Rig, clock: ManualClock, status: int) -> None:
    await rig.ask(TAGS)
    clock.advance(TTL_S)
    rig.registry.fault(AnswerWith(status), path=TAGS)
    assert (await rig.ask(TAGS)).status == status


async def test_what_one_may_see_is_not_shown_to_another(rig: Rig) -> None:
    rig.registry.make_private("app", "alice")
    assert (await rig.ask(TAGS, ALICE)).status == 200
    assert (await rig.ask(TAGS, ALICE)).cache == "hit"
    assert (await rig.ask(TAGS)).status == 401
    rig.registry.die()
    assert (await rig.ask(TAGS)).status == 502


async def test_who_may_no_longer_read_sees_no_old_list(rig: Rig, clock: ManualClock) -> None:
    await rig.ask(TAGS, ALICE)
    clock.advance(TTL_S)
    rig.registry.make_private("app", "bob")
    assert (await rig.ask(TAGS, ALICE)).status == 401
    rig.registry.die()
    assert (await rig.ask(TAGS, ALICE)).status == 502


async def test_a_word_that_has_aged_is_renewed_by_asking(rig: Rig, clock: ManualClock) -> None:
    await rig.ask(TAGS)
    clock.advance(300)
    await rig.ask(TAGS)
    assert rig.registry.log.count(TAGS) == 2


async def test_the_catalog_and_referrers(rig: Rig) -> None:
    image = rig.registry.add_image("app", "1.0")
    artifact = build_artifact("application/x-sbom", {"a": b"1"}, subject=image)
    rig.registry.add("app", None, artifact)
    for path in (
        "/v2/_catalog",
        f"/v2/app/referrers/{image.digest}",
        f"/v2/app/referrers/{image.digest}?artifactType=application/x-sbom",
    ):
        cold, warm = await rig.ask(path), await rig.ask(path)
        assert (cold.status, cold.cache, warm.cache) == (200, "miss", "hit")
        assert cold.body == warm.body
        assert cold.headers.get("OCI-Filters-Applied") == warm.headers.get("OCI-Filters-Applied")
    assert warm.headers["OCI-Filters-Applied"] == "artifactType"


async def test_the_operators_catalog_is_shown_to_nobody_else(clock: ManualClock) -> None:
    users = {"robot": "s3cr3t", "alice": "wonder"}
    auth = RegistryAuth("basic", users, allows_anonymous=False)
    with ScriptedRegistry(auth=auth) as registry:
        registry.add_image("app", "1.0")
        config = config_for(registry, username="robot", password=Secret("s3cr3t"))
        async with open_engine(registry, clock, config=config) as rig:
            nobody = await rig.login()
            assert (await rig.ask(TAGS, nobody)).status == 200
            assert (await rig.ask("/v2/_catalog", nobody)).status == 401
            assert (await rig.ask("/v2/_catalog", ALICE)).status == 200
            assert {seen.user for seen in registry.log.find("/v2/_catalog")} == {"", "alice"}


async def test_a_length_that_is_not_told_is_no_hindrance(rig: Rig) -> None:
    rig.registry.fault(Chunked(), path=TAGS)
    assert [(await rig.ask(TAGS)).cache for _ in range(2)] == ["miss", "hit"]


@pytest.mark.parametrize(
    ("query", "is_kept"),
    [
        ("n=2", True),
        ("n=2&last=", True),
        ("artifactType=x", True),
        ("x=1", False),
        ("n=2&x", False),
    ],
)
async def test_by_odd_queries_nothing_is_kept(
    rig: Rig, ledger: BreakableLedger, query: str, *, is_kept: bool
) -> None:
    caches = [(await rig.ask(f"{TAGS}?{query}")).cache for _ in range(2)]
    assert caches == (["miss", "hit"] if is_kept else ["pass", "pass"])
    assert (
        any(method == "put" and key.startswith("list/") for method, key in ledger.calls) == is_kept
    )


async def test_lists_are_kept_for_a_day_at_most(
    registry: ScriptedRegistry, clock: ManualClock, ledger: BreakableLedger
) -> None:
    async with open_engine(registry, clock, ledger=ledger) as rig:
        await rig.ask(TAGS)
        clock.advance(86_400)
        registry.die()
        assert (await rig.ask(TAGS)).cache == "stale"
        clock.advance(30)
        assert [row async for row in ledger.scan("list/")] == []


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_what_is_very_long_passes(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, *, is_chunked: bool
) -> None:
    monkeypatch.setattr(listings_module, "_LIMIT", 10)
    if is_chunked:
        rig.registry.fault(Chunked(), path=TAGS)
    for _ in range(2):
        answer = await rig.ask(TAGS)
        assert (answer.cache, tags_of(answer)) == ("pass", ["1.0", "1.1", "2.0"])


async def test_a_broken_ledger_fails_nobody(rig: Rig, ledger: BreakableLedger) -> None:
    ledger.break_down()
    assert [(await rig.ask(TAGS)).cache for _ in range(2)] == ["miss", "miss"]


@pytest.mark.parametrize("record", [b"", b"nothing", b"{\n{}", b'{"x": 1}\n{}', b"[]\n{}"])
async def test_what_is_not_understood_is_not_served(
    rig: Rig, ledger: BreakableLedger, record: bytes
) -> None:
    await rig.ask(TAGS)
    (key,) = [key for key in ledger.inner._records if key.startswith("list/")]
    await ledger.inner.put(key, record, 100)
    assert (await rig.ask(TAGS)).cache == "miss"
