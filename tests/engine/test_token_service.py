"""Who asks, and who says so: challenges, tokens, and what each of them opens."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from urllib.parse import urlencode

import pytest

from entrepot.config.kinds import Seconds, Secret
from entrepot.config.model import DOCKER_HUB, Auth, Config, Registry, Tags
from entrepot.engine.token_service import TOKEN_PATH
from entrepot.oci.challenge import Challenge, parse_challenges
from entrepot.storage.memory import MemoryLedger
from tests.support.clock import ManualClock
from tests.support.content import Given
from tests.support.engine import (
    NAME,
    Answer,
    Rig,
    basic,
    blob_path,
    config_for,
    manifest_path,
    open_engine,
)
from tests.support.faults import AnswerWith
from tests.support.registry import ScriptedRegistry
from tests.support.token_service import Auth as RegistryAuth

ALICE, BOB, WRONG = basic("alice", "wonder"), basic("bob", "builder"), basic("alice", "guess")
USERS = {"alice": "wonder", "bob": "builder", "robot": "s3cr3t"}
OURS = f"https://{NAME}{TOKEN_PATH}"
TAG = manifest_path("1.0")
UPLOADS = "/v2/app/blobs/uploads/"
ANYTHING = {"Accept": "*/*"}


@pytest.fixture
def bearer() -> Iterator[ScriptedRegistry]:
    auth = RegistryAuth("bearer", dict(USERS), speaks_oauth2=True)
    with ScriptedRegistry(auth=auth) as registry:
        registry.add_image("app", "1.0")
        yield registry


@pytest.fixture
def asking_basic() -> Iterator[ScriptedRegistry]:
    auth = RegistryAuth("basic", dict(USERS), allows_anonymous=False)
    with ScriptedRegistry(auth=auth) as registry:
        registry.add_image("app", "1.0")
        yield registry


def challenge_of(answer: Answer) -> Challenge:
    assert answer.status == 401
    assert answer.code == "UNAUTHORIZED"
    assert answer.headers["Docker-Distribution-Api-Version"] == "registry/2.0"
    (challenge,) = parse_challenges(answer.headers["WWW-Authenticate"])
    assert challenge.scheme == "bearer"
    return challenge


def token_of(answer: Answer) -> dict[str, str]:
    assert answer.status == 200, answer
    assert answer.headers["Cache-Control"] == "no-store"
    document = json.loads(answer.body)
    return {"Authorization": f"Bearer {document.get('token') or document['access_token']}"}


def with_own_realm(registry: ScriptedRegistry) -> Config:
    """Its host is intercepted, as Docker Hub's auth.docker.io is."""
    return config_for(registry, hosts=(registry.url.partition("//")[2],))


