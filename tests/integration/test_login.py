"""What `docker login` and its like say to the token service that the proxy is."""

import base64
import json
from urllib.parse import urlencode

import pytest

from tests.integration.conftest import Setting
from tests.integration.identities import REPOSITORY, USERS, Recorder, basic, issued_tokens
from tests.integration.waiting import eventually
from tests.support.client import Answer, ProxyClient
from tests.support.token_service import Auth

SCHEMES = ("bearer", "basic")


def open_to(setting: Setting, scheme: str, *, speaks_oauth2: bool = False) -> None:
    """With a repository of alice's alone."""
    assert scheme in {"bearer", "basic"}
    auth = Auth("bearer" if scheme == "bearer" else "basic", USERS, speaks_oauth2=speaks_oauth2)
    setting.registry.tokens.auth = auth
    setting.registry.add_image(REPOSITORY, "1.0", (10_000,))
    setting.registry.make_private(REPOSITORY, "alice")
    setting.config["registries"]["second.test"] = dict(setting.upstream)


async def ping(setting: Setting, client: ProxyClient, authorization: str = "") -> Answer:
    headers = {"Authorization": authorization} if authorization else {}
    return await client.request("GET", f"{setting.url}/v2/", headers)


async def log_in(setting: Setting, client: ProxyClient, credentials: str) -> str:
    challenge = (await ping(setting, client)).challenge
    return f"Bearer {await client.token(challenge, credentials)}"


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_ping_asks_for_a_token_of_the_registrys_own(setting: Setting, scheme: str) -> None:
    open_to(setting, scheme)
    answer = await ping(setting, setting.start())
    assert (answer.status, answer.challenge.scheme) == (401, "bearer")
    assert answer.headers["docker-distribution-api-version"] == "registry/2.0"
    assert answer.challenge.realm.startswith("https://")
    assert answer.json()["errors"][0]["code"] == "UNAUTHORIZED"


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_right_credentials_open_and_wrong_ones_do_not(setting: Setting, scheme: str) -> None:
    open_to(setting, scheme)
    client = setting.start()
    for wrong in (basic("alice", "wrong"), basic("bob", "alice-password"), "Basic bm9uZQ=="):
        with pytest.raises(PermissionError):
            await log_in(setting, client, wrong)
    token = await log_in(setting, client, basic("alice"))
    assert (await ping(setting, client, token)).status == 200
    pulled = await client.pull(setting.url, REPOSITORY, "1.0", credentials=basic("alice"))
    assert pulled.blobs
    with pytest.raises(LookupError):
        await client.pull(setting.url, REPOSITORY, "1.0", credentials=basic("bob"))
    with pytest.raises(LookupError):
        await client.pull(setting.url, REPOSITORY, "1.0")


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_anonymous_tokens_are_given_also_with_the_upstream_down(
    setting: Setting, scheme: str
) -> None:
    open_to(setting, scheme)
    client = setting.start()
    await ping(setting, client)
    setting.registry.die()
    token = await log_in(setting, client, "")
    assert (await ping(setting, client, token)).status == 200


async def test_a_first_contact_with_the_upstream_down_gets_a_token_too(setting: Setting) -> None:
    setting.registry.die()
    client = setting.start()
    answer = await ping(setting, client)
    assert answer.status == 401
    assert answer.challenge.realm == f"{setting.url}/entrepot/token"
    token = await client.token(answer.challenge)
    assert (await ping(setting, client, f"Bearer {token}")).status == 200


@pytest.mark.parametrize("speaks_oauth2", [True, False])
async def test_oauth2_is_the_upstreams_own(setting: Setting, *, speaks_oauth2: bool) -> None:
    """Containerd with credentials asks this way first, and with GET after 405."""
    open_to(setting, "bearer", speaks_oauth2=speaks_oauth2)
    client = setting.start()
    answer = await post_for_token(setting, client, USERS["alice"])
    assert answer.status == (200 if speaks_oauth2 else 405)
    if speaks_oauth2:
        assert answer.json()["access_token"] in issued_tokens(setting.registry)
        assert (await post_for_token(setting, client, "wrong")).status == 401


async def test_oauth2_where_the_upstream_has_no_tokens_sends_to_get(setting: Setting) -> None:
    open_to(setting, "basic")
    client = setting.start()
    assert (await post_for_token(setting, client, USERS["alice"])).status == 405


async def post_for_token(setting: Setting, client: ProxyClient, password: str) -> Answer:
    challenge = (await ping(setting, client)).challenge
    form = {
        "grant_type": "password",
        "username": "alice",
        "password": password,
        "service": challenge.service,
        "scope": f"repository:{REPOSITORY}:pull",
    }
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    return await client.request("POST", challenge.realm, headers, urlencode(form).encode())


