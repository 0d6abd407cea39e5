"""Who may log in at a registry of our own, and what ends it."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import bcrypt
import pytest

from entrepot.config.kinds import Secret
from entrepot.config.local import LocalRegistry
from entrepot.config.model import Config
from entrepot.engine.identity import PROXY, Identity
from entrepot.engine.message import Headers, Request
from entrepot.engine.sealing import Secrets
from entrepot.engine.token_service import TOKEN_PATH
from entrepot.errors import ConfigError
from entrepot.oci.challenge import parse_challenges
from tests.support.clock import ManualClock
from tests.support.engine import NAME, Answer, Rig, basic, impatient, manifest_path, open_engine
from tests.support.registry import ScriptedRegistry
from tests.support.token_service import Auth as RegistryAuth

OTHER = "other.test"
ALICE, BOB = basic("alice", "wonder"), basic("bob", "builder")
WRONG = Secret("guess")
OLD, NEW = Secret("the secret of before"), Secret("the secret of now")
TAG = manifest_path("1.0")
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


class Passwords:
    """An htpasswd file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.hashes = {"alice": _hash("wonder"), "bob": _hash("builder")}
        self.write()

    def write(self) -> None:
        lines = [f"{user}:{digest}\n" for user, digest in self.hashes.items()]
        self.path.write_text("".join(lines))

    def change(self, user: str, password: str) -> None:
        self.hashes[user] = _hash(password)
        self.write()

    def remove(self, user: str) -> None:
        del self.hashes[user]
        self.write()


def _hash(password: str) -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()


@dataclass(frozen=True, slots=True)
class Home:
    """A local registry, `rig`, whose users are in `passwords`."""

    rig: Rig
    passwords: Passwords

    async def get(self, authorization: str = "", query: str = "", host: str = NAME) -> Answer:
        headers = {"Authorization": authorization} if authorization else {}
        return await self.rig.ask(f"{TOKEN_PATH}?{query}", headers, host=host)

    async def post(self, host: str = NAME, **form: str) -> Answer:
        body = urlencode(form).encode()
        return await self.rig.ask(TOKEN_PATH, FORM, method="POST", body=body, host=host)

    async def refresh(self, token: str, host: str = NAME) -> Answer:
        return await self.post(host, grant_type="refresh_token", refresh_token=token)

    async def ping(self, authorization: str = "", host: str = NAME) -> Answer:
        headers = {"Authorization": authorization} if authorization else {}
        return await self.rig.ask("/v2/", headers, host=host)

    async def who(self, authorization: str) -> Identity | None:
        site = self.rig.engine.sites.by_authority(NAME)
        assert site is not None
        headers = Headers([("authorization", authorization)] if authorization else [])
        request = Request(method="GET", path="/v2/", host=NAME, headers=headers, client="192.0.2.1")
        return await self.rig.engine.service._tokens.identify(request, site)


def bearer(answer: Answer) -> str:
    document = said(answer)
    assert document["token"] == document["access_token"]
    return f"Bearer {document['token']}"


def said(answer: Answer) -> dict[str, Any]:
    assert answer.status == 200, answer
    assert answer.headers["Cache-Control"] == "no-store"
    document: dict[str, Any] = json.loads(answer.body)
    return document


def local(registry: ScriptedRegistry, **settings: Any) -> Config:
    entry = LocalRegistry(upstream=(registry.url,), **settings)
    return Config(registries={}, local_registries={NAME: entry, OTHER: entry}, upstream=impatient())


@pytest.fixture
def passwords(tmp_path: Path) -> Passwords:
    return Passwords(tmp_path / "htpasswd")


@pytest.fixture
async def home(
    registry: ScriptedRegistry, clock: ManualClock, passwords: Passwords
) -> AsyncIterator[Home]:
    registry.add_image("app", "1.0")
    config = local(registry, htpasswd=passwords.path, anonymous=("pull",))
    async with open_engine(registry, clock, config=config) as rig:
        yield Home(rig, passwords)


