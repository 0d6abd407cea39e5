"""Users of upstreams with token services: known again by any of their tokens, and in outages."""

from collections.abc import AsyncIterator, Iterator
from urllib.parse import urlencode

import pytest

from entrepot.config.model import Auth, Seconds
from entrepot.engine.token_service import TOKEN_PATH
from tests.support.clock import ManualClock
from tests.support.engine import Rig, basic, config_for, manifest_path, open_engine
from tests.support.faults import AnswerWith
from tests.support.registry import ScriptedRegistry
from tests.support.token_service import Auth as RegistryAuth

ALICE, BOB, WRONG = basic("alice", "wonder"), basic("bob", "builder"), basic("alice", "guess")
TAG = manifest_path("1.0")
ANYTHING = {"Accept": "*/*"}
TOKEN = f"{TOKEN_PATH}?service=registry.test&scope=repository:app:pull"
LONG_S = 1000.0  # longer than verdicts and tags are believed unasked


@pytest.fixture
def registry() -> Iterator[ScriptedRegistry]:
    """Of which alice may read what others may not."""
    users = {"alice": "wonder", "bob": "builder"}
    with ScriptedRegistry(auth=RegistryAuth("bearer", users, speaks_oauth2=True)) as registry:
        for repository in ("app", "other"):
            registry.add_image(repository, "1.0")
            registry.make_private(repository, "alice")
        yield registry


@pytest.fixture
async def rig(registry: ScriptedRegistry, clock: ManualClock) -> AsyncIterator[Rig]:
    async with open_engine(registry, clock) as rig:
        yield rig


async def status_of(rig: Rig, authorization: str, path: str = TOKEN) -> int:
    return (await rig.ask(path, {"Authorization": authorization})).status


async def test_nothing_is_asked_again_when_a_token_is_renewed(rig: Rig) -> None:
    for _ in range(2):
        token = await rig.login(ALICE)
        assert (await rig.ask(TAG, token | ANYTHING)).status == 200
    assert rig.registry.log.count(TAG) == 1


async def test_a_token_for_one_repository_is_not_known_as_one_for_another(rig: Rig) -> None:
    whole = await rig.login(ALICE, repository="other")
    other = manifest_path("1.0", "other")
    assert (await rig.ask(other, whole | ANYTHING)).status == 200
    limited = await rig.login(ALICE, repository="app")
    assert (await rig.ask(other, limited | ANYTHING)).status == 401


async def test_a_token_is_known_no_longer_than_it_holds(rig: Rig, clock: ManualClock) -> None:
    old = await rig.login(ALICE)
    clock.advance(400)
    fresh = await rig.login(ALICE)
    assert (await rig.ask(TAG, fresh | ANYTHING)).status == 200
    rig.registry.tokens.expire_all()
    assert (await rig.ask(TAG, fresh | ANYTHING)).status == 200
    assert (await rig.ask(TAG, old | ANYTHING)).status == 401


async def test_an_expired_token_stands_in_nobodys_way(rig: Rig, clock: ManualClock) -> None:
    old = await rig.login(ALICE)
    rig.registry.tokens.expire_all()
    assert (await rig.ask(TAG, old | ANYTHING)).status == 401
    fresh = await rig.login(ALICE)
    assert (await rig.ask(TAG, fresh | ANYTHING)).status == 200


@pytest.mark.parametrize("outage", ["all of it", "tokens", "tokens say 503"])
async def test_who_was_let_in_goes_on_in_an_outage(
    rig: Rig, clock: ManualClock, outage: str
) -> None:
    assert (await rig.ask(TAG, await rig.login(ALICE) | ANYTHING)).status == 200
    if outage == "all of it":
        rig.registry.die()
    else:
        status = 503 if outage == "tokens say 503" else 500
        rig.registry.fault(AnswerWith(status), path="/token")
    for _ in range(2):
        token = await rig.login(ALICE)
        assert token["Authorization"].startswith("Bearer entrepot.")
        assert (await rig.ask("/v2/", token)).status == 200
        assert (await rig.ask(TAG, token | ANYTHING)).status == 200
        clock.advance(LONG_S)


async def test_others_do_not(rig: Rig) -> None:
    await rig.login(ALICE)
    rig.registry.die()
    for stranger in (BOB, WRONG):
        assert await status_of(rig, stranger) == 504


async def test_nor_to_what_they_were_not_let_into(rig: Rig) -> None:
    """Once there are tokens again, they are to get one."""
    await rig.ask(TAG, await rig.login(ALICE) | ANYTHING)
    rig.registry.fault(AnswerWith(503), path="/token")
    token = await rig.login(ALICE, repository="other")
    answer = await rig.ask(manifest_path("1.0", "other"), token | ANYTHING)
    assert answer.status == 401
    assert rig.registry.log.count(manifest_path("1.0", "other")) == 0


async def test_who_was_refused_since_is_let_in_no_more(rig: Rig) -> None:
    await rig.login(ALICE)
    rig.registry.tokens.auth.users["alice"] = "changed"
    assert await status_of(rig, ALICE) == 401
    rig.registry.die()
    assert await status_of(rig, ALICE) == 504


async def test_nobody_is_let_in_for_longer_than_is_granted(
    registry: ScriptedRegistry, clock: ManualClock
) -> None:
    auth = Auth(verdict_ttl=Seconds(10), offline_grace=Seconds(20))
    async with open_engine(registry, clock, config=config_for(registry, auth=auth)) as rig:
        await rig.login(ALICE)
        registry.die()
        clock.advance(29)
        assert await status_of(rig, ALICE) == 200
        clock.advance(2)
        assert await status_of(rig, ALICE) == 504


async def test_oauth2_forms_are_logins_too(rig: Rig) -> None:
    async def ask(password: str) -> int:
        form = {"grant_type": "password", "username": "alice", "password": password,
                "scope": "repository:app:pull"}  # fmt: skip
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        body = urlencode(form).encode()
        return (await rig.ask(TOKEN_PATH, headers, method="POST", body=body)).status

    assert await ask("wonder") == 200
    rig.registry.die()
    assert await ask("wonder") == 200
    assert await ask("guess") == 504


async def test_where_basic_is_asked_for_it_is_the_same(clock: ManualClock) -> None:
    auth = RegistryAuth("basic", {"alice": "wonder"}, allows_anonymous=False)
    with ScriptedRegistry(auth=auth) as registry:
        registry.add_image("app", "1.0")
        async with open_engine(registry, clock) as rig:
            assert (await rig.ask(TAG, await rig.login(ALICE) | ANYTHING)).status == 200
            registry.die()
            assert (await rig.ask(TAG, await rig.login(ALICE) | ANYTHING)).status == 200
            assert await status_of(rig, WRONG) == 504
