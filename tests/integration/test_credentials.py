"""No secret is where it could be read: not in logs, metrics, pages, errors, nor on the disk."""

import base64
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import Setting
from tests.integration.identities import Recorder, basic, issued_tokens
from tests.support.faults import AnswerWith, Truncate
from tests.support.pki import TestAuthority
from tests.support.processes import clean_environment
from tests.support.proxy import ProxyProcess
from tests.support.registry import ScriptedRegistry
from tests.support.registry_answers import Redirects
from tests.support.token_service import Auth

PASSWORDS = {
    "operator": "of-the-operator:in yaml",
    "from-file": "of-the-operator-in-a-file",
    "from-environment": "of-the-operator:in-the-environment",
    "client": "of-the-client",
}
PARENT = "of-the-parent-proxy"
# Where each registry's password comes from, and how it asks for it.
REGISTRIES = {"yaml.test": "operator", "file.test": "from-file", "env.test": "from-environment"}


@pytest.fixture(params=["bearer", "basic"])
def upstream(
    request: pytest.FixtureRequest, authority: TestAuthority
) -> Iterator[ScriptedRegistry]:
    auth = Auth(request.param, dict(PASSWORDS), allows_anonymous=False)
    with ScriptedRegistry(authority, auth=auth) as registry:
        registry.add_image("app", "1.0", (300_000,))
        registry.redirect_blobs(Redirects(hops=2))
        yield registry


@pytest.fixture
def running(setting: Setting, upstream: ScriptedRegistry, tmp_path: Path) -> Setting:
    settings = {**setting.upstream, "endpoints": [upstream.url]}
    password = tmp_path / "password"
    password.write_text(PASSWORDS["from-file"] + "\n")
    by_yaml = {"username": "operator", "password": PASSWORDS["operator"]}
    by_file = {"username": "from-file", "password_file": str(password)}
    through_parent = {"proxy": f"http://me:{PARENT}@127.0.0.1:9"}
    setting.config["registries"] = {
        "yaml.test": settings | by_yaml,
        "file.test": settings | by_file,
        "env.test": settings,
        "none.test": settings,
        "parent.test": settings | through_parent,
    }
    setting.config["log"] = {"level": "debug"}
    setting.config["tags"] = {"ttl": 0}
    environment = {"AUTH_REGISTRIES": f"env.test:from-environment:{PASSWORDS['from-environment']}"}
    setting.proxy = ProxyProcess(setting.config, tmp_path / "proxy", environment=environment)
    setting.registry = upstream
    setting.start()
    return setting


async def use(client: Recorder, setting: Setting, upstream: ScriptedRegistry) -> None:
    """All that goes well, and much that goes wrong."""
    for host in REGISTRIES:
        await client.pull(f"https://{host}", "app", "1.0")
    own = basic("client", PASSWORDS["client"])
    await client.pull("https://none.test", "app", "1.0", credentials=own)
    url = "https://none.test/v2/app/manifests/1.0"
    await client.request("GET", url, {"Authorization": own})
    for wrong in (basic("client", "guessed-password"), "Bearer guessed-token", "Digest nonsense"):
        await client.request("GET", url, {"Authorization": wrong})
    await client.request("GET", f"https://none.test/entrepot/token?account=x&password={PARENT}")
    await client.authorized("GET", "https://parent.test/v2/app/manifests/1.0")
    upstream.fault(Truncate(1000), path="/signed/*", times=3)
    other = upstream.add_image("other", "1.0", (400_000,), seed=5)
    await client.pull("https://yaml.test", "other", "1.0")
    upstream.fault(AnswerWith(500), path="/v2/*")
    await client.authorized("GET", f"https://yaml.test/v2/app/blobs/{other.blobs[0].digest}")
    upstream.die()
    for host in (*REGISTRIES, "none.test"):
        await client.authorized("GET", f"https://{host}/v2/app/manifests/2.0")


async def test_are_found_nowhere(running: Setting, upstream: ScriptedRegistry) -> None:
    client = Recorder(running)
    await use(client, running, upstream)
    users = {entry.user for entry in upstream.log.entries}
    assert users >= set(PASSWORDS)  # each was used
    hidden = secrets_of(upstream)
    pages = [
        running.proxy.page(path)[1] for path in ("/", "/metrics", "/readyz", "/none", "/ca.crt")
    ]
    places = {
        "pages": b"".join(pages),
        "answers": "".join(client.heard).encode(),
        "log": running.proxy.log.read_bytes(),
        "config show": config_show(running),
    }
    running.proxy.terminate()
    places["log at the end"] = running.proxy.log.read_bytes()
    places |= {str(path): path.read_bytes() for path in files_of(running)}
    # What the client's own login was answered with is the client's.
    own = {text for text, token in upstream.tokens._tokens.items() if token.user == "client"}
    found = [
        (place, secret)
        for place, text in places.items()
        for secret in hidden - (own if place == "answers" else set())
        if secret.encode() in text
    ]
    assert found == []
    assert any(b"app" in text for text in places.values())


def secrets_of(upstream: ScriptedRegistry) -> set[str]:
    pairs = [f"{user}:{password}" for user, password in PASSWORDS.items()]
    signed = [entry.target.partition("X-Signature=")[2] for entry in upstream.log.entries]
    return {
        *PASSWORDS.values(),
        *(base64.b64encode(pair.encode()).decode() for pair in pairs),
        *issued_tokens(upstream),
        *filter(None, signed),
        PARENT,
        "guessed-password",
        "guessed-token",
    }


def files_of(setting: Setting) -> list[Path]:
    """All that the proxy has written but for its secret and the key of its CA."""
    return [
        path
        for path in setting.proxy.data.rglob("*")
        if path.is_file() and path != setting.proxy.data / "secret"
    ]


def config_show(setting: Setting) -> bytes:
    command = [sys.executable, "-m", "entrepot", "config", "show", "--config"]
    command.append(str(setting.proxy.data.parent / "entrepot.yaml"))
    done = subprocess.run(command, capture_output=True, env=clean_environment(), check=True)
    return done.stdout + done.stderr


def test_the_files_that_hold_secrets_are_for_their_owner_alone(running: Setting) -> None:
    data = running.proxy.data
    keys = [path for path in (data / "ca").iterdir() if b"PRIVATE KEY" in path.read_bytes()]
    assert keys
    for path in (data / "secret", *keys):
        assert path.stat().st_mode & 0o077 == 0
