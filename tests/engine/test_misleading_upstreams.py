"""Answers that are no words of the registry on names and rights."""

import pytest

from entrepot.oci.media_type import DOCKER_SCHEMA1
from tests.support.clock import ManualClock
from tests.support.engine import Rig, accepting, blob_path, manifest_path
from tests.support.faults import AnswerWith, Header
from tests.support.registry_answers import Redirects

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
