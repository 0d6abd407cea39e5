"""What a user of the cache sees: pulls that are right, and the upstream left in peace."""

import pytest

from tests.integration.conftest import Setting

MANIFEST = "/v2/app/manifests/1.0"


async def test_a_second_pull_asks_the_upstream_for_no_content(setting: Setting) -> None:
    image = setting.registry.add_image("app", "1.0", (100_000, 3_000_000))
    client = setting.start()
    cold = await client.pull(setting.url, "app", "1.0")
    assert cold.digest == image.digest
    assert sum(cold.blobs.values()) == setting.registry.blob_bytes
    setting.registry.forget()
    warm = await client.pull(setting.url, "app", "1.0")
    assert warm == cold
    assert setting.registry.blob_bytes == 0
    assert setting.registry.manifest_gets() == 0


async def test_the_answer_to_a_pull_carries_what_clients_and_caches_read(setting: Setting) -> None:
    image = setting.registry.add_image("app", "1.0")
    client = setting.start()
    url = f"{setting.url}{MANIFEST}"
    cold = await client.authorized("GET", url)
    warm = await client.authorized("GET", url)
    assert cold.headers["docker-content-digest"] == warm.headers["docker-content-digest"]
    assert warm.headers["docker-content-digest"] == image.digest
    assert warm.headers["etag"] == f'"{image.digest}"'
    assert warm.headers["docker-distribution-api-version"] == "registry/2.0"
    assert cold.headers["cache-status"] == "Entrepot; fwd=uri-miss; stored"
    assert warm.headers["cache-status"] == "Entrepot; hit"
    assert int(warm.headers["age"]) >= 0
    head = await client.authorized("HEAD", url)
    assert head.headers["content-length"] == str(len(cold.body))
    assert head.body == b""


async def test_two_registries_with_one_layer_fetch_it_once(setting: Setting) -> None:
    image = setting.registry.add_image("app", "1.0", (500_000,))
    setting.registry.add("other/app", "1.0", image)
    setting.config["registries"]["second.test"] = dict(setting.upstream)
    client = setting.start()
    first = await client.pull(setting.url, "app", "1.0")
    second = await client.pull("https://second.test", "other/app", "1.0")
    assert first.blobs == second.blobs
    assert setting.registry.blob_bytes == sum(first.blobs.values())


async def test_the_same_tag_of_two_registries_is_two_things(setting: Setting) -> None:
    one = setting.registry.add_image("app", "1.0", seed=1)
    two = setting.registry.add_image("sub/app", "1.0", seed=2)
    client = setting.start()
    assert (await client.pull(setting.url, "app", "1.0")).digest == one.digest
    assert (await client.pull(setting.url, "sub/app", "1.0")).digest == two.digest


@pytest.mark.parametrize("schema", ["oci", "docker"])
async def test_an_index_is_pulled_with_its_image(setting: Setting, schema: str) -> None:
    setting.registry.add_image("app", "1.0", platforms=("linux/amd64", "linux/arm64"))
    client = setting.start()
    assert (await client.pull(setting.url, "app", "1.0")).blobs


async def test_after_a_restart_everything_is_there_with_the_upstream_dead(setting: Setting) -> None:
    setting.registry.add_image("app", "1.0", (200_000,))
    client = setting.start()
    cold = await client.pull(setting.url, "app", "1.0")
    setting.registry.die()
    assert await client.pull(setting.url, "app", "1.0") == cold
    setting.proxy.restart()
    assert await setting.client.pull(setting.url, "app", "1.0") == cold
