"""What passes the gate, and with whose rights it goes on; for every route and identity see
`test_route_table`.
"""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from entrepot.config.kinds import Secret
from entrepot.config.local import AccessRule, LocalRegistry
from entrepot.config.model import Config, RepositoryRule
from entrepot.engine.ask import Ask
from entrepot.engine.identity import own_identity
from entrepot.engine.message import Request, Trace
from entrepot.errors import UpstreamError
from entrepot.oci.reference import Repository
from entrepot.oci.route import parse_route
from tests.support.clock import ManualClock
from tests.support.content import Given
from tests.support.engine import (
    NAME,
    Rig,
    basic,
    blob_path,
    config_for,
    impatient,
    manifest_path,
    open_engine,
)
from tests.support.faults import AnswerWith
from tests.support.registry import ScriptedRegistry
from tests.support.token_service import Auth

ROBOT: dict[str, Any] = {"username": "robot", "password": Secret("s3cr3t")}
UPLOADS = "/v2/team/app/blobs/uploads/"
INSIDE, OUTSIDE = "10.1.2.3", "192.0.2.1"
RULES = (
    RepositoryRule(match="team/*", push="allow"),
    RepositoryRule(match="secret/*", pull="deny", message="Ask the platform team."),
)


@pytest.fixture
def registry() -> Iterator[ScriptedRegistry]:
    users = {"robot": "s3cr3t", "alice": "wonder"}
    with ScriptedRegistry(auth=Auth("bearer", users)) as registry:
        registry.add_image("team/app", "1.0")
        registry.add_image("secret/app", "1.0")
        yield registry


@pytest.fixture
async def ruled(registry: ScriptedRegistry, clock: ManualClock) -> AsyncIterator[Rig]:
    async with open_engine(registry, clock, config=config_for(registry, rules=RULES)) as rig:
        yield rig


async def bearer_of(rig: Rig, user: str, *repositories: str) -> dict[str, str]:
    scopes = [f"repository:{name}:pull,push" for name in repositories]
    token = rig.registry.tokens._issue(user, scopes)["token"]
    return {"Authorization": f"Bearer {token}"}


class TestRules:
    async def test_a_refusal_has_the_rules_own_message(self, ruled: Rig) -> None:
        answer = await ruled.ask(manifest_path("1.0", "secret/app"), await ruled.login())
        assert (answer.status, answer.code) == (403, "DENIED")
        assert b"Ask the platform team." in answer.body
        assert not ruled.registry.log.find("/v2/secret/*")

    async def test_where_push_is_allowed_it_goes_on(self, ruled: Rig) -> None:
        alice = await bearer_of(ruled, "alice", "team/app", "other")
        assert (await ruled.ask(UPLOADS, alice, method="POST")).status == 202
        answer = await ruled.ask("/v2/other/blobs/uploads/", alice, method="POST")
        assert (answer.status, answer.code) == (405, "UNSUPPORTED")

    async def test_whether_a_pusher_need_send_a_layer_is_the_upstreams_to_say(
        self, ruled: Rig
    ) -> None:
        """Said out of the cache, "exists" would make the push leave it out."""
        nobody = await ruled.login()
        for repository, expected in (("team/app", 404), ("other/app", 200)):
            blob = ruled.registry.add_blob(repository, Given(repository.encode()))
            path = blob_path(blob, repository)
            await ruled.ask(path, nobody)
            ruled.registry._answers.repository(repository).blobs.clear()
            assert (await ruled.ask(path, nobody, method="HEAD")).status == expected

    @pytest.mark.parametrize(
        ("path", "status"),
        [
            ("/v2/team/app/blobs/upload/1", 202),
            ("/v2/secret/app/blobs/upload/1", 405),
            ("/v2/team/app/blobs/other/1", 405),
            ("/v2/team/app/blobs/upload/%252e%252e", 400),
            ("/v2/team/app/blobs/upload/..;", 400),
        ],
    )
    async def test_uploads_of_ghcr_are_known(self, ruled: Rig, path: str, status: int) -> None:
        ruled.registry.fault(AnswerWith(202), path="/v2/*/upload/1", method="PATCH")
        alice = await bearer_of(ruled, "alice", "team/app")
        assert (await ruled.ask(path, alice, method="PATCH", body=b"layer")).status == status

    async def test_what_may_not_be_pulled_is_not_mounted(self, ruled: Rig) -> None:
        alice = await bearer_of(ruled, "alice", "team/app")
        for source in ("team/app", "secret/app"):
            await ruled.ask(f"{UPLOADS}?mount=sha256:a&from={source}", alice, method="POST")
        asked = [entry.target for entry in ruled.registry.log.find(UPLOADS)]
        assert asked == [f"{UPLOADS}?mount=sha256:a&from=team/app", UPLOADS]