class TestTheRealmThatIsShown:
    async def test_is_the_upstreams_own_where_requests_to_it_come_past_us(
        self, bearer: ScriptedRegistry, clock: ManualClock
    ) -> None:
        async with open_engine(bearer, clock, config=with_own_realm(bearer)) as rig:
            challenge = challenge_of(await rig.ask("/v2/"))
            assert challenge.realm == f"{bearer.url}/token"
            assert challenge.service == "registry.test"
            host = bearer.url.partition("//")[2]
            token = token_of(await rig.ask("/token?service=registry.test", host=host))
            assert (await rig.ask("/v2/", token)).status == 200
            token = token_of(await rig.ask("/token?scope=repository:app:pull", ALICE_, host=host))
            assert (await rig.ask(TAG, token | ANYTHING)).status == 200

    async def test_is_ours_where_it_leads_elsewhere(
        self, bearer: ScriptedRegistry, clock: ManualClock
    ) -> None:
        async with open_engine(bearer, clock) as rig:
            challenge = challenge_of(await rig.ask("/v2/"))
            assert (challenge.realm, challenge.service) == (OURS, "registry.test")

    async def test_is_ours_where_basic_is_asked_for(
        self, asking_basic: ScriptedRegistry, clock: ManualClock
    ) -> None:
        async with open_engine(asking_basic, clock) as rig:
            challenge = challenge_of(await rig.ask("/v2/"))
            assert (challenge.realm, challenge.service) == (OURS, NAME)

    async def test_is_ours_at_first_contact_with_nobody_there(
        self, bearer: ScriptedRegistry, clock: ManualClock
    ) -> None:
        bearer.die()
        async with open_engine(bearer, clock) as rig:
            assert challenge_of(await rig.ask("/v2/")).realm == OURS

    async def test_stays_after_a_restart_with_nobody_there(
        self, bearer: ScriptedRegistry, clock: ManualClock
    ) -> None:
        ledger, config = MemoryLedger(clock), with_own_realm(bearer)
        async with open_engine(bearer, clock, ledger=ledger, config=config) as rig:
            before = challenge_of(await rig.ask("/v2/"))
        bearer.die()
        async with open_engine(bearer, clock, ledger=ledger, config=config) as rig:
            assert challenge_of(await rig.ask("/v2/")) == before
            assert token_of(await rig.ask("/token", host=bearer.url.partition("//")[2]))

    async def test_of_docker_hub_is_known_with_nobody_there(
        self, bearer: ScriptedRegistry, clock: ManualClock
    ) -> None:
        bearer.die()
        hub = Registry(endpoints=(bearer.url,), hosts=("auth.docker.io", "registry-1.docker.io"))
        async with open_engine(bearer, clock, config=Config(registries={DOCKER_HUB: hub})) as rig:
            challenge = challenge_of(await rig.ask("/v2/", host="registry-1.docker.io"))
            assert challenge.realm == "https://auth.docker.io/token"
            assert token_of(await rig.ask("/token", host="auth.docker.io"))

    async def test_names_the_host_that_was_asked(
        self, bearer: ScriptedRegistry, clock: ManualClock
    ) -> None:
        config = config_for(bearer, hosts=("alias.test",))
        async with open_engine(bearer, clock, config=config) as rig:
            challenge = challenge_of(await rig.ask("/v2/", host="alias.test"))
            assert challenge.realm == f"https://alias.test{TOKEN_PATH}"

    @pytest.mark.parametrize(
        ("method", "path", "scope"),
        [
            ("GET", "/v2/", ""),
            ("GET", TAG, "repository:app:pull"),
            ("HEAD", TAG, "repository:app:pull"),
            ("PUT", TAG, "repository:app:pull,push"),
            ("DELETE", TAG, "repository:app:delete"),
            ("POST", UPLOADS, "repository:app:pull,push"),
            ("POST", f"{UPLOADS}?digest=x", "repository:app:pull,push"),
            (
                "POST",
                f"{UPLOADS}?mount=sha256:00&from=base%2Fimage",
                "repository:app:pull,push repository:base/image:pull",
            ),
            ("POST", f'{UPLOADS}?mount=x&from=a"b', "repository:app:pull,push"),
            ("GET", f"{TAG}?from=other", "repository:app:pull"),
            ("GET", f"{UPLOADS}1-2-3", "repository:app:pull,push"),
            ("GET", "/v2/app/tags/list", "repository:app:pull"),
            ("GET", "/v2/_catalog", "registry:catalog:*"),
        ],
    )
    async def test_comes_with_the_scope_that_is_needed(
        self, bearer: ScriptedRegistry, clock: ManualClock, method: str, path: str, scope: str
    ) -> None:
        async with open_engine(bearer, clock) as rig:
            response = await rig.open(path, method=method)
            (challenge,) = parse_challenges(response.headers["WWW-Authenticate"])
            assert (response.status, challenge.scope) == (401, scope)


ALICE_ = {"Authorization": ALICE}


