"""The scripted registry does what it says, right and wrong: what other tests are built on."""

import base64
import gzip
import tarfile
from collections.abc import Iterator
from io import BytesIO
from typing import Any
from urllib.parse import urlencode, urljoin

import pytest

from tests.support.client import ProxyClient
from tests.support.content import Generated, Given, sha256
from tests.support.images import build_artifact
from tests.support.pki import TestAuthority
from tests.support.registry import ScriptedRegistry
from tests.support.registry_answers import Redirects
from tests.support.token_service import Auth

BLOB = Given(bytes(range(256)) * 2000)


@pytest.fixture
def blob_url(registry: ScriptedRegistry) -> str:
    registry.add_blob("lib/app", BLOB)
    return f"{registry.url}/v2/lib/app/blobs/{BLOB.digest}"


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


async def test_an_image_is_pulled_and_counted(
    registry: ScriptedRegistry, direct: ProxyClient
) -> None:
    image = registry.add_image("lib/app", "1", [100_000, 200_000])
    pulled = await direct.pull(registry.url, "lib/app", "1")
    assert pulled.digest == image.digest
    assert registry.blob_bytes == sum(pulled.blobs.values()) == image.blob_bytes
    assert registry.blob_gets() == 3
    assert registry.manifest_gets() == 1


def test_layers_unpack(registry: ScriptedRegistry) -> None:
    _, layer = registry.add_image("lib/app", "1", [50_000]).blobs
    packed = b"".join(layer.chunks(0, layer.size))
    with tarfile.open(fileobj=BytesIO(gzip.decompress(packed))) as tar:
        (member,) = tar.getmembers()
    assert member.size == 50_000


async def test_an_index_leads_to_its_images(
    registry: ScriptedRegistry, direct: ProxyClient
) -> None:
    index = registry.add_image("lib/app", "1", platforms=["linux/amd64", "linux/arm64/v8"])
    pulled = await direct.pull(registry.url, "lib/app", "1")
    assert pulled.digest == index.children[0].digest


async def test_generated_content_is_the_same_in_any_pieces(
    registry: ScriptedRegistry, direct: ProxyClient
) -> None:
    content = registry.add_blob("lib/app", Generated(7, 3_000_001))
    url = f"{registry.url}/v2/lib/app/blobs/{content.digest}"
    whole = (await direct.request("GET", url)).body
    part = await direct.request("GET", url, {"Range": "bytes=1048570-2097160"})
    assert sha256(whole) == content.digest == Generated(7, 3_000_001).digest
    assert part.status == 206
    assert part.body == whole[1048570:2097161]


@pytest.mark.parametrize(
    ("asked", "status", "start", "stop"),
    [
        ("bytes=0-0", 206, 0, 1),
        ("bytes=100-", 206, 100, BLOB.size),
        ("bytes=-5", 206, BLOB.size - 5, BLOB.size),
        (f"bytes={BLOB.size}-", 416, 0, 0),
        ("bytes=0-1,5-6", 200, 0, BLOB.size),
    ],
)
async def test_ranges(
    blob_url: str, direct: ProxyClient, asked: str, status: int, start: int, stop: int
) -> None:
    answer = await direct.request("GET", blob_url, {"Range": asked})
    assert answer.status == status
    if status != 416:
        assert answer.body == BLOB.body[start:stop]


async def test_head_has_the_headers_and_no_body(blob_url: str, direct: ProxyClient) -> None:
    answer = await direct.request("HEAD", blob_url)
    assert answer.length == BLOB.size
    assert answer.body == b""


async def test_lists_come_in_pages(registry: ScriptedRegistry, direct: ProxyClient) -> None:
    for tag in ("1", "2", "3"):
        registry.add_image("lib/app", tag)
    first = await direct.request("GET", f"{registry.url}/v2/lib/app/tags/list?n=2")
    assert first.json() == {"name": "lib/app", "tags": ["1", "2"]}
    following = first.headers["link"].partition(">")[0].removeprefix("<")
    second = await direct.request("GET", registry.url + following)
    assert second.json()["tags"] == ["3"]
    assert "link" not in second.headers
    catalog = await direct.request("GET", f"{registry.url}/v2/_catalog")
    assert catalog.json() == {"repositories": ["lib/app"]}


async def test_referrers_name_the_artifacts_of_a_subject(
    registry: ScriptedRegistry, direct: ProxyClient
) -> None:
    image = registry.add_image("lib/app", "1")
    signature = build_artifact("application/x.signature", {"sig": b"ok"}, subject=image)
    registry.add("lib/app", None, signature)
    url = f"{registry.url}/v2/lib/app/referrers/{image.digest}"
    found = (await direct.request("GET", url)).json()["manifests"]
    assert [each["digest"] for each in found] == [signature.digest]
    other = await direct.request("GET", f"{url}?artifactType=application/x.other")
    assert other.json()["manifests"] == []