NEXT: dict[str, dict[str, Any]] = {
    "none": {},
    "another": {"username": "alice", "password": Secret("wonder")},
}


class TestOtherSettings:
    """What was opened under those of before, when the upstream cannot be asked any more."""

    @pytest.mark.parametrize("account", list(NEXT))
    async def test_what_the_operators_account_opened_is_not_for_what_comes_after_it(
        self, registry: ScriptedRegistry, clock: ManualClock, account: str
    ) -> None:
        registry.make_private("secret/app", "robot")
        path = manifest_path("1.0", "secret/app")
        async with open_engine(registry, clock, config=config_for(registry, **ROBOT)) as rig:
            assert (await rig.ask(path, await rig.login())).status == 200
            store, ledger = rig.store, rig.ledger
        registry.die()
        for settings, expected in ((ROBOT, 200), (NEXT[account], 502)):
            config = config_for(registry, **settings)
            async with open_engine(
                registry, clock, store=store, ledger=ledger, config=config
            ) as rig:
                assert (await rig.ask(path, await rig.login())).status == expected

    async def test_what_users_of_a_local_registry_read_is_not_for_all_when_it_is_none_any_more(
        self, clock: ManualClock
    ) -> None:
        path = manifest_path("1.0", "secret/app")
        with ScriptedRegistry() as registry:
            registry.add_image("secret/app", "1.0")
            own = LocalRegistry(upstream=(registry.url,), username="ann", password=Secret("a"))
            local = Config(registries={}, local_registries={NAME: own}, upstream=impatient())
            async with open_engine(registry, clock, config=local) as rig:
                answer = await rig.ask(path, {"Authorization": basic("ann", "a")})
                assert answer.status == 200
                store, ledger = rig.store, rig.ledger
            registry.die()
            async with open_engine(registry, clock, store=store, ledger=ledger) as rig:
                assert (await rig.ask(path, await rig.login())).status == 502