class TestAnonymous:
    async def test_a_token_says_so_and_opens_what_is_public(
        self, bearer: ScriptedRegistry, clock: ManualClock
    ) -> None:
        async with open_engine(bearer, clock) as rig:
            answer = await rig.ask(TOKEN_PATH)
            said = json.loads(answer.body)
            assert said["token"] == said["access_token"]
            issued_at = datetime.fromisoformat(said["issued_at"]).timestamp()
            assert issued_at == pytest.approx(clock.now(), abs=1)
            assert 60 < said["expires_in"] < 3600  # as long as it opens
            assert (await rig.ask(TAG, token_of(answer) | ANYTHING)).status == 200

    async def test_and_works_with_nobody_there(
        self, bearer: ScriptedRegistry, clock: ManualClock
    ) -> None:
        async with open_engine(bearer, clock) as rig:
            token = await rig.login()
            await rig.ask(TAG, token | ANYTHING)
            bearer.die()
            again = await rig.login()
            assert (await rig.ask("/v2/", again)).status == 200
            assert (await rig.ask(TAG, again | ANYTHING)).cache == "hit"

    async def test_it_opens_nothing_that_is_private(
        self, bearer: ScriptedRegistry, clock: ManualClock
    ) -> None:
        bearer.make_private("app", "alice")
        async with open_engine(bearer, clock) as rig:
            assert challenge_of(await rig.ask(TAG, await rig.login() | ANYTHING)).realm == OURS

    async def test_it_is_good_for_an_hour(
        self, bearer: ScriptedRegistry, clock: ManualClock
    ) -> None:
        async with open_engine(bearer, clock) as rig:
            token = await rig.login()
            clock.advance(3601)
            challenge_of(await rig.ask("/v2/", token))

    async def test_and_at_registries_that_share_a_token_service(
        self, bearer: ScriptedRegistry, clock: ManualClock
    ) -> None:
        """As lscr.io and ghcr.io do: the request for a token does not say for which of them."""
        bearer.send_for_tokens_to("https://first.test/token")
        entry = Registry(endpoints=(bearer.url,))
        config = Config(registries={"first.test": entry, "second.test": entry})
        async with open_engine(bearer, clock, config=config) as rig:
            for host in ("first.test", "second.test"):
                realm = challenge_of(await rig.ask("/v2/", host=host)).realm
                assert realm == "https://first.test/token"
            token = token_of(await rig.ask("/token", host="first.test"))
            for host in ("first.test", "second.test"):
                assert (await rig.ask("/v2/", token, host=host)).status == 200

    async def test_registries_that_ask_nobody_need_no_token(
        self, registry: ScriptedRegistry, rig: Rig
    ) -> None:
        registry.add_image("app", "1.0")
        assert (await rig.ask(TAG, ANYTHING)).status == 200
        # Clients send credentials only when challenged: who asks for `/v2/` is.
        challenge_of(await rig.ask("/v2/"))


class TestTheUpstreamsOwnTokens:
    @pytest.fixture
    async def rig(self, bearer: ScriptedRegistry, clock: ManualClock) -> AsyncIterator[Rig]:
        bearer.make_private("app", "alice")
        async with open_engine(bearer, clock) as rig:
            yield rig

    async def test_credentials_are_for_the_upstream_to_judge(self, rig: Rig) -> None:
        token = await rig.login(ALICE)
        assert (await rig.ask("/v2/", token)).status == 200
        assert (await rig.ask(TAG, token | ANYTHING)).status == 200
        users = {entry.user for entry in rig.registry.log.find(TAG)}
        assert users == {"alice"}

    async def test_wrong_ones_are_refused_as_the_upstream_says_it(self, rig: Rig) -> None:
        answer = await rig.ask(f"{TOKEN_PATH}?service=registry.test", {"Authorization": WRONG})
        assert answer.status == 401
        assert json.loads(answer.body) == {"details": "incorrect username or password"}

    async def test_the_form_is_passed_on(self, rig: Rig) -> None:
        form = {"grant_type": "password", "username": "alice", "password": "wonder",
                "scope": "repository:app:pull", "access_type": "offline"}  # fmt: skip
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        answer = await rig.ask(TOKEN_PATH, headers, method="POST", body=urlencode(form).encode())
        assert (await rig.ask(TAG, token_of(answer) | ANYTHING)).status == 200
        refresh = json.loads(answer.body)["refresh_token"]
        form = {"grant_type": "refresh_token", "refresh_token": refresh,
                "scope": "repository:app:pull"}  # fmt: skip
        answer = await rig.ask(TOKEN_PATH, headers, method="POST", body=urlencode(form).encode())
        assert (await rig.ask(TAG, token_of(answer) | ANYTHING)).status == 200

    async def test_a_form_without_end_is_not_read_to_it(self, rig: Rig) -> None:
        answer = await rig.ask(TOKEN_PATH, method="POST", body=bytes((64 << 10) + 1))
        assert answer.status == 413
        assert rig.registry.log.count("/token") == 0

    async def test_a_token_that_is_refused_is_to_be_got_anew(self, rig: Rig) -> None:
        token = await rig.login(ALICE)
        rig.registry.tokens.expire_all()
        assert challenge_of(await rig.ask("/v2/", token)).realm == OURS
        assert challenge_of(await rig.ask(TAG, token | ANYTHING)).scope == "repository:app:pull"

    async def test_one_that_was_got_elsewhere_is_the_clients_identity(self, rig: Rig) -> None:
        token = await rig.login(ALICE)
        assert (await rig.ask(TAG, token | ANYTHING)).status == 200
        other = await rig.login(BOB)
        assert challenge_of(await rig.ask(TAG, other | ANYTHING))

    async def test_a_ping_opens_nothing_where_nobody_answers(self, rig: Rig) -> None:
        token = await rig.login(ALICE)
        rig.registry.die()
        assert (await rig.ask("/v2/", token)).status == 200
        assert (await rig.ask(TAG, token | ANYTHING)).status == 502

    async def test_a_realm_that_is_not_to_be_trusted_gets_no_credentials(self, rig: Rig) -> None:
        with ScriptedRegistry(auth=RegistryAuth("bearer", {"alice": "wonder"})) as evil:
            rig.registry.send_for_tokens_to(f"https://evil.test:{evil.port}/token")
            answer = await rig.ask(f"{TOKEN_PATH}?service=x", ALICE_)
            assert (answer.status, answer.code) == (502, "UNAVAILABLE")
            assert evil.log.count() == 0
        assert "wonder" not in answer.body.decode()


