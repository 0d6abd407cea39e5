"""What one kind of client has cached is there for another, as far as it accepts it."""

import pytest

from entrepot.oci.media_type import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from tests.support.clock import ManualClock
from tests.support.engine import Rig, manifest_path
from tests.support.faults import AnswerWith

PATH = manifest_path("1.0")
DOCKER = {"Accept": f"{DOCKER_MANIFEST}, {DOCKER_LIST}, {OCI_INDEX}, {OCI_MANIFEST}"}
SKOPEO = {"Accept": f"{OCI_MANIFEST}, {DOCKER_MANIFEST}, {OCI_INDEX}"}
OLD = {"Accept": DOCKER_MANIFEST}


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_with_the_upstream_dead(rig: Rig, method: str) -> None:
    rig.registry.add_image("app", "1.0")
    cached = await rig.ask(PATH, SKOPEO)
    rig.registry.die()
    for _ in range(2):  # found out, then known
        answer = await rig.ask(PATH, DOCKER, method=method)
        assert (answer.status, answer.cache) == (200, "stale")
        assert answer.headers["Docker-Content-Digest"] == cached.headers["Docker-Content-Digest"]


async def test_but_nothing_that_it_does_not_accept(rig: Rig) -> None:
    rig.registry.add_image("app", "1.0")
    await rig.ask(PATH, SKOPEO)
    rig.registry.die()
    assert (await rig.ask(PATH, OLD)).status >= 500


async def test_a_head_tells_that_it_is_the_same_and_spares_the_quota(rig: Rig) -> None:
    rig.registry.add_image("app", "1.0")
    await rig.ask(PATH, SKOPEO)
    assert (await rig.ask(PATH, DOCKER)).cache == "revalidated"
    assert (await rig.ask(PATH, DOCKER)).cache == "hit"
    assert rig.registry.log.count(PATH, method="GET") == 1
    assert rig.registry.log.count(PATH, method="HEAD") == 1


async def test_not_found_for_one_is_not_so_for_others(rig: Rig) -> None:
    rig.registry.add_image("app", "1.0")
    await rig.ask(PATH, SKOPEO)
    rig.registry.fault(AnswerWith(404), path=PATH, times=1)
    assert (await rig.ask(PATH, OLD)).status == 404
    assert (await rig.ask(PATH, SKOPEO)).cache == "hit"


async def test_not_found_for_who_accepts_it_is_so_for_all(rig: Rig, clock: ManualClock) -> None:
    rig.registry.add_image("app", "1.0")
    await rig.ask(PATH, SKOPEO)
    rig.registry.delete_tag("app", "1.0")
    assert (await rig.ask(PATH, DOCKER)).status == 404
    clock.advance(11)
    rig.registry.die()
    assert (await rig.ask(PATH, SKOPEO)).status >= 500
