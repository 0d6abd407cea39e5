"""Logins at a registry of one's own: Debian's docker-registry, which itself asks nobody."""

import base64
import signal
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.integration.conftest import Setting
from tests.integration.identities import Recorder, basic
from tests.integration.test_push import Pusher
from tests.integration.waiting import eventually
from tests.support.client import Answer, ProxyClient
from tests.support.distribution import Distribution, is_installed
from tests.support.images import build_image

pytestmark = pytest.mark.skipif(not is_installed(), reason="needs docker-registry and htpasswd")
URL = "https://own.test"
REALM = f"{URL}/entrepot/token"
PASSWORDS = {"ann": "correct-horse-of-ann", "ben": "battery-staple-of-ben"}
GUESS = "guess-of-somebody"
OLD, NEW = "the-old-secret-of-the-proxy", "the-new-secret-of-the-proxy"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
IMAGE = build_image([200_000, 50_000], seed=3)


@dataclass(frozen=True, slots=True)
class Own:
    setting: Setting
    registry: Distribution
    htpasswd: Path
    secrets: Path

    def write(self, passwords: Mapping[str, str]) -> None:
        lines = [_line(user, password) for user, password in passwords.items()]
        self.htpasswd.write_bytes(b"".join(lines))

    def start(self) -> ProxyClient:
        return self.setting.start()

    async def reload(self) -> None:
        before = len(self.setting.proxy.log_tail())
        self.setting.proxy.signal(signal.SIGHUP)

        async def said() -> str:
            return self.setting.proxy.log_tail()[before:]

        await eventually(said, lambda text: "reloaded" in text)


def _line(user: str, password: str) -> bytes:
    command = ["htpasswd", "-nbB", "-C", "5", user, password]
    return subprocess.run(command, capture_output=True, check=True).stdout.strip() + b"\n"


@pytest.fixture
def own(setting: Setting, tmp_path: Path) -> Iterator[Own]:
    with Distribution(tmp_path / "distribution") as registry:
        htpasswd, secrets = tmp_path / "htpasswd", tmp_path / "secrets"
        entry: dict[str, Any] = {"upstream": [registry.url], "htpasswd": str(htpasswd)}
        setting.config["local_registries"] = {"own.test": entry}
        setting.config["auth"] = {"secret_file": str(secrets)}
        setting.config["log"] = {"level": "debug"}
        secrets.write_text(f"{OLD}\n")
        own = Own(setting, registry, htpasswd, secrets)
        own.write(PASSWORDS)
        yield own


def authorization(user: str, password: str = "") -> str:
    return basic(user, password or PASSWORDS[user])


async def ping(client: ProxyClient, shown: str = "") -> Answer:
    return await client.request("GET", f"{URL}/v2/", {"Authorization": shown} if shown else {})


async def log_in(client: ProxyClient, user: str, password: str = "") -> Answer:
    """As docker does it: what it then keeps is the refresh token."""
    challenge = (await ping(client)).challenge
    assert (challenge.realm, challenge.service) == (REALM, "own.test")
    query = {"account": user, "client_id": "docker", "offline_token": "true",
             "service": challenge.service}  # fmt: skip
    headers = {"Authorization": authorization(user, password)}
    return await client.request("GET", f"{REALM}?{urlencode(query)}", headers)


async def post(client: ProxyClient, **form: str) -> Answer:
    return await client.request("POST", REALM, FORM, urlencode(form).encode())


async def refresh(client: ProxyClient, token: str) -> Answer:
    return await post(
        client,
        grant_type="refresh_token",
        refresh_token=token,
        service="own.test",
        client_id="docker",
        scope="repository:app:pull,push",
    )


def bearer(answer: Answer) -> str:
    assert answer.status == 200, answer.body
    return f"Bearer {answer.json()['access_token']}"


async def test_with_a_login_is_pushed_and_pulled(own: Own) -> None:
    client = own.start()
    login = await log_in(client, "ann")
    assert (await ping(client, bearer(login))).status == 200
    token = bearer(await refresh(client, login.json()["refresh_token"]))
    await Pusher(client, f"{URL}/v2/app", token).push(IMAGE, "1.0")
    for credentials in (authorization("ann"), authorization("ben")):
        pulled = await client.pull(URL, "app", "1.0", credentials=credentials)
        assert pulled.digest == IMAGE.digest
    assert "Authorization" not in own.registry.log


async def test_as_containerd_asks_with_a_form_first(own: Own) -> None:
    client = own.start()
    form = {"grant_type": "password", "client_id": "containerd-client", "service": "own.test",
            "scope": "repository:app:pull"}  # fmt: skip
    right = await post(client, **form, username="ben", password=PASSWORDS["ben"])
    assert (await ping(client, bearer(right))).status == 200
    wrong = await post(client, **form, username="ben", password=GUESS)
    assert (wrong.status, wrong.json()["errors"][0]["code"]) == (401, "UNAUTHORIZED")