class TestTheChallenge:
    async def test_names_the_host_that_was_asked(self, home: Home) -> None:
        answer = await home.ping()
        (challenge,) = parse_challenges(answer.headers["WWW-Authenticate"])
        assert (answer.status, answer.code) == (401, "UNAUTHORIZED")
        assert challenge.scheme == "bearer"
        assert challenge.realm == f"https://{NAME}{TOKEN_PATH}"
        assert challenge.service == NAME

    async def test_is_in_the_clients_own_terms(self, home: Home) -> None:
        """Of a listener whose port was published as another."""
        site = home.rig.engine.sites.by_authority(NAME)
        assert site is not None
        request = Request(method="GET", path="/v2/", host=f"{NAME}:5443", scheme="https")
        answer = await home.rig.engine.service.respond(request, site)
        (challenge,) = parse_challenges(answer.headers["WWW-Authenticate"])
        assert challenge.realm == f"https://{NAME}:5443{TOKEN_PATH}"

    async def test_the_upstream_is_asked_nothing(self, home: Home) -> None:
        await home.ping()
        await home.get()
        await home.get(ALICE)
        await home.get(basic("alice", "guess"))
        await home.ping(ALICE)
        assert home.rig.registry.log.count() == 0

    async def test_is_what_a_token_of_somebody_elses_meets(self, home: Home) -> None:
        for authorization in ("Bearer eyJ.eyJ.sig", "Bearer entrepot.AAAA", "Negotiate x", "Basic"):
            answer = await home.ping(authorization)
            assert (answer.status, await home.who(authorization)) == (401, None)
            headers = {"Authorization": authorization, "Accept": "*/*"}
            assert (await home.rig.ask(TAG, headers)).status == 401
        assert home.rig.registry.log.count() == 0


class TestWhoIsLetIn:
    async def test_by_a_get_with_basic(self, home: Home) -> None:
        token = bearer(await home.get(ALICE, "account=alice&service=x&scope=a&scope=b"))
        assert await home.who(token) == Identity("user-alice", user="alice")
        assert (await home.ping(token)).status == 200

    async def test_by_a_form(self, home: Home) -> None:
        answer = await home.post(grant_type="password", username="bob", password="builder")
        assert said(answer)["token_type"] == "Bearer"
        assert "refresh_token" not in said(answer)
        assert await home.who(bearer(answer)) == Identity("user-bob", user="bob")

    async def test_by_basic_sent_straight(self, home: Home) -> None:
        assert await home.who(ALICE) == Identity("user-alice", user="alice")
        assert (await home.ping(ALICE)).status == 200

    async def test_is_noted_for_the_log(self, home: Home) -> None:
        for authorization, user in ((ALICE, "alice"), (bearer(await home.get()), "")):
            answer = await home.rig.ask(TAG, {"Authorization": authorization})
            assert (answer.status, answer.trace.user) == (200, user)

    async def test_who_brings_nothing_is_nobody_in_particular(self, home: Home) -> None:
        assert await home.who("") is None
        token = bearer(await home.get())
        assert await home.who(token) == PROXY
        assert (await home.ping(token)).status == 200
        headers = {"Authorization": token, "Accept": "*/*"}
        assert (await home.rig.ask(TAG, headers)).status == 200

    async def test_a_token_holds_no_password_and_nothing_of_it(self, home: Home) -> None:
        answer = await home.get(ALICE, "offline_token=true")
        shown = answer.body.decode() + repr(await home.who(bearer(answer)))
        for secret in ("wonder", ALICE.partition(" ")[2], home.passwords.hashes["alice"]):
            assert secret not in shown

    async def test_it_holds_as_long_as_clients_need(self, home: Home, clock: ManualClock) -> None:
        answer = await home.get(ALICE)
        clock.advance(said(answer)["expires_in"])
        assert (await home.who(bearer(answer))) is not None
        clock.advance(3600)
        assert (await home.who(bearer(answer))) is None

    async def test_a_token_is_for_its_registry(self, home: Home) -> None:
        """Though the other one has the same users."""
        token = bearer(await home.get(ALICE))
        assert (await home.ping(token, host=OTHER)).status == 401

    async def test_the_one_user_of_the_settings(
        self, registry: ScriptedRegistry, clock: ManualClock
    ) -> None:
        config = local(registry, username="alice", password=Secret("wonder"))
        async with open_engine(registry, clock, config=config) as rig:
            token = await rig.login(ALICE)
            assert (await rig.ask("/v2/", token)).status == 200
            assert (await rig.ask(TOKEN_PATH, {"Authorization": BOB})).status == 401


