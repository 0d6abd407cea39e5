"""Registries that keep their blobs elsewhere: over hops, with signatures that hold once."""

import pytest

from tests.integration.blobs import Layer, new_layer
from tests.integration.conftest import Setting
from tests.support.faults import Redirect, Truncate
from tests.support.pki import TestAuthority
from tests.support.registry import ScriptedRegistry
from tests.support.registry_answers import Redirects
from tests.support.token_service import Auth

SIZE = 2_000_000
SIGNED = "/signed/*"
VARIANTS = [
    Redirects(),
    Redirects(hops=3),
    Redirects(hops=3, starts_relative=True),
]


@pytest.fixture
def layer(setting: Setting) -> Layer:
    setting.registry.tokens.auth = Auth("bearer", {"operator": "secret"})
    setting.upstream.update(username="operator", password="secret")
    return new_layer(setting, SIZE)


@pytest.mark.parametrize("redirects", VARIANTS, ids=str)
async def test_are_followed_for_the_client_also_to_resume(
    setting: Setting, layer: Layer, redirects: Redirects
) -> None:
    setting.registry.redirect_blobs(redirects)
    setting.registry.fault(Truncate(fraction=0.6), path=SIGNED, times=1)
    client = setting.start()
    answer = await client.authorized("GET", layer.url)
    assert (answer.status, answer.body) == (200, layer.content.body)
    at_cdn = setting.registry.log.find(SIGNED)
    assert [entry.headers.get("range", "") for entry in at_cdn] == ["", f"bytes={SIZE * 6 // 10}-"]
    assert {entry.authorization for entry in setting.registry.log.find(listener="cdn")} == {"none"}
    assert len({entry.target for entry in at_cdn}) == 2  # a signature each
    assert setting.registry.blob_bytes == SIZE


async def test_head_is_answered_over_hops_too(setting: Setting, layer: Layer) -> None:
    setting.registry.redirect_blobs(Redirects(hops=2))
    client = setting.start()
    answer = await client.authorized("HEAD", layer.url)
    assert (answer.status, answer.length, answer.body) == (200, SIZE, b"")
    assert setting.registry.log.count(SIGNED, method="GET") == 0


async def test_a_cdn_that_is_down_is_heard_of_and_named_without_its_signature(
    setting: Setting, layer: Layer
) -> None:
    setting.registry.redirect_blobs(Redirects())
    setting.registry.die("cdn")
    client = setting.start()
    answer = await client.authorized("GET", layer.url)
    assert answer.status in {502, 504}
    assert b"localhost" in answer.body
    assert b"Signature" not in answer.body
    assert "Signature" not in setting.proxy.log.read_text()


async def test_a_registry_that_redirects_everything(
    setting: Setting, authority: TestAuthority
) -> None:
    """As registry.k8s.io does, manifests too."""
    with ScriptedRegistry(authority) as elsewhere:
        image = elsewhere.add_image("app", "1.0", (100_000,))
        setting.registry.fault(Redirect(elsewhere.url), path="/v2/?*")
        client = setting.start()
        cold = await client.pull(setting.url, "app", "1.0")
        assert cold.digest == image.digest
        elsewhere.forget()
        assert await client.pull(setting.url, "app", "1.0") == cold
        assert elsewhere.log.entries == []


async def test_a_registry_that_redirects_in_a_circle(setting: Setting, layer: Layer) -> None:
    setting.registry.fault(Redirect(setting.registry.url), path=layer.path)
    client = setting.start()
    answer = await client.authorized("GET", layer.url)
    assert answer.status in {502, 504}
    assert b"redirects more than 10 times" in answer.body