class TestWrites:
    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("POST", UPLOADS),
            ("PATCH", f"{UPLOADS}1"),
            ("GET", f"{UPLOADS}1"),
            ("DELETE", manifest_path("1.0", "team/app")),
            ("PATCH", "/v2/team/app/blobs/upload/1"),
        ],
    )
    async def test_take_a_login_where_there_is_none(
        self, registry: ScriptedRegistry, clock: ManualClock, method: str, path: str
    ) -> None:
        config = config_for(registry, push="allow", **ROBOT)
        async with open_engine(registry, clock, config=config) as rig:
            answer = await rig.ask(path, await rig.login(), method=method)
            assert (answer.status, answer.cache) == (401, "challenge")
            assert not registry.log.find(path, method=method)

    async def test_ask_for_the_rights_to_write(
        self, registry: ScriptedRegistry, clock: ManualClock
    ) -> None:
        config = config_for(registry, push="allow", **ROBOT)
        async with open_engine(registry, clock, config=config) as rig:
            answer = await rig.ask(UPLOADS, await rig.login(), method="POST")
            challenge = answer.headers["WWW-Authenticate"]
            assert 'scope="repository:team/app:pull,push"' in challenge

    @pytest.mark.parametrize("client", [INSIDE, OUTSIDE])
    async def test_are_the_operators_for_its_audience_alone(
        self, registry: ScriptedRegistry, clock: ManualClock, client: str
    ) -> None:
        config = config_for(
            registry, push="allow", push_as="operator", audience=("10.0.0.0/8",), **ROBOT
        )
        async with open_engine(registry, clock, config=config) as rig:
            answer = await rig.ask(UPLOADS, await rig.login(), method="POST", client=client)
            asked = [entry.user for entry in registry.log.find(UPLOADS, method="POST")]
            if client == INSIDE:
                assert (answer.status, asked[-1]) == (202, "robot")
            else:
                assert (answer.status, answer.cache, asked) == (401, "challenge", [])

    async def test_of_who_logged_in_are_theirs(
        self, registry: ScriptedRegistry, clock: ManualClock
    ) -> None:
        config = config_for(registry, push="allow", push_as="operator", **ROBOT)
        async with open_engine(registry, clock, config=config) as rig:
            alice = await bearer_of(rig, "alice", "team/app")
            assert (await rig.ask(UPLOADS, alice, method="POST")).status == 202
            assert [entry.user for entry in registry.log.find(UPLOADS)] == ["alice"]

    async def test_to_a_registry_that_asks_nobody_need_no_login(self, clock: ManualClock) -> None:
        """Nor do they bring the operator's, should it come to ask."""
        with ScriptedRegistry() as registry:
            config = config_for(registry, push="allow", **ROBOT)
            async with open_engine(registry, clock, config=config) as rig:
                assert (await rig.ask(UPLOADS, method="POST")).status == 202
                challenge = ("WWW-Authenticate", 'Basic realm="x"')
                registry.fault(AnswerWith(401, b"", (challenge,)), path=UPLOADS)
                assert (await rig.ask(UPLOADS, method="POST")).status == 401
                assert {entry.authorization for entry in registry.log.find()} == {"none"}

    async def test_outside_of_the_api_go_on_with_nobodys_rights(
        self, registry: ScriptedRegistry, clock: ManualClock
    ) -> None:
        """A client that is logged in sends no token there; the place is what opens it."""
        config = config_for(registry, push="allow", **ROBOT)
        async with open_engine(registry, clock, config=config) as rig:
            place = AnswerWith(202, b"", (("Location", "/uploads/1"),))
            undo = registry.fault(place, path=UPLOADS)
            alice = await bearer_of(rig, "alice", "team/app")
            await rig.ask(UPLOADS, alice, method="POST")
            undo()
            registry.fault(AnswerWith(202), path="/uploads/1")
            answer = await rig.ask("/uploads/1", method="PATCH", body=b"layer")
            assert answer.status == 202
            assert registry.log.find("/uploads/1")[-1].user == ""


class TestAudience:
    @pytest.fixture
    async def rig(self, registry: ScriptedRegistry, clock: ManualClock) -> AsyncIterator[Rig]:
        registry.make_private("secret/app", "robot")
        config = config_for(registry, audience=("10.0.0.0/8",), **ROBOT)
        async with open_engine(registry, clock, config=config) as rig:
            yield rig

    async def test_others_read_what_is_public_with_nobodys_rights(self, rig: Rig) -> None:
        path = manifest_path("1.0", "team/app")
        answer = await rig.ask(path, await rig.login(), client=OUTSIDE)
        assert answer.status == 200
        assert {entry.user for entry in rig.registry.log.find("/v2/*")} == {""}
        assert {entry.authorization for entry in rig.registry.log.find("/token")} == {"none"}

    async def test_their_404_says_nothing_of_what_is_there(
        self, rig: Rig, clock: ManualClock
    ) -> None:
        """Registries say so to strangers of what has become private."""
        image = rig.registry.add_image("team/app", "1.0")
        path, nobody = manifest_path(image.digest, "team/app"), await rig.login()
        for client in (INSIDE, OUTSIDE):
            assert (await rig.ask(path, nobody, client=client)).status == 200
        clock.advance(301)
        undo = rig.registry.fault(AnswerWith(404), path="/v2/team/*")
        assert (await rig.ask(path, nobody, client=OUTSIDE)).status == 404
        undo()
        rig.registry.die()
        assert (await rig.ask(path, nobody, client=INSIDE)).status == 200

    async def test_who_logs_in_elsewhere_is_not_led_in_by_the_operators_rights(
        self, rig: Rig
    ) -> None:
        path = manifest_path("1.0", "secret/app")
        assert (await rig.ask(path, await rig.login(), client=INSIDE)).status == 200
        rig.registry.die()
        alice = await bearer_of(rig, "alice", "secret/app")
        assert (await rig.ask(path, alice, client=OUTSIDE)).status == 502
        assert (await rig.ask(path, alice, client=INSIDE)).status == 200

    async def test_without_credentials_there_are_no_strangers(
        self, registry: ScriptedRegistry, clock: ManualClock
    ) -> None:
        config = config_for(registry, audience=("10.0.0.0/8",))
        async with open_engine(registry, clock, config=config) as rig:
            path = manifest_path("1.0", "team/app")
            answers = [
                await rig.ask(path, await rig.login(), client=client)
                for client in (INSIDE, OUTSIDE)
            ]
            assert [answer.cache for answer in answers] == ["miss", "hit"]


