"""Answers that are no words of the registry on names and rights."""

import pytest

from entrepot.oci.media_type import DOCKER_SCHEMA1
from tests.support.clock import ManualClock
from tests.support.engine import Rig, accepting, blob_path, manifest_path, open_engine
from tests.support.faults import AnswerWith, Header
from tests.support.registry import ScriptedRegistry
from tests.support.registry_answers import Redirects
from tests.support.token_service import Auth

PATH = manifest_path("1.0")
PORTAL = AnswerWith(200, b"<html>log in</html>", (("Content-Type", "text/html"),))


async def test_a_portal_grants_nothing(rig: Rig, clock: ManualClock) -> None:
    """A page that says 200 to everybody is no word on who may read."""
    image = rig.registry.add_image("app", "1.0")
    path = manifest_path(image.digest)
    await rig.ask(path)
    other = manifest_path(image.digest, "other")
    rig.registry.fault(PORTAL, path="/v2/other/*")
    assert (await rig.ask(other)).status >= 500
    assert (await rig.ask(path)).status == 200


@pytest.mark.parametrize(
    "odd",
    [
        "/v2%2fapp%2ftags%2flist",
        "/%76%32/app/tags/list",
        "/v2/%61pp/manifests/1.0",
        "/v2/app/manifests/1%2e0",
        "/v2/app/manifests/1.0/",
        "/v2/app%2fblobs/{layer}",
    ],
)
async def test_what_stands_beside_the_registry_grants_nothing(clock: ManualClock, odd: str) -> None:
    """Where escapes are not undone, another spelling is another server's page, open to all."""
    with ScriptedRegistry(auth=Auth("bearer", {"alice": "wonder"})) as registry:
        image = registry.add_image("app", "1.0")
        registry.make_private("app", "alice")
        token = registry.tokens._issue("alice", ["repository:app:pull"])["token"]
        path, odd = manifest_path(image.digest), odd.format(layer=image.blobs[-1].digest)
        page = AnswerWith(200, image.body, (("Content-Type", image.media_type),))
        registry.fault(page, path=odd)
        async with open_engine(registry, clock) as rig:
            assert (await rig.ask(path, {"Authorization": f"Bearer {token}"})).status == 200
            nobody = await rig.login()
            assert (await rig.ask(odd, nobody)).status == 401
            assert (await rig.ask(path, nobody)).status == 401


async def test_a_portal_is_bridged_and_not_kept(rig: Rig, clock: ManualClock) -> None:
    image = rig.registry.add_image("app", "1.0")
    await rig.ask(PATH, accepting(image))
    rig.registry.fault(PORTAL, path=PATH)
    clock.advance(61)
    answer = await rig.ask(PATH, accepting(image))
    assert (answer.status, answer.cache) == (200, "stale")
    assert answer.body == image.body


async def test_json_that_is_no_manifest_is_not_kept(rig: Rig) -> None:
    rig.registry.fault(AnswerWith(200, b"{}", (("Content-Type", "application/json"),)), path=PATH)
    assert (await rig.ask(PATH)).status >= 500


async def test_a_storage_that_refuses_takes_no_rights(rig: Rig, clock: ManualClock) -> None:
    """Its signed URLs run out; that says nothing of the repository."""
    image = rig.registry.add_image("app", "1.0", (100_000,))
    manifest = manifest_path(image.digest)
    await rig.ask(manifest)
    rig.registry.redirect_blobs(Redirects())
    rig.registry.fault(AnswerWith(403), path="/signed/*")
    layer = image.blobs[-1]
    assert (await rig.ask(blob_path(layer.digest))).status == 502
    clock.advance(301)
    rig.registry.die()
    assert (await rig.ask(manifest)).status == 200


@pytest.mark.parametrize("status", [405, 501])
async def test_registries_without_head_of_manifests(
    rig: Rig, clock: ManualClock, status: int
) -> None:
    image = rig.registry.add_image("app", "1.0")
    rig.registry.fault(AnswerWith(status), path="/v2/app/manifests/*", method="HEAD")
    path = manifest_path(image.digest)
    assert (await rig.ask(path)).status == 200
    clock.advance(301)
    assert (await rig.ask(path)).status == 200
    assert (await rig.ask(path, method="HEAD")).status == 200


async def test_signed_manifests_of_old_pass_through(rig: Rig) -> None:
    rig.registry.add_image("app", "1.0")
    rig.registry.fault(Header("Content-Type", DOCKER_SCHEMA1), path=PATH)
    rig.registry.fault(Header("Docker-Content-Digest", f"sha256:{'0' * 64}"), path=PATH)
    answer = await rig.ask(PATH)
    assert (answer.status, answer.cache) == (200, "bypass")


async def test_a_head_for_another_digest_opens_nothing(rig: Rig) -> None:
    image = rig.registry.add_image("app", "1.0")
    await rig.ask(manifest_path(image.digest))
    rig.registry.add("other", "1.0", image)
    wrong = Header("Docker-Content-Digest", f"sha256:{'0' * 64}")
    rig.registry.fault(wrong, path="/v2/other/*", method="HEAD")
    assert (await rig.ask(manifest_path(image.digest, "other"))).status == 404