class TestSealedTokens:
    """Where Basic is asked for, a token carries the credentials."""

    @pytest.fixture
    async def rig(self, asking_basic: ScriptedRegistry, clock: ManualClock) -> AsyncIterator[Rig]:
        async with open_engine(asking_basic, clock) as rig:
            yield rig

    async def test_they_are_verified_once_and_then_carried(self, rig: Rig) -> None:
        token = await rig.login(ALICE)
        assert rig.registry.log.count("/v2/", method="GET") == 2  # the challenge, and the word
        assert (await rig.ask(TAG, token | ANYTHING)).status == 200
        (seen,) = rig.registry.log.find(TAG)
        assert (seen.user, seen.authorization) == ("alice", "basic")

    async def test_they_are_one_identity_with_those_sent_straight(self, rig: Rig) -> None:
        token = await rig.login(ALICE)
        content = rig.registry.add_blob("app", Given(b"layer"))
        assert (await rig.ask(blob_path(content), token)).cache == "miss"
        assert (await rig.ask(blob_path(content), ALICE_)).cache == "hit"
        assert rig.registry.log.count(blob_path(content)) == 1

    async def test_wrong_ones_are_refused(self, rig: Rig) -> None:
        answer = await rig.ask(TOKEN_PATH, {"Authorization": WRONG})
        assert (answer.status, answer.code) == (401, "UNAUTHORIZED")
        assert answer.headers["WWW-Authenticate"] == f'Basic realm="{NAME}"'

    @pytest.mark.parametrize(
        "authorization", ["Bearer x", "Basic", "Basic !", "Basic eA==", "Negotiate x"]
    )
    async def test_what_is_no_basic_is_none(self, rig: Rig, authorization: str) -> None:
        answer = await rig.ask(TOKEN_PATH, {"Authorization": authorization})
        assert (answer.status, answer.code) == (400, "UNSUPPORTED")

    async def test_only_reads_and_forms_are_answered(self, rig: Rig) -> None:
        for method in ("PUT", "DELETE", "PATCH"):
            answer = await rig.ask(TOKEN_PATH, ALICE_, method=method)
            assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD, POST")

    async def test_oauth_is_not_spoken(self, rig: Rig) -> None:
        answer = await rig.ask(TOKEN_PATH, method="POST", body=b"grant_type=password")
        assert answer.status == 405

    @pytest.mark.parametrize(("status", "said"), [(500, 500), (403, 403), (404, 404)])
    async def test_an_upstream_that_gives_no_word(self, rig: Rig, status: int, said: int) -> None:
        await rig.ask("/v2/")
        rig.registry.fault(AnswerWith(status))
        assert (await rig.ask(TOKEN_PATH, ALICE_)).status == said

    async def test_nobody_there(self, rig: Rig) -> None:
        rig.registry.die()
        assert (await rig.ask(TOKEN_PATH, ALICE_)).status == 502

    async def test_they_live_on_in_an_outage(self, rig: Rig, clock: ManualClock) -> None:
        token = await rig.login(ALICE)
        await rig.ask(TAG, token | ANYTHING)
        rig.registry.die()
        clock.advance(1000)
        assert (await rig.ask(TAG, token | ANYTHING)).cache == "stale"
        other = await rig.ask(TAG, {"Authorization": BOB} | ANYTHING)
        assert other.status == 502

    async def test_one_that_was_tampered_with_is_to_be_got_anew(self, rig: Rig) -> None:
        token = (await rig.login(ALICE))["Authorization"]
        challenge_of(await rig.ask(TAG, {"Authorization": token[:-8] + "AAAAAAAA"}))


