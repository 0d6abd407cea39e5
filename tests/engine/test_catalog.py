"""A catalog in which something is left out: of a registry under rules, and of a local one."""

import json
from collections.abc import AsyncIterator, Iterator
from urllib.parse import urlsplit

import pytest

from entrepot.config.kinds import Secret
from entrepot.config.local import AccessRule, LocalRegistry
from entrepot.config.model import Config, RepositoryRule
from entrepot.engine import catalog as catalog_module
from tests.support.clock import ManualClock
from tests.support.engine import NAME, Answer, Rig, basic, config_for, impatient, open_engine
from tests.support.faults import AnswerWith
from tests.support.registry import ScriptedRegistry
from tests.support.token_service import Auth

CATALOG = "/v2/_catalog"
SHOWN = [f"open/{number:03}" for number in range(0, 250, 2)]
HIDDEN = [f"open/{number:03}" for number in range(1, 250, 2)]
RULES = (RepositoryRule(match="/[13579]$/", pull="deny"),)


@pytest.fixture
def registry() -> Iterator[ScriptedRegistry]:
    with ScriptedRegistry() as registry:
        for name in (*SHOWN, *HIDDEN):
            registry._answers.repository(name)
        yield registry


@pytest.fixture
async def rig(registry: ScriptedRegistry, clock: ManualClock) -> AsyncIterator[Rig]:
    async with open_engine(registry, clock, config=config_for(registry, rules=RULES)) as rig:
        yield rig


def names_in(answer: Answer) -> list[str]:
    assert answer.status == 200
    return list(json.loads(answer.body)["repositories"])


async def walk(rig: Rig, target: str) -> list[Answer]:
    """All pages, by their links."""
    pages = [await rig.ask(target)]
    while "Link" in pages[-1].headers:
        link, _, relation = pages[-1].headers["Link"].partition(">")
        assert relation == '; rel="next"'
        following = urlsplit(link.removeprefix("<"))
        assert following.path == CATALOG
        pages.append(await rig.ask(f"{following.path}?{following.query}"))
    return pages


@pytest.mark.parametrize(
    ("query", "sizes"),
    [
        ("", [100, 25]),
        ("?n=50", [50, 50, 25]),
        ("?n=124", [124, 1]),
        ("?n=125", [125]),
        ("?n=1000000", [125]),
        (f"?n=50&last={SHOWN[99]}", [25]),
        (f"?last={HIDDEN[99]}", [25]),
    ],
)
async def test_pages_are_of_what_may_be_seen(rig: Rig, query: str, sizes: list[int]) -> None:
    pages = await walk(rig, CATALOG + query)
    assert [len(names_in(page)) for page in pages] == sizes
    names = [name for page in pages for name in names_in(page)]
    assert names == SHOWN[-len(names) :]


async def test_no_answer_has_a_name_that_may_not_be_seen(rig: Rig) -> None:
    for page in await walk(rig, f"{CATALOG}?n=7"):
        text = page.body.decode() + str(page.headers)
        assert not [name for name in HIDDEN if name in text or name.replace("/", "%2F") in text]
        assert page.headers["Content-Type"] == "application/json"


async def test_a_head_is_as_long_as_what_is_shown(rig: Rig) -> None:
    for _ in range(2):
        head, got = await rig.ask(CATALOG, method="HEAD"), await rig.ask(CATALOG)
        assert (head.status, head.body, head.length) == (200, b"", len(got.body))


async def test_what_is_kept_is_filtered_too(rig: Rig) -> None:
    assert [(await rig.ask(CATALOG)).cache for _ in range(2)] == ["miss", "hit"]
    asked = rig.registry.log.count(CATALOG)
    rig.registry.die()
    assert names_in(await rig.ask(CATALOG)) == SHOWN[:100]
    assert rig.registry.log.count(CATALOG) == asked


async def test_odd_queries_show_no_more(rig: Rig) -> None:
    for query in ("?x=1", "?n=5&x=1", "?n=5&n=1000"):
        assert not set(names_in(await rig.ask(CATALOG + query))) & set(HIDDEN)


@pytest.mark.parametrize("body", [b"", b"[]", b'{"repositories": [1]}', b'{"repositories": ["X"]}'])
async def test_what_cannot_be_read_is_not_shown(rig: Rig, body: bytes) -> None:
    rig.registry.fault(AnswerWith(200, body), path=CATALOG)
    answer = await rig.ask(CATALOG)
    assert (answer.status, answer.code) == (502, "UNAVAILABLE")


async def test_what_is_too_long_is_not_shown(rig: Rig) -> None:
    body = json.dumps({"repositories": ["open/1"] * 200_000}).encode()
    rig.registry.fault(AnswerWith(200, body), path=CATALOG)
    answer = await rig.ask(CATALOG)
    assert (answer.status, b"too long" in answer.body) == (502, True)


async def test_an_empty_one(rig: Rig) -> None:
    rig.registry.fault(AnswerWith(200, b'{"repositories": null}'), path=CATALOG)
    assert names_in(await rig.ask(CATALOG)) == []


async def test_links_that_go_round_come_to_an_end(rig: Rig) -> None:
    body = json.dumps({"repositories": ["open/000"]}).encode()
    link = ("Link", f'<{CATALOG}?last=x&n=100>; rel="next"')
    rig.registry.fault(AnswerWith(200, body, (link,)), path=CATALOG)
    assert names_in(await rig.ask(CATALOG)) == ["open/000"] * 2


async def test_not_all_of_a_large_registry_is_looked_through(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog_module, "_PAGES_MOST", 2)
    answer = await rig.ask(f"{CATALOG}?n=150")
    assert names_in(answer) == SHOWN
    answer = await rig.ask(CATALOG)
    assert (answer.status, b"too many pages" in answer.body) == (502, True)


async def test_a_number_that_is_none_is_the_registrys_to_refuse(rig: Rig) -> None:
    rig.registry.fault(AnswerWith(400), path=CATALOG)
    for number in ("-1", "0"):
        rig.registry.forget()
        assert (await rig.ask(f"{CATALOG}?n={number}")).status == 400
        assert rig.registry.log.find(CATALOG)[0].target == f"{CATALOG}?n={number}"


async def test_without_rules_it_is_passed_on(
    registry: ScriptedRegistry, clock: ManualClock
) -> None:
    async with open_engine(registry, clock) as rig:
        assert names_in(await rig.ask(CATALOG)) == sorted(SHOWN + HIDDEN)


async def test_of_a_local_one_each_sees_what_is_theirs(clock: ManualClock) -> None:
    auth = Auth("basic", {"robot": "s3cr3t"}, allows_anonymous=False)
    access = (
        AccessRule(match="amy/*", users=("amy",), allow=("pull",)),
        AccessRule(match="amy/*"),
        AccessRule(match="all/*", users=("*", "anonymous"), allow=("pull",)),
    )
    with ScriptedRegistry(auth=auth) as registry:
        for name in ("all/a", "amy/a", "other/a"):
            registry._answers.repository(name)
        local = LocalRegistry(
            upstream=(registry.url,),
            upstream_username="robot",
            upstream_password=Secret("s3cr3t"),
            username="amy",
            password=Secret("pass"),
            access=access,
        )
        config = Config(registries={}, local_registries={NAME: local}, upstream=impatient())
        async with open_engine(registry, clock, config=config) as rig:
            amy = {"Authorization": basic("amy", "pass")}
            assert names_in(await rig.ask(CATALOG, amy)) == ["all/a", "amy/a"]
            assert names_in(await rig.ask(CATALOG, await rig.login())) == ["all/a"]