async def test_a_push_can_be_pulled(registry: ScriptedRegistry, direct: ProxyClient) -> None:
    artifact = build_artifact("application/x.test", {"a": b"pushed", "b": b"in pieces"})
    base = f"{registry.url}/v2/lib/new"
    config, one, other = (bytes(blob.body) for blob in artifact.blobs if isinstance(blob, Given))
    for body in (config, one):
        sent = await direct.request(
            "POST", f"{base}/blobs/uploads/?digest={sha256(body)}", body=body
        )
        assert sent.status == 201
    begun = await direct.request("POST", f"{base}/blobs/uploads/")
    location = registry.url + begun.headers["location"]
    assert (await direct.request("PATCH", location, body=other[:3])).headers["range"] == "0-2"
    ended = await direct.request("PUT", f"{location}?digest={sha256(other)}", body=other[3:])
    assert ended.status == 201
    headers = {"Content-Type": artifact.media_type}
    stored = await direct.request("PUT", f"{base}/manifests/1", headers, artifact.body)
    assert stored.headers["docker-content-digest"] == artifact.digest
    assert (await direct.pull(registry.url, "lib/new", "1")).digest == artifact.digest


class TestTokens:
    @pytest.fixture
    def registry(self, authority: TestAuthority) -> Iterator[ScriptedRegistry]:
        auth = Auth("bearer", {"ann": "secret", "bob": "other"}, speaks_oauth2=True)
        with ScriptedRegistry(authority, auth=auth) as registry:
            registry.add_image("lib/open", "1")
            registry.add_image("ann/own", "1")
            registry.make_private("ann/own", "ann")
            yield registry

    async def test_anonymous_tokens_open_what_is_public(
        self, registry: ScriptedRegistry, direct: ProxyClient
    ) -> None:
        await direct.pull(registry.url, "lib/open", "1")
        kinds = {(each.authorization, each.user) for each in registry.log.find("/v2/*")}
        assert kinds == {("none", ""), ("bearer", "")}
        with pytest.raises(LookupError, match="401"):
            await direct.pull(registry.url, "ann/own", "1")

    async def test_private_is_what_only_some_may_read(
        self, registry: ScriptedRegistry, direct: ProxyClient
    ) -> None:
        await direct.pull(registry.url, "ann/own", "1", credentials=basic("ann", "secret"))
        with pytest.raises(LookupError, match="401"):
            await direct.pull(registry.url, "ann/own", "1", credentials=basic("bob", "other"))
        with pytest.raises(PermissionError):
            await direct.pull(registry.url, "ann/own", "1", credentials=basic("ann", "wrong"))

    async def test_tokens_expire(self, registry: ScriptedRegistry, direct: ProxyClient) -> None:
        ping = await direct.request("GET", f"{registry.url}/v2/")
        headers = {"Authorization": f"Bearer {await direct.token(ping.challenge)}"}
        assert (await direct.request("GET", f"{registry.url}/v2/", headers)).status == 200
        registry.tokens.expire_all()
        assert (await direct.request("GET", f"{registry.url}/v2/", headers)).status == 401
        assert registry.log.entries[-1].user is None

    async def test_oauth2_with_password_then_refresh_token(
        self, registry: ScriptedRegistry, direct: ProxyClient
    ) -> None:
        async def post(**form: str) -> Any:
            body = urlencode({"scope": "repository:ann/own:pull", **form}).encode()
            return (await direct.request("POST", f"{registry.url}/token", body=body)).json()

        first = await post(
            grant_type="password", username="ann", password="secret", access_type="offline"
        )
        token = await post(grant_type="refresh_token", refresh_token=first["refresh_token"])
        headers = {"Authorization": f"Bearer {token['access_token']}"}
        url = f"{registry.url}/v2/ann/own/manifests/1"
        assert (await direct.request("GET", url, headers)).status == 200

    async def test_secrets_are_not_logged(
        self, registry: ScriptedRegistry, direct: ProxyClient
    ) -> None:
        credentials = basic("ann", "secret")
        await direct.pull(registry.url, "ann/own", "1", credentials=credentials)
        assert credentials.split()[1] not in repr(registry.log)


async def test_basic_is_asked_for(authority: TestAuthority, direct: ProxyClient) -> None:
    auth = Auth("basic", {"ann": "secret"}, allows_anonymous=False)
    with ScriptedRegistry(authority, auth=auth) as registry:
        registry.add_image("lib/app", "1")
        refused = await direct.request("GET", f"{registry.url}/v2/")
        assert refused.challenge.scheme == "basic"
        await direct.pull(registry.url, "lib/app", "1", credentials=basic("ann", "secret"))


@pytest.mark.parametrize("starts_relative", [True, False])
@pytest.mark.parametrize("hops", [1, 2, 4])
async def test_blobs_are_redirected_and_signed_once(
    registry: ScriptedRegistry,
    direct: ProxyClient,
    blob_url: str,
    hops: int,
    starts_relative: bool,  # noqa: FBT001 - a parameter of the test's
) -> None:
    registry.redirect_blobs(Redirects(hops, starts_relative=starts_relative))
    url, seen = blob_url, 0
    while (answer := await direct.request("GET", url)).status == 307:
        url, seen = urljoin(url, answer.headers["location"]), seen + 1
    assert (answer.status, answer.body, seen) == (200, BLOB.body, hops)
    assert url.startswith(registry.cdn_url)
    assert registry.blob_bytes == BLOB.size
    assert (await direct.request("GET", url)).status == 403


async def test_the_cdn_takes_no_credentials(
    registry: ScriptedRegistry, direct: ProxyClient, blob_url: str
) -> None:
    registry.redirect_blobs()
    location = (await direct.request("GET", blob_url)).headers["location"]
    answer = await direct.request("GET", location, {"Authorization": "Bearer x"})
    assert answer.status == 400
