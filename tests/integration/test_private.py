"""Private content stays private, however it came into the cache and whoever knows its digest."""

import itertools

import pytest

from tests.integration.conftest import Setting
from tests.integration.identities import (
    REPOSITORY,
    USERS,
    Recorder,
    basic,
    issued_tokens,
    token_past_the_proxy,
)
from tests.integration.waiting import eventually
from tests.support.client import Answer, ProxyClient
from tests.support.faults import AnswerWith
from tests.support.images import Manifest, build_image
from tests.support.token_service import Auth

REFUSALS = {401, 403, 404}
TAG_PATH = f"/v2/{REPOSITORY}/manifests/1.0"


@pytest.fixture
def image(setting: Setting) -> Manifest:
    """In a repository that alice and the operator may read."""
    registry = setting.registry
    registry.tokens.auth = Auth("bearer", USERS)
    image = registry.add_image(REPOSITORY, "1.0", (100_000,))
    registry.make_private(REPOSITORY, "alice", "operator")
    setting.config |= {"tags": {"ttl": "300ms"}, "auth": {"verdict_ttl": "300ms"}}
    setting.config["registries"]["second.test"] = dict(setting.upstream)
    return image


def blob_path(image: Manifest, repository: str = REPOSITORY) -> str:
    return f"/v2/{repository}/blobs/{image.blobs[1].digest}"


def manifest_path(image: Manifest, repository: str = REPOSITORY) -> str:
    return f"/v2/{repository}/manifests/{image.digest}"


class TestOperator:
    @pytest.fixture(autouse=True)
    def with_credentials(self, setting: Setting) -> None:
        setting.upstream.update(username="operator", password=USERS["operator"])

    async def test_opens_a_repository_and_nobody_sees_how(
        self, setting: Setting, image: Manifest
    ) -> None:
        setting.start()
        client = Recorder(setting)
        for _ in ("cold", "warm"):
            assert (await client.pull(setting.url, REPOSITORY, "1.0")).digest == image.digest
        await client.authorized("GET", f"{setting.url}/v2/other/tags/list")
        await client.request("GET", f"{setting.url}/v2/", {"Authorization": "Bearer entrepot.x"})
        readers = {entry.user for entry in setting.registry.log.find(f"/v2/{REPOSITORY}/*")}
        assert "operator" in readers
        tokens = issued_tokens(setting.registry)
        heard = "".join(client.heard)
        assert tokens
        assert heard
        secrets = (*tokens, USERS["operator"], basic("operator").partition(" ")[2])
        assert [secret for secret in secrets if secret in heard] == []

    async def test_is_not_asked_for_who_brings_credentials_of_their_own(
        self, setting: Setting, image: Manifest
    ) -> None:
        client = setting.start()
        await client.pull(setting.url, REPOSITORY, "1.0")
        with pytest.raises(LookupError):
            await client.pull(setting.url, REPOSITORY, "1.0", credentials=basic("bob"))


class TestDigestIsKnown:
    """Alice has pulled it; others know what it is called."""

    @pytest.fixture
    async def client(self, setting: Setting, image: Manifest) -> ProxyClient:
        client = setting.start()
        await client.pull(setting.url, REPOSITORY, "1.0", credentials=basic("alice"))
        setting.registry.add_image("public/app", "1.0", seed=7)
        return client

    @pytest.mark.parametrize("credentials", ["", basic("bob")], ids=["anonymous", "bob"])
    async def test_it_is_not_had(
        self, client: ProxyClient, image: Manifest, credentials: str
    ) -> None:
        hosts, repositories = ("registry.test", "second.test"), (REPOSITORY, "public/app", "none")
        for host, repository in itertools.product(hosts, repositories):
            for path in (blob_path(image, repository), manifest_path(image, repository)):
                for method, headers in (("GET", {}), ("HEAD", {}), ("GET", {"Range": "bytes=0-9"})):
                    url = f"https://{host}{path}"
                    answer = await client.authorized(method, url, headers, credentials=credentials)
                    assert answer.status in REFUSALS, f"{method} {url}"

    async def test_it_is_had_where_the_upstream_says_so(
        self, setting: Setting, client: ProxyClient, image: Manifest
    ) -> None:
        setting.registry.add_blob("public/app", image.blobs[1])
        setting.registry.forget()
        url = setting.url + blob_path(image, "public/app")
        for _ in range(2):
            answer = await client.authorized("GET", url)
            assert answer.status == 200
        asked = setting.registry.log.find(blob_path(image, "public/app"))
        assert {entry.method for entry in asked} == {"HEAD"}

    async def test_naming_it_in_a_manifest_does_not_help(
        self, setting: Setting, client: ProxyClient, image: Manifest
    ) -> None:
        """Not every registry checks that a manifest names what its repository holds."""
        thief = build_image([image.blobs[1]], seed=9)
        setting.registry.add("public/app", "stolen", thief)
        setting.registry._answers.repository("public/app").blobs.remove(image.blobs[1].digest)
        url = f"{setting.url}/v2/public/app/manifests/stolen"
        assert (await client.authorized("GET", url)).status == 200
        answer = await client.authorized("GET", setting.url + blob_path(image, "public/app"))
        assert answer.status == 404


