"""Credentials that were once good are an identity of their own, whatever tokens they get."""

import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from urllib.parse import urlencode

import pytest

from entrepot.config.kinds import Seconds, Secret
from entrepot.config.model import Auth, Config
from entrepot.engine import logins as logins_module
from entrepot.engine.facts import Facts
from entrepot.engine.logins import Logins
from entrepot.engine.sealing import Secrets
from entrepot.engine.token_service import TOKEN_PATH
from entrepot.storage.memory import MemoryLedger, MemoryStore
from tests.support.clock import ManualClock
from tests.support.content import Given
from tests.support.engine import Rig, basic, blob_path, config_for, impatient, open_engine
from tests.support.faults import AnswerWith, Hold
from tests.support.registry import ScriptedRegistry
from tests.support.token_service import TOKEN_PATH as UPSTREAM_TOKEN_PATH
from tests.support.token_service import Auth as RegistryAuth

type Node = Callable[[Secrets], AbstractAsyncContextManager[Rig]]

ALICE, BOB = basic("alice", "wonder"), basic("bob", "builder")
CONTENT = Given(b"a layer")
PATH = blob_path(CONTENT)
VERDICT_TTL_S, OFFLINE_GRACE_S = 300, 1000


@pytest.fixture(params=["bearer", "basic"])
def registry(request: pytest.FixtureRequest) -> Iterator[ScriptedRegistry]:
    users = {"alice": "wonder", "bob": "builder"}
    auth = RegistryAuth(request.param, users, allows_anonymous=False, speaks_oauth2=True)
    with ScriptedRegistry(auth=auth) as registry:
        registry.add_blob("app", CONTENT)
        registry.make_private("app", "alice")
        yield registry


@pytest.fixture
async def rig(registry: ScriptedRegistry, clock: ManualClock) -> AsyncIterator[Rig]:
    async with open_engine(registry, clock, config=config_of(registry)) as rig:
        yield rig


def config_of(registry: ScriptedRegistry) -> Config:
    auth = Auth(verdict_ttl=Seconds(VERDICT_TTL_S), offline_grace=Seconds(OFFLINE_GRACE_S))
    return config_for(registry, auth=auth, upstream=impatient(header_timeout=Seconds(1)))


async def test_what_is_known_of_a_login_outlives_its_tokens(rig: Rig) -> None:
    assert (await rig.ask(PATH, await rig.login(ALICE))).cache == "miss"
    rig.registry.forget()
    assert (await rig.ask(PATH, await rig.login(ALICE))).cache == "hit"
    assert rig.registry.log.count(PATH) == 0


async def test_who_was_let_in_goes_on_in_an_outage(rig: Rig, clock: ManualClock) -> None:
    await rig.ask(PATH, await rig.login(ALICE))
    rig.registry.die()
    clock.advance(VERDICT_TTL_S)
    token = await rig.login(ALICE)
    assert (await rig.ask(PATH, token)).body == CONTENT.body
    # What is not here would have to be asked for, with a token that there is not.
    missing = await rig.ask(blob_path(Given(b"other")), token)
    assert missing.status in {401, 502}


@pytest.mark.parametrize("status", [500, 503])
async def test_trouble_of_the_token_service_is_an_outage(rig: Rig, status: int) -> None:
    await rig.ask(PATH, await rig.login(ALICE))
    rig.registry.fault(AnswerWith(status))
    assert (await rig.ask(PATH, await rig.login(ALICE))).body == CONTENT.body


# Where the client words what the token service is asked.
with_tokens = pytest.mark.parametrize("registry", ["bearer"], indirect=True)