async def test_without_the_right_password_nothing_is_to_be_had(own: Own) -> None:
    client = own.start()
    ann = bearer(await log_in(client, "ann"))
    await Pusher(client, f"{URL}/v2/app", ann).push(IMAGE, "1.0")
    answers = [await log_in(client, *pair) for pair in (("ann", GUESS), ("nobody", GUESS))]
    assert [answer.status for answer in answers] == [401, 401]
    assert answers[0].body == answers[1].body
    for shown in (authorization("ann", GUESS), "Bearer eyJ.eyJ.sig", ann[:-2] + "AA", ""):
        assert (await ping(client, shown)).status == 401
        for path in ("manifests/1.0", f"blobs/{IMAGE.blobs[0].digest}", "tags/list"):
            headers = {"Authorization": shown} if shown else {}
            answer = await client.request("GET", f"{URL}/v2/app/{path}", headers)
            assert (answer.status, answer.challenge.scheme) == (401, "bearer")


async def test_a_login_ends_with_the_user_and_with_the_password(own: Own) -> None:
    client = own.start()
    logins = {user: await log_in(client, user) for user in PASSWORDS}
    own.write({"ben": "another-password-of-ben"})
    for login in logins.values():
        assert (await ping(client, bearer(login))).status == 401
        assert (await refresh(client, login.json()["refresh_token"])).status == 401
    assert (await log_in(client, "ben", "another-password-of-ben")).status == 200
    assert (await log_in(client, "ben")).status == 401


async def test_a_secret_is_replaced_while_it_runs(own: Own) -> None:
    client = own.start()
    login = await log_in(client, "ann")
    old, kept = bearer(login), login.json()["refresh_token"]
    own.secrets.write_text(f"{NEW}\n{OLD}\n")
    await own.reload()
    assert (await ping(client, old)).status == 200
    renewed = await refresh(client, kept)
    own.secrets.write_text(f"{NEW}\n")
    await own.reload()
    assert (await ping(client, old)).status == 401
    assert (await refresh(client, kept)).status == 401
    assert (await ping(client, bearer(renewed))).status == 200
    own.setting.proxy.restart()
    assert (await ping(own.setting.client, bearer(renewed))).status == 200


@pytest.mark.parametrize(("text", "said"), [("", "is empty"), ("short\n", "line 1: expected a")])
async def test_a_secret_file_of_no_use_changes_nothing(own: Own, text: str, said: str) -> None:
    client = own.start()
    token = bearer(await log_in(client, "ann"))
    own.secrets.write_text(text)
    await own.reload()
    log = own.setting.proxy.log_tail()
    assert f"not reloaded, the old configuration holds: auth.secret_file: {own.secrets}" in log
    assert said in log
    assert (await ping(client, token)).status == 200


async def test_what_clients_show_and_are_given_is_written_nowhere(own: Own) -> None:
    own.start()
    client = Recorder(own.setting)
    given = []
    for user, password in PASSWORDS.items():
        login = await log_in(client, user)
        refreshed = await refresh(client, login.json()["refresh_token"])
        form = {"grant_type": "password", "access_type": "offline"}
        other = await post(client, **form, username=user, password=password)
        given += [answer.json() for answer in (login, refreshed, other)]
        await Pusher(client, f"{URL}/v2/{user}", bearer(other)).push(IMAGE, "1.0")
        await client.pull(URL, user, "1.0", credentials=authorization(user))
        await client.request("GET", f"{URL}/v2/", {"Authorization": authorization(user)})
    await log_in(client, "ann", GUESS)
    await post(client, grant_type="password", username="ann", password=GUESS)
    await client.request("GET", f"{REALM}?account=ann&password={GUESS}")
    await client.request("GET", f"{REALM}?account=ann", {"Authorization": f"Bearer {GUESS}"})
    pairs = [f"{user}:{password}" for user, password in (*PASSWORDS.items(), ("ann", GUESS))]
    hidden = {
        *PASSWORDS.values(),
        GUESS,
        OLD,
        *(base64.b64encode(pair.encode()).decode() for pair in pairs),
        *(line.partition(":")[2] for line in own.htpasswd.read_text().split()),
        *(document[name] for document in given for name in ("access_token", "refresh_token")),
    }
    assert len(hidden) == 2 + 1 + 1 + 3 + 2 + 12
    proxy = own.setting.proxy
    places = {page: proxy.page(page)[1] for page in ("/", "/metrics", "/readyz")}
    proxy.terminate()
    places["log"] = proxy.log.read_bytes()
    places["the registry's log"] = own.registry.log.encode()
    places |= {str(path): path.read_bytes() for path in proxy.data.rglob("*") if path.is_file()}
    found = [
        (place, secret)
        for place, text in places.items()
        for secret in hidden
        if secret.encode() in text
    ]
    assert found == []
    assert any(b"sha256" in text for text in places.values())