async def test_basic_sent_straight_to_a_registry_that_takes_it_is_used_as_it_is(
    setting: Setting,
) -> None:
    open_to(setting, "basic")
    client = setting.start()
    url = f"{setting.url}/v2/{REPOSITORY}/manifests/1.0"
    assert (await client.request("GET", url, {"Authorization": basic("alice")})).status == 200
    for stranger in (basic("bob"), basic("alice", "wrong")):
        answer = await client.request("GET", url, {"Authorization": stranger})
        assert answer.status == 401


class TestSealedTokens:
    """Given by the proxy for a registry that knows no tokens: they carry the credentials."""

    @pytest.fixture
    async def token(self, setting: Setting) -> str:
        open_to(setting, "basic")
        return await log_in(setting, setting.start(), basic("alice"))

    async def test_show_nothing_of_what_they_carry(self, token: str) -> None:
        raw = base64.urlsafe_b64decode(token.removeprefix("Bearer entrepot.") + "==")
        for secret in (USERS["alice"], basic("alice").partition(" ")[2]):
            assert secret not in token
            assert secret.encode() not in raw

    async def test_are_good_after_a_restart(self, setting: Setting, token: str) -> None:
        setting.proxy.restart()
        url = f"{setting.url}/v2/{REPOSITORY}/manifests/1.0"
        answer = await setting.client.request("GET", url, {"Authorization": token})
        assert answer.status == 200

    async def test_are_nothing_to_another_registry(self, setting: Setting, token: str) -> None:
        setting.registry.forget()
        url = f"https://second.test/v2/{REPOSITORY}/manifests/1.0"
        answer = await setting.client.request("GET", url, {"Authorization": token})
        assert (answer.status, answer.challenge.scheme) == (401, "bearer")
        assert {entry.authorization for entry in setting.registry.log.entries} <= {"none"}

    async def test_that_were_mangled_are_challenged_and_not_passed_on(
        self, setting: Setting, token: str
    ) -> None:
        setting.registry.forget()
        mangled = (
            token[:-1],
            token[:-2] + "AA",
            token + "x",
            token + "\xff",
            token.replace("entrepot.", "entrepot.AAAA"),
            token[: len(token) // 2],
            "Bearer entrepot.",
            f"bearer  {token.partition(' ')[2]}x",
        )
        for authorization in mangled:
            for path in (f"{REPOSITORY}/manifests/1.0", ""):
                url = f"{setting.url}/v2/{path}"
                headers = {"Authorization": authorization}
                answer = await setting.client.request("GET", url, headers)
                assert (answer.status, answer.challenge.scheme) == (401, "bearer")
        assert {entry.authorization for entry in setting.registry.log.entries} <= {"none"}

    async def test_of_who_was_locked_out_open_nothing(self, setting: Setting, token: str) -> None:
        setting.registry.tokens.auth = Auth("basic", {"bob": USERS["bob"]})
        assert (await ping(setting, setting.client, token)).status == 401


async def test_a_login_is_in_no_answer(setting: Setting) -> None:
    open_to(setting, "basic")
    setting.start()
    client = Recorder(setting)
    await client.pull(setting.url, REPOSITORY, "1.0", credentials=basic("alice"))
    await client.request("GET", f"{setting.url}/v2/", {"Authorization": basic("alice")})
    heard = json.dumps(client.heard)
    assert USERS["alice"] not in heard
    assert basic("alice").partition(" ")[2] not in heard


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_who_was_let_in_before_is_let_in_while_the_upstream_is_down(
    setting: Setting, scheme: str
) -> None:
    open_to(setting, scheme)
    client = setting.start()
    cold = await client.pull(setting.url, REPOSITORY, "1.0", credentials=basic("alice"))
    setting.registry.die()
    assert await client.pull(setting.url, REPOSITORY, "1.0", credentials=basic("alice")) == cold
    with pytest.raises((PermissionError, LookupError)):
        await client.pull(setting.url, REPOSITORY, "1.0", credentials=basic("alice", "wrong"))
    with pytest.raises((PermissionError, LookupError)):
        await client.pull(setting.url, REPOSITORY, "1.0")
    setting.registry.revive()

    async def again() -> bool:
        try:
            await client.pull(setting.url, REPOSITORY, "1.0", credentials=basic("alice"))
        except (PermissionError, LookupError):
            return False
        return True

    await eventually(again, bool)