@with_tokens
class TestWhoLostTheirRights:
    """And makes the token service fail, to go on as in an outage."""

    @pytest.mark.parametrize("status", [429, 500, 503])
    async def test_is_refused_by_a_plain_question(self, rig: Rig, status: int) -> None:
        await rig.ask(PATH, await rig.login(ALICE))
        rig.registry.tokens.auth.users["alice"] = "changed"
        rig.registry.tokens.expire_all()
        rig.registry.fault(AnswerWith(status), path=f"{UPSTREAM_TOKEN_PATH}*", times=1)
        path = f"{TOKEN_PATH}?scope=repository:app:pull&account=%00"
        answer = await rig.ask(path, {"Authorization": ALICE})
        assert answer.status == status
        rig.registry.die()
        expected = 200 if status == 429 else 502
        assert (await rig.ask(path, {"Authorization": ALICE})).status == expected

    async def test_is_refused_while_that_is_not_answered_for_a_quota(self, rig: Rig) -> None:
        await rig.ask(PATH, await rig.login(ALICE))
        rig.registry.fault(AnswerWith(500), path=f"{UPSTREAM_TOKEN_PATH}*", times=1)
        rig.registry.fault(AnswerWith(429), path=f"{UPSTREAM_TOKEN_PATH}*", skip=1, times=1)
        answer = await rig.ask(TOKEN_PATH, {"Authorization": ALICE})
        assert answer.status == 500

    async def test_is_let_in_for_minutes_after_an_outage(
        self, rig: Rig, clock: ManualClock
    ) -> None:
        await rig.ask(PATH, await rig.login(ALICE))
        undo = rig.registry.fault(AnswerWith(503))
        token = await rig.login(ALICE)
        undo()
        rig.registry.tokens.auth.users["alice"] = "changed"
        clock.advance(299)
        assert (await rig.ask(PATH, token)).status == 200
        clock.advance(2)
        assert (await rig.ask(PATH, token)).status == 401


async def test_not_for_longer_than_is_set(rig: Rig, clock: ManualClock) -> None:
    await rig.ask(PATH, await rig.login(ALICE))
    rig.registry.die()
    clock.advance(VERDICT_TTL_S + OFFLINE_GRACE_S)
    answer = await rig.ask(TOKEN_PATH, {"Authorization": ALICE})
    assert answer.status == 502


async def test_nobody_else_comes_in(rig: Rig) -> None:
    await rig.ask(PATH, await rig.login(ALICE))
    rig.registry.die()
    for stranger in (BOB, basic("alice", "guess")):
        answer = await rig.ask(TOKEN_PATH, {"Authorization": stranger})
        assert answer.status == 502


async def test_credentials_that_were_refused_since_are_no_longer_good(rig: Rig) -> None:
    await rig.ask(PATH, await rig.login(ALICE))
    rig.registry.tokens.auth.users["alice"] = "changed"
    refused = await rig.ask(TOKEN_PATH, {"Authorization": ALICE})
    assert refused.status == 401
    rig.registry.die()
    assert (await rig.ask(TOKEN_PATH, {"Authorization": ALICE})).status == 502


@with_tokens
async def test_a_token_for_one_repository_opens_no_more_here(rig: Rig) -> None:
    """Its scope is part of who shows it."""
    await rig.ask(PATH, await rig.login(ALICE))
    other = await rig.login(ALICE, repository="other")
    assert (await rig.ask(PATH, other)).status == 401


@with_tokens
async def test_forms_show_who_somebody_is(rig: Rig) -> None:
    form = {"grant_type": "password", "username": "alice", "password": "wonder",
            "scope": "repository:app:pull"}  # fmt: skip

    async def log_in() -> dict[str, str]:
        answer = await rig.ask(TOKEN_PATH, method="POST", body=urlencode(form).encode())
        assert answer.status == 200, answer.body
        document = json.loads(answer.body)
        return {"Authorization": f"Bearer {document.get('token') or document['access_token']}"}

    assert (await rig.ask(PATH, await log_in())).cache == "miss"
    rig.registry.die()
    assert (await rig.ask(PATH, await log_in())).cache == "hit"
    form["password"] = "guess"
    answer = await rig.ask(TOKEN_PATH, method="POST", body=urlencode(form).encode())
    assert answer.status == 502


async def test_what_is_remembered_of_tokens_is_bounded(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logins_module, "_TOKENS_MAX", 1)
    first = await rig.login(ALICE)
    second = await rig.login(ALICE, repository="other")
    assert first != second
    # One that is forgotten is an identity of its own: it works, and is asked about once.
    assert (await rig.ask(PATH, first)).status == 200


