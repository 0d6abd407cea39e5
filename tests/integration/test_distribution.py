"""Against the registry that Debian packages: over TLS, with Basic, written by others."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import Setting
from tests.integration.identities import basic
from tests.integration.test_push import Pusher
from tests.support.client import ACCEPT, ProxyClient
from tests.support.distribution import Distribution, is_installed
from tests.support.images import Manifest, build_image, build_index
from tests.support.pki import TestAuthority

pytestmark = pytest.mark.skipif(not is_installed(), reason="needs docker-registry and htpasswd")
USER, PASSWORD = "alice", "alice-password"
REQUEST = re.compile(r'"(GET|HEAD) (/v2/app/\S+) HTTP')


@pytest.fixture
def upstream(authority: TestAuthority, setting: Setting, tmp_path: Path) -> Iterator[Distribution]:
    certificate = authority.issue("127.0.0.1")
    directory = tmp_path / "distribution"
    with Distribution(directory, certificate=certificate, user=(USER, PASSWORD)) as registry:
        setting.upstream["endpoints"] = [registry.url]
        yield registry


@pytest.fixture
def image(upstream: Distribution) -> Manifest:
    image = build_index([build_image([200_000, 3_000_000], seed=seed) for seed in (1, 2)])
    upstream.push("app", "1.0", image)
    return image


def asked(upstream: Distribution) -> list[tuple[str, str]]:
    return REQUEST.findall(upstream.log)


async def test_pulls_with_the_operators_credentials_reach_it_once(
    setting: Setting, upstream: Distribution, image: Manifest
) -> None:
    setting.upstream |= {"username": USER, "password": PASSWORD}
    client = setting.start()
    cold = await client.pull(setting.url, "app", "1.0")
    requests = asked(upstream)
    assert await client.pull(setting.url, "app", "1.0") == cold
    assert asked(upstream) == requests
    upstream.stop()
    setting.proxy.restart()
    assert await setting.client.pull(setting.url, "app", "1.0") == cold


async def test_pulls_with_the_clients_own_login_do_and_others_do_not(
    setting: Setting, upstream: Distribution, image: Manifest
) -> None:
    client = setting.start()
    own = basic(USER, PASSWORD)
    cold = await client.pull(setting.url, "app", "1.0", credentials=own)
    assert await client.pull(setting.url, "app", "1.0", credentials=own) == cold
    with pytest.raises(PermissionError):
        await client.pull(setting.url, "app", "1.0", credentials=basic(USER, "wrong"))
    with pytest.raises(LookupError):
        await client.pull(setting.url, "app", "1.0")


async def test_a_push_arrives_and_is_seen_at_once(
    setting: Setting, upstream: Distribution, image: Manifest
) -> None:
    setting.upstream["push"] = "allow"
    client = setting.start()
    authorization = f"Bearer {await login(setting, client)}"
    url, headers = f"{setting.url}/v2/app/manifests/1.0", {"Authorization": authorization}
    accepted = headers | {"Accept": ACCEPT}
    assert (await client.request("GET", url, accepted)).body == image.body
    pushed = build_image([2_000_000], seed=5)
    await Pusher(client, f"{setting.url}/v2/app", authorization).push(pushed, "1.0")
    assert (await client.request("GET", url, accepted)).body == pushed.body
    listed = await client.request("GET", f"{setting.url}/v2/app/tags/list", headers)
    assert listed.json() == {"name": "app", "tags": ["1.0"]}


async def login(setting: Setting, client: ProxyClient) -> str:
    challenge = (await client.request("GET", f"{setting.url}/v2/")).challenge
    return await client.token(challenge, basic(USER, PASSWORD))


async def test_what_it_refuses_is_said_as_it_says_it(
    setting: Setting, upstream: Distribution, image: Manifest
) -> None:
    setting.upstream |= {"username": USER, "password": PASSWORD}
    client = setting.start()
    digest = build_image([1], seed=77).digest
    for path, code in (
        ("app/manifests/none", "MANIFEST_UNKNOWN"),
        (f"app/manifests/{digest}", "MANIFEST_UNKNOWN"),
        (f"app/blobs/{digest}", "BLOB_UNKNOWN"),
        ("none/tags/list", "NAME_UNKNOWN"),
    ):
        answer = await client.authorized("GET", f"{setting.url}/v2/{path}")
        assert answer.status == 404
        assert answer.json()["errors"][0]["code"] == code