class TestOwnToken:
    """Fetched past the proxy, and used as it is."""

    @pytest.fixture
    async def authorization(self, setting: Setting, image: Manifest, direct: ProxyClient) -> str:
        return await token_past_the_proxy(direct, setting.registry, "alice")

    async def test_asks_before_it_is_served_what_is_cached(
        self, setting: Setting, image: Manifest, authorization: str
    ) -> None:
        client = setting.start()
        await client.pull(setting.url, REPOSITORY, "1.0", credentials=basic("alice"))
        setting.registry.forget()
        headers = {"Authorization": authorization}
        for _ in range(2):
            answer = await client.request("GET", setting.url + blob_path(image), headers)
            assert (answer.status, len(answer.body)) == (200, image.blobs[1].size)
        asked = setting.registry.log.find(blob_path(image))
        assert {(entry.method, entry.user) for entry in asked} == {("HEAD", "alice")}

    async def test_of_nobody_who_may_read_is_refused(
        self, setting: Setting, image: Manifest, authorization: str, direct: ProxyClient
    ) -> None:
        client = setting.start()
        headers = {"Authorization": authorization}
        url = setting.url + blob_path(image)
        assert (await client.request("GET", url, headers)).status == 200
        of_bob = await token_past_the_proxy(direct, setting.registry, "bob")
        for stranger in (of_bob, "Bearer made-up", "Basic bWFkZTp1cA=="):
            answer = await client.request("GET", url, {"Authorization": stranger})
            assert answer.status in REFUSALS

    @pytest.mark.parametrize("path_of", [blob_path, manifest_path, lambda _: TAG_PATH])
    async def test_whose_right_was_taken_away_is_refused_what_is_cached(
        self, setting: Setting, image: Manifest, authorization: str, path_of: object
    ) -> None:
        assert callable(path_of)
        client = setting.start()
        headers, url = {"Authorization": authorization}, setting.url + path_of(image)
        assert (await client.request("GET", url, headers)).status == 200
        setting.registry.make_private(REPOSITORY, "operator")
        setting.registry.tokens.expire_all()

        async def ask() -> Answer:
            return await client.request("GET", url, headers)

        await eventually(ask, lambda answer: answer.status in REFUSALS)
        setting.registry.die()
        assert (await ask()).status != 200  # and offline it does not come back

    @pytest.mark.parametrize("status", [401, 403, 404])
    @pytest.mark.parametrize("is_cached", [True, False])
    async def test_hears_what_the_upstream_says(
        self, setting: Setting, image: Manifest, authorization: str, status: int, *, is_cached: bool
    ) -> None:
        client = setting.start()
        headers, url = {"Authorization": authorization}, setting.url + blob_path(image)
        if is_cached:
            assert (await client.request("GET", url, headers)).status == 200
        setting.registry.fault(AnswerWith(status), path=blob_path(image))

        async def ask() -> Answer:
            return await client.request("GET", url, headers)

        answer = await eventually(ask, lambda answer: answer.status != 200)
        assert answer.status == status
        setting.registry.die()
        assert (await ask()).status != 200

    async def test_that_is_known_lives_on_offline_and_an_unknown_one_does_not(
        self, setting: Setting, image: Manifest, authorization: str, direct: ProxyClient
    ) -> None:
        of_operator = await token_past_the_proxy(direct, setting.registry, "operator")
        client = setting.start()
        headers = {"Authorization": authorization}
        urls = [setting.url + path for path in (blob_path(image), manifest_path(image), TAG_PATH)]
        for url in urls:
            assert (await client.request("GET", url, headers)).status == 200
        setting.registry.die()
        for url in urls:  # before and after the verdict has aged
            answer = await client.request("GET", url, headers)
            assert answer.status == 200
            answer = await client.request("GET", url, {"Authorization": of_operator})
            assert answer.status == 502
            assert (await client.authorized("GET", url)).status in {401, 502}

    async def test_lives_on_offline_no_longer_than_was_granted(
        self, setting: Setting, image: Manifest, authorization: str
    ) -> None:
        setting.config["auth"] = {"verdict_ttl": "300ms", "offline_grace": "500ms"}
        client = setting.start()
        url, headers = setting.url + blob_path(image), {"Authorization": authorization}
        assert (await client.request("GET", url, headers)).status == 200
        setting.registry.die()

        async def ask() -> Answer:
            return await client.request("GET", url, headers)

        assert (await eventually(ask, lambda answer: answer.status != 200)).status == 502