def test_a_token_that_was_given_elsewhere_is_nobodys_for_long(clock: ManualClock) -> None:
    facts = Facts(MemoryLedger(clock), clock, keep_s=1000)
    logins = Logins(facts, Auth(), clock, [b"key"])
    assert logins.identity("registry.test", "Bearer token").is_passing
    assert not logins.identity("registry.test", ALICE).is_passing


async def test_a_token_service_that_hangs_is_no_end(rig: Rig) -> None:
    await rig.ask(PATH, await rig.login(ALICE))
    rig.registry.fault(Hold(), path="/token")
    rig.registry.fault(Hold(), path="/v2/")
    assert (await rig.ask(PATH, await rig.login(ALICE))).body == CONTENT.body


class TestAnotherSecret:
    """The same store and clients, with the secret replaced and that of before kept, or not."""

    OLD, NEW = Secret("the secret of before"), Secret("the secret of now")
    ROTATED = Secrets(NEW, (OLD,))

    @pytest.fixture
    def node(self, registry: ScriptedRegistry, clock: ManualClock) -> Node:
        ledger, store = MemoryLedger(clock), MemoryStore(clock)
        config = config_of(registry)
        return lambda secrets: open_engine(
            registry, clock, ledger=ledger, store=store, config=config, secrets=secrets
        )

    async def test_who_was_let_in_goes_on_in_an_outage(
        self, node: Node, clock: ManualClock
    ) -> None:
        async with node(Secrets(self.OLD)) as rig:
            await rig.ask(PATH, await rig.login(ALICE))
            rig.registry.die()
            clock.advance(VERDICT_TTL_S)
            in_the_outage = await rig.login(ALICE)
        async with node(self.ROTATED) as rig:
            assert (await rig.ask(PATH, in_the_outage)).body == CONTENT.body
            assert (await rig.ask(PATH, await rig.login(ALICE))).body == CONTENT.body
            assert (await rig.ask(TOKEN_PATH, {"Authorization": BOB})).status == 502
        async with node(Secrets(self.NEW)) as rig:
            assert (await rig.ask(PATH, in_the_outage)).status == 401
            assert (await rig.ask(TOKEN_PATH, {"Authorization": ALICE})).status == 502

    async def test_who_is_refused_is_so_by_every_name(self, node: Node) -> None:
        async with node(Secrets(self.OLD)) as rig:
            await rig.ask(PATH, await rig.login(ALICE))
        async with node(self.ROTATED) as rig:
            token = await rig.login(ALICE)
            rig.registry.make_private("app", "bob")
            rig.registry.tokens.auth.users["alice"] = "changed"
            assert (await rig.ask(TOKEN_PATH, {"Authorization": ALICE})).status == 401
            rig.registry.die()
            assert (await rig.ask(TOKEN_PATH, {"Authorization": ALICE})).status == 502
        async with node(Secrets(self.OLD)) as rig:
            assert (await rig.ask(TOKEN_PATH, {"Authorization": ALICE})).status == 502
            assert (await rig.ask(PATH, token)).status in {401, 502}

    async def test_what_is_learned_is_known_by_the_new_name(
        self, node: Node, clock: ManualClock
    ) -> None:
        async with node(Secrets(self.OLD)) as rig:
            await rig.ask(PATH, await rig.login(ALICE))
        clock.advance(VERDICT_TTL_S)
        async with node(self.ROTATED) as rig:
            assert (await rig.ask(PATH, await rig.login(ALICE))).body == CONTENT.body
        async with node(Secrets(self.NEW)) as rig:
            rig.registry.die()
            assert (await rig.ask(PATH, await rig.login(ALICE))).cache == "hit"

    async def test_nodes_that_share_them_open_each_others_tokens(self, node: Node) -> None:
        for one, other in (
            (Secrets(self.NEW), Secrets(self.NEW)),
            (Secrets(self.OLD), self.ROTATED),
            (Secrets(self.NEW), Secrets(self.OLD, (self.NEW,))),
        ):
            async with node(one) as rig:
                token = await rig.login(ALICE)
                nobody = await rig.login()
            async with node(other) as rig:
                assert (await rig.ask(PATH, token)).body == CONTENT.body
                assert (await rig.ask("/v2/", nobody)).status == 200