class TestWhoIsNot:
    async def test_hears_the_same_whatever_was_wrong(self, home: Home) -> None:
        wrong = [basic("alice", "guess"), basic("nobody", "wonder"), basic("", ""), "Basic Og=="]
        answers = [await home.get(each) for each in wrong]
        answers += [
            await home.post(grant_type="password", username=user, password=password)
            for user, password in (("alice", "guess"), ("nobody", "wonder"), ("", ""))
        ]
        assert {answer.status for answer in answers} == {401}
        assert {answer.code for answer in answers} == {"UNAUTHORIZED"}
        assert len({answer.body for answer in answers}) == 1
        assert {answer.headers["WWW-Authenticate"] for answer in answers} == {
            f'Basic realm="{NAME}"'
        }

    async def test_is_nobody_with_basic_sent_straight(self, home: Home) -> None:
        for authorization in (basic("alice", "guess"), basic("nobody", "wonder")):
            assert (await home.ping(authorization)).status == 401
            headers = {"Authorization": authorization, "Accept": "*/*"}
            assert (await home.rig.ask(TAG, headers)).status == 401

    async def test_is_not_heard_when_guessing_on(self, home: Home) -> None:
        """How often is for the guesses to say: that they are asked is shown here."""
        gates = [home.get(basic("alice", f"guess {number}")) for number in range(100)]
        answers = [await gate for gate in gates]
        assert {answer.status for answer in answers} == {401}
        statistics = home.rig.guesses.statistics()
        assert statistics.wrong == 100

    async def test_what_is_no_basic_is_said(self, home: Home) -> None:
        for authorization in ("Bearer x", "Basic !", "Basic eA==", "Negotiate x"):
            answer = await home.get(authorization)
            assert (answer.status, answer.code) == (400, "UNSUPPORTED")

    async def test_a_form_that_is_none(self, home: Home) -> None:
        for form in ({}, {"grant_type": "authorization_code"}, {"username": "alice"}):
            assert (await home.post(**form)).status == 400
        answer = await home.rig.ask(TOKEN_PATH, FORM, method="POST", body=bytes((64 << 10) + 1))
        assert answer.status == 413


class TestWhatEndsIt:
    async def test_a_user_who_is_taken_from_the_file(self, home: Home) -> None:
        answer = await home.get(ALICE, "offline_token=true")
        other = await home.get(BOB, "offline_token=true")
        home.passwords.remove("alice")
        assert await home.who(bearer(answer)) is None
        assert await home.who(ALICE) is None
        assert (await home.refresh(said(answer)["refresh_token"])).status == 401
        assert await home.who(bearer(other)) == Identity("user-bob", user="bob")
        assert (await home.refresh(said(other)["refresh_token"])).status == 200

    async def test_another_password(self, home: Home) -> None:
        answer = await home.get(ALICE, "offline_token=true")
        home.passwords.change("alice", "looking-glass")
        assert await home.who(bearer(answer)) is None
        refused = await home.refresh(said(answer)["refresh_token"])
        assert (refused.status, refused.code) == (401, "UNAUTHORIZED")
        assert b"this login has ended; log in again" in refused.body
        assert await home.who(ALICE) is None
        assert (await home.get(basic("alice", "looking-glass"))).status == 200

    async def test_the_same_name_given_to_somebody_else(self, home: Home) -> None:
        answer = await home.get(ALICE)
        home.passwords.remove("alice")
        assert await home.who(bearer(answer)) is None
        home.passwords.change("alice", "another alice")
        assert await home.who(bearer(answer)) is None

    async def test_another_name_for_the_one_user(
        self, registry: ScriptedRegistry, clock: ManualClock
    ) -> None:
        config = local(registry, username="alice", password=Secret("wonder"))
        async with open_engine(registry, clock, config=config) as rig:
            token = await rig.login(ALICE)
        for settings in ({"username": "bob"}, {"password": Secret("looking-glass")}):
            entry = replace(config.local_registries[NAME], **settings)
            changed = replace(config, local_registries={NAME: entry})
            async with open_engine(registry, clock, config=changed) as rig:
                assert (await rig.ask("/v2/", token)).status == 401