class TestTheOperatorsCredentials:
    @pytest.mark.parametrize("scheme", ["basic", "bearer"])
    async def test_open_what_they_open_to_clients_without_any(
        self, clock: ManualClock, scheme: str
    ) -> None:
        auth = RegistryAuth("basic" if scheme == "basic" else "bearer", dict(USERS))
        with ScriptedRegistry(auth=auth) as registry:
            registry.add_image("app", "1.0")
            registry.make_private("app", "robot")
            config = config_for(registry, username="robot", password=Secret("s3cr3t"))
            async with open_engine(registry, clock, config=config) as rig:
                token = await rig.login()
                assert (await rig.ask(TAG, token | ANYTHING)).status == 200
                # Never to who brings their own.
                assert (await rig.ask(TAG, ALICE_ | ANYTHING)).status == 401
                answer = await rig.ask(TOKEN_PATH)
                assert "s3cr3t" not in answer.body.decode()

    @pytest.mark.parametrize("scheme", ["basic", "bearer"])
    @pytest.mark.parametrize(
        ("is_configured", "shown", "asked_as"),
        [
            (True, ALICE, "alice"),  # the client's own go before the operator's
            (False, ALICE, "alice"),
            (True, "", "robot"),  # and these before none
            (False, "", ""),
        ],
    )
    async def test_whose_rights_a_request_has(
        self, clock: ManualClock, scheme: str, *, is_configured: bool, shown: str, asked_as: str
    ) -> None:
        """By a token, and sent unasked where the registry takes that."""
        auth = RegistryAuth(
            "basic" if scheme == "basic" else "bearer", dict(USERS), allows_anonymous=not asked_as
        )
        username, password = ("robot", Secret("s3cr3t")) if is_configured else ("", None)
        with ScriptedRegistry(auth=auth) as registry:
            registry.add_image("app", "1.0")
            config = config_for(
                registry, tags=Tags(ttl=Seconds(0)), username=username, password=password
            )
            async with open_engine(registry, clock, config=config) as rig:
                ways = [await rig.login(shown)]
                if shown and scheme == "basic":
                    ways.append({"Authorization": shown})
                for headers in ways:
                    registry.log.clear()
                    assert (await rig.ask(TAG, headers | ANYTHING)).status == 200
                    users = [entry.user for entry in registry.log.find(TAG) if entry.status == 200]
                    assert users == [asked_as]


async def test_a_token_path_belongs_to_the_registry_whose_realm_it_is(
    bearer: ScriptedRegistry, clock: ManualClock
) -> None:
    """One whose token service is at another registry's host."""
    host = bearer.url.partition("//")[2]
    entries = {
        NAME: Registry(endpoints=(bearer.url,)),
        "tokens.test": Registry(endpoints=(bearer.url,), hosts=(host,)),
    }
    async with open_engine(bearer, clock, config=Config(registries=entries)) as rig:
        assert challenge_of(await rig.ask("/v2/")).realm == f"{bearer.url}/token"
        answer = await rig.ask("/token?scope=repository:app:pull", ALICE_, host=host)
        assert answer.trace.registry == NAME
        assert (await rig.ask(TAG, token_of(answer) | ANYTHING)).status == 200
        # The same path of another host is something else.
        assert (await rig.ask("/token", host=NAME)).trace.kind == "other"


@pytest.mark.usefixtures("task_factory")
async def test_challenges_to_many_at_once(bearer: ScriptedRegistry, clock: ManualClock) -> None:
    async with open_engine(bearer, clock) as rig:
        answers = await asyncio.gather(*(rig.ask("/v2/") for _ in range(20)))
        assert {challenge_of(answer).realm for answer in answers} == {OURS}
        assert bearer.log.count("/v2/") == 1


async def test_who_may_read_is_believed_for_as_long_as_is_set(
    asking_basic: ScriptedRegistry, clock: ManualClock
) -> None:
    auth = Auth(verdict_ttl=Seconds(30))
    async with open_engine(asking_basic, clock, config=config_for(asking_basic, auth=auth)) as rig:
        content = asking_basic.add_blob("app", Given(b"layer"))
        assert (await rig.ask(blob_path(content), ALICE_)).status == 200
        asking_basic.make_private("app", "bob")
        assert (await rig.ask(blob_path(content), ALICE_)).status == 200
        clock.advance(30)
        assert (await rig.ask(blob_path(content), ALICE_)).status == 401
        assert (await rig.ask(blob_path(content), {"Authorization": BOB})).status == 200