class TestLocal:
    @pytest.fixture
    async def rig(self, registry: ScriptedRegistry, clock: ManualClock) -> AsyncIterator[Rig]:
        registry.tokens.auth = Auth("basic", {"robot": "s3cr3t"}, allows_anonymous=False)
        local = LocalRegistry(
            upstream=(registry.url,),
            upstream_username="robot",
            upstream_password=Secret("s3cr3t"),
            username="amy",
            password=Secret("pass"),
            anonymous=("pull",),
        )
        config = Config(
            registries={},
            local_registries={NAME: local, "ro.test": LocalRegistry(
                upstream=(registry.url,), anonymous=("pull", "push"), read_only=True
            )},
            upstream=impatient(),
        )  # fmt: skip
        async with open_engine(registry, clock, config=config) as rig:
            yield rig

    async def test_is_asked_with_the_proxys_rights_whoever_asks(self, rig: Rig) -> None:
        amy = {"Authorization": basic("amy", "pass")}
        path = manifest_path("1.0", "team/app")
        assert (await rig.ask(path, amy)).status == 200
        assert (await rig.ask(path, await rig.login())).status == 200
        assert (await rig.ask(UPLOADS, amy, method="POST")).status == 202
        assert (await rig.ask("/v2/_catalog", amy)).status == 200
        users = {entry.user for entry in rig.registry.log.find() if entry.status != 401}
        assert users == {"robot"}

    async def test_who_may_not_write_is_asked_to_log_in(self, rig: Rig) -> None:
        answer = await rig.ask(UPLOADS, await rig.login(), method="POST")
        assert (answer.status, answer.cache) == (401, "challenge")
        assert ":pull,push" in answer.headers["WWW-Authenticate"]

    async def test_that_is_read_only_says_so(self, rig: Rig) -> None:
        answer = await rig.ask(UPLOADS, host="ro.test", method="POST")
        assert (answer.status, answer.code) == (405, "UNSUPPORTED")
        assert b"read-only" in answer.body

    async def test_what_is_no_login_of_its_own_opens_nothing(self, rig: Rig) -> None:
        site = rig.engine.sites.by_authority(NAME)
        assert site is not None
        path = manifest_path("1.0", "team/app")
        request, route = Request(method="GET", path=path, host=NAME), parse_route(path)
        stranger = own_identity("Bearer x", b"key")
        ask = Ask(request, site, route, Repository("team/app"), stranger, Trace())
        with pytest.raises(UpstreamError) as refused:
            await rig.engine.service._gate.admit(ask)
        assert refused.value.status == 401


async def test_a_catalog_is_closed_to_who_may_see_nothing_without_a_login(
    registry: ScriptedRegistry, clock: ManualClock
) -> None:
    local = LocalRegistry(
        upstream=(registry.url,), username="amy", password=Secret("pass"), access=(AccessRule(),)
    )
    config = Config(registries={}, local_registries={NAME: local}, upstream=impatient())
    async with open_engine(registry, clock, config=config) as rig:
        assert (await rig.ask("/v2/_catalog", await rig.login())).status == 401
        assert not registry.log.find("/v2/_catalog")
        registry.tokens.auth = Auth()
        amy = {"Authorization": basic("amy", "pass")}
        answer = await rig.ask("/v2/_catalog", amy)
        assert json.loads(answer.body) == {"repositories": []}