class TestRefreshTokens:
    async def test_are_given_to_who_asks(self, home: Home) -> None:
        assert "refresh_token" not in said(await home.get(ALICE))
        assert "refresh_token" not in said(await home.get(query="offline_token=true"))
        assert said(await home.get(ALICE, "offline_token=true"))["refresh_token"]
        answer = await home.post(
            grant_type="password", username="bob", password="builder", access_type="offline"
        )
        refreshed = await home.refresh(said(answer)["refresh_token"])
        assert await home.who(bearer(refreshed)) == Identity("user-bob", user="bob")

    async def test_are_no_tokens(self, home: Home) -> None:
        answer = await home.get(ALICE, "offline_token=true")
        assert await home.who(f"Bearer {said(answer)['refresh_token']}") is None
        assert (await home.refresh(said(answer)["token"])).status == 401

    async def test_hold_for_years(self, home: Home, clock: ManualClock) -> None:
        token = said(await home.get(ALICE, "offline_token=true"))["refresh_token"]
        clock.advance(5 * 365 * 86400)
        assert (await home.refresh(token)).status == 200

    async def test_are_for_one_registry(self, home: Home) -> None:
        token = said(await home.get(ALICE, "offline_token=true"))["refresh_token"]
        assert (await home.refresh(token, host=OTHER)).status == 401

    @pytest.mark.parametrize("token", ["", "entrepot.", "entrepot.AAAA", "dckr_pat_x"])
    async def test_odd_ones(self, home: Home, token: str) -> None:
        assert (await home.refresh(token)).status == 401


class TestSecrets:
    """Nodes that share them, and one that has another than before."""

    async def answer_of(self, home: Home, secrets: Secrets, clock: ManualClock) -> Answer:
        config = home.rig.config
        async with open_engine(home.rig.registry, clock, config=config, secrets=secrets) as rig:
            return await Home(rig, home.passwords).get(ALICE, "offline_token=true")

    @pytest.mark.parametrize(
        ("given", "shown", "opens"),
        [
            (Secrets(NEW), Secrets(NEW), True),
            (Secrets(OLD), Secrets(NEW, (OLD,)), True),
            (Secrets(NEW, (OLD,)), Secrets(OLD, (NEW,)), True),  # while nodes change one by one
            (Secrets(OLD), Secrets(NEW), False),
            (Secrets(NEW, (OLD,)), Secrets(OLD), False),
        ],
    )
    async def test_open_each_others_tokens(
        self, home: Home, clock: ManualClock, given: Secrets, shown: Secrets, *, opens: bool
    ) -> None:
        answer = await self.answer_of(home, given, clock)
        config = home.rig.config
        async with open_engine(home.rig.registry, clock, config=config, secrets=shown) as rig:
            there = Home(rig, home.passwords)
            assert (await there.who(bearer(answer)) is not None) == opens
            refreshed = await there.refresh(said(answer)["refresh_token"])
            assert (refreshed.status == 200) == opens

    async def test_a_refreshed_login_outlives_the_former_secret(
        self, home: Home, clock: ManualClock
    ) -> None:
        token = said(await self.answer_of(home, Secrets(OLD), clock))["refresh_token"]
        config = home.rig.config
        for secrets in (Secrets(NEW, (OLD,)), Secrets(NEW)):
            async with open_engine(home.rig.registry, clock, config=config, secrets=secrets) as rig:
                token = said(await Home(rig, home.passwords).refresh(token))["refresh_token"]


class TestAnOpenRegistry:
    """There is nobody who could log in."""

    @pytest.fixture
    async def home(
        self, registry: ScriptedRegistry, clock: ManualClock, passwords: Passwords
    ) -> AsyncIterator[Home]:
        registry.add_image("app", "1.0")
        config = local(registry, anonymous=("pull", "push"))
        async with open_engine(registry, clock, config=config) as rig:
            yield Home(rig, passwords)

    @pytest.mark.parametrize("authorization", ["", ALICE, "Bearer eyJ.eyJ.sig"])
    async def test_asks_for_nothing(self, home: Home, authorization: str) -> None:
        assert (await home.ping(authorization)).status == 200
        assert await home.who(authorization) == PROXY
        headers = {"Authorization": authorization} if authorization else {}
        assert (await home.rig.ask(TAG, headers | {"Accept": "*/*"})).status == 200
        assert {entry.authorization for entry in home.rig.registry.log.entries} == {"none"}

    async def test_has_no_login_to_give(self, home: Home) -> None:
        assert (await home.get(ALICE)).status == 401
        assert (await home.post(grant_type="password", username="a", password="b")).status == 401
        assert (await home.refresh("entrepot.AAAA")).status == 401
        assert (await home.get()).status == 200


async def test_the_upstreams_own_login_is_the_proxys_matter(
    clock: ManualClock, passwords: Passwords
) -> None:
    auth = RegistryAuth("basic", {"proxy": "inner"}, allows_anonymous=False)
    with ScriptedRegistry(auth=auth) as registry:
        registry.add_image("app", "1.0")
        config = local(
            registry,
            htpasswd=passwords.path,
            upstream_username="proxy",
            upstream_password=Secret("inner"),
        )
        async with open_engine(registry, clock, config=config) as rig:
            answer = await rig.ask(TAG, await rig.login(ALICE) | {"Accept": "*/*"})
            assert answer.status == 200
            assert {entry.user for entry in registry.log.find(TAG)} <= {"", "proxy"}
            # The clients' passwords are nothing to it, and its own are nothing to clients.
            assert (
                await rig.ask(TOKEN_PATH, {"Authorization": basic("proxy", "inner")})
            ).status == 401


@pytest.mark.parametrize("given", [{}, {"upstream_username": "proxy", "upstream_password": WRONG}])
@pytest.mark.parametrize(("method", "path"), [("GET", TAG), ("POST", "/v2/app/blobs/uploads/")])
async def test_where_the_proxy_itself_is_not_let_in_no_client_is_asked_for_a_login(
    clock: ManualClock, passwords: Passwords, given: dict[str, Any], method: str, path: str
) -> None:
    auth = RegistryAuth("basic", {"proxy": "inner"}, allows_anonymous=False)
    with ScriptedRegistry(auth=auth) as registry:
        registry.add_image("app", "1.0")
        config = local(registry, htpasswd=passwords.path, **given)
        async with open_engine(registry, clock, config=config) as rig:
            headers = await rig.login(ALICE) | {"Accept": "*/*"}
            answer = await rig.ask(path, headers, method=method, body=b"")
            assert (answer.status, answer.code) == (502, "UNAVAILABLE")
            assert "WWW-Authenticate" not in answer.headers
            assert b"upstream_username" in answer.body


async def test_users_that_cannot_be_read_are_no_users(
    registry: ScriptedRegistry, clock: ManualClock, tmp_path: Path
) -> None:
    (tmp_path / "htpasswd").write_text("alice:{SHA}not-bcrypt\n")
    config = local(registry, htpasswd=tmp_path / "htpasswd")
    with pytest.raises(ExceptionGroup) as caught:
        async with open_engine(registry, clock, config=config):
            pass
    assert caught.group_contains(ConfigError, match=f"local_registries.{NAME}.htpasswd: .*line 1")


async def test_a_token_of_a_registry_that_is_ours_no_more_opens_nothing(
    home: Home, registry: ScriptedRegistry, clock: ManualClock
) -> None:
    token = bearer(await home.get(ALICE))
    entry = home.rig.config.served[NAME]
    config = Config(registries={NAME: entry}, upstream=impatient())
    async with open_engine(registry, clock, config=config) as rig:
        assert (await rig.ask("/v2/", {"Authorization": token})).status == 401
        assert (await rig.ask(TAG, {"Authorization": token, "Accept": "*/*"})).status == 401


async def test_a_realm_that_is_said_to_be_at_a_registry_of_ours_is_not_shown(
    registry: ScriptedRegistry, clock: ManualClock, passwords: Passwords
) -> None:
    """Passwords of our users are no other registry's."""
    with ScriptedRegistry(auth=RegistryAuth("bearer")) as evil:
        evil.send_for_tokens_to(f"https://{NAME}/token")
        config = local(registry, htpasswd=passwords.path)
        evil_entry = replace(config.served[NAME], endpoints=(evil.url,))
        async with open_engine(
            registry, clock, config=replace(config, registries={"evil.test": evil_entry})
        ) as rig:
            answer = await rig.ask("/v2/", host="evil.test")
            (challenge,) = parse_challenges(answer.headers["WWW-Authenticate"])
            assert challenge.realm == f"https://evil.test{TOKEN_PATH}"
            answer = await rig.ask("/token", {"Authorization": ALICE})
            assert answer.trace.kind != "token"
            assert "basic" not in {entry.authorization for entry in evil.log.entries}
