"""Layers that come in before anybody asks for them."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from entrepot.config.kinds import Bytes
from entrepot.config.model import Config, Storage
from entrepot.oci.digest import Digest
from tests.support.clock import ManualClock
from tests.support.engine import (
    Rig,
    accepting,
    basic,
    blob_path,
    config_for,
    impatient,
    manifest_path,
    open_engine,
)
from tests.support.faults import AnswerWith, Hold
from tests.support.images import Manifest
from tests.support.registry import ScriptedRegistry
from tests.support.token_service import Auth

LAYERS = [200_000 + number for number in range(6)]
BLOBS = "/v2/app/blobs/*"


def settings(registry: ScriptedRegistry, *, connections: int = 64) -> Config:
    return config_for(registry, upstream=impatient(read_ahead=True), connections=connections)


@pytest.fixture
async def rig(registry: ScriptedRegistry, clock: ManualClock) -> AsyncIterator[Rig]:
    async with open_engine(registry, clock, config=settings(registry)) as rig:
        yield rig


@pytest.fixture
def image(registry: ScriptedRegistry) -> Manifest:
    return registry.add_image("app", "1.0", LAYERS)


async def stored(rig: Rig, digest: str) -> bool:
    content = await rig.store.open(Digest.parse(digest))
    if content is not None:
        content.close()
    return content is not None


async def read_ahead(rig: Rig) -> None:
    """Until nothing more is read ahead."""
    async with asyncio.timeout(20):
        await rig.engine.read_ahead.wait_for_running()
        await rig.engine.blobs.wait_for_fills()


async def pull(rig: Rig, image: Manifest, reference: str = "1.0") -> None:
    answer = await rig.ask(manifest_path(reference), accepting(image))
    assert (answer.status, answer.body) == (200, image.body)


class TestWhatAManifestNames:
    @pytest.mark.parametrize("by", ["tag", "digest"])
    async def test_is_here_before_it_is_asked_for(
        self, rig: Rig, registry: ScriptedRegistry, image: Manifest, by: str
    ) -> None:
        await pull(rig, image, image.digest if by == "digest" else "1.0")
        await read_ahead(rig)
        assert registry.log.count(BLOBS, method="GET") == len(image.blobs)
        for blob in image.blobs:
            answer = await rig.ask(blob_path(blob))
            assert (answer.cache, len(answer.body)) == ("hit", blob.size)
        assert registry.log.count(BLOBS) == len(image.blobs)

    async def test_comes_as_one_with_what_the_client_asks_for(
        self, rig: Rig, registry: ScriptedRegistry, image: Manifest
    ) -> None:
        gate = registry.gate()
        registry.fault(Hold(100_000, gate), path=BLOBS)
        await pull(rig, image)
        path = blob_path(image.blobs[1])
        await registry.log.wait_until_async(lambda: registry.log.count(path) == 1)
        response = await rig.open(path)
        assert response.trace.cache == "collapsed"
        gate.open()
        await response.aclose()
        await read_ahead(rig)
        assert registry.log.count(BLOBS) == len(image.blobs)

    async def test_is_left_where_it_is_here(
        self, rig: Rig, registry: ScriptedRegistry, image: Manifest
    ) -> None:
        known = image.blobs[1]
        await rig.ask(blob_path(known))
        await pull(rig, image)
        await read_ahead(rig)
        assert registry.log.count(blob_path(known)) == 1
        assert registry.log.count(BLOBS) == len(image.blobs)

    async def test_is_fetched_a_few_at_a_time(
        self, rig: Rig, registry: ScriptedRegistry, image: Manifest
    ) -> None:
        gate = registry.gate()
        registry.fault(Hold(gate=gate), path=BLOBS)
        await pull(rig, image)
        await pull(rig, image, image.digest)
        await registry.log.wait_until_async(lambda: registry.log.count(BLOBS) == 3)
        # What is asked for after that comes first: as much was to be had.
        registry.add_image("other", "1.0", ())
        await rig.ask(manifest_path("1.0", "other"))
        assert registry.log.count(BLOBS) == 3
        gate.open()
        await read_ahead(rig)
        assert registry.log.count(BLOBS) == len(image.blobs)

    async def test_leaves_most_connections_to_who_asks(
        self, registry: ScriptedRegistry, clock: ManualClock, image: Manifest
    ) -> None:
        gate = registry.gate()
        registry.fault(Hold(gate=gate), path=BLOBS)
        async with open_engine(registry, clock, config=settings(registry, connections=4)) as rig:
            await pull(rig, image)
            await registry.log.wait_until_async(lambda: registry.log.count(BLOBS) == 1)
            other = registry.add_image("other", "1.0", LAYERS, seed=1)
            await rig.ask(manifest_path("1.0", "other"), accepting(other))
            content = registry.add_blob("app", other.blobs[2])
            gate.open()
            assert (await rig.ask(blob_path(content))).cache == "miss"
            await read_ahead(rig)
        assert registry.log.count(BLOBS) == len(image.blobs) + 1
        assert registry.log.count("/v2/other/blobs/*") == 0


class TestNothingIsBegun:
    async def test_for_a_head(self, rig: Rig, registry: ScriptedRegistry, image: Manifest) -> None:
        for reference in ("1.0", image.digest):
            await rig.ask(manifest_path(reference), accepting(image), method="HEAD")
        await read_ahead(rig)
        assert registry.log.count(BLOBS) == 0

    async def test_on_a_hit(self, rig: Rig, registry: ScriptedRegistry, image: Manifest) -> None:
        await pull(rig, image)
        await read_ahead(rig)
        for blob in image.blobs:
            await rig.store.remove(Digest.parse(blob.digest))
        await pull(rig, image)
        await read_ahead(rig)
        assert registry.log.count(BLOBS) == len(image.blobs)

    async def test_for_an_index(self, rig: Rig, registry: ScriptedRegistry) -> None:
        index = registry.add_image("app", "1.0", LAYERS, platforms=("linux/amd64", "linux/arm64"))
        await pull(rig, index)
        await read_ahead(rig)
        assert registry.log.count(BLOBS) == 0
        assert registry.log.count("/v2/app/manifests/*") == 1

    async def test_where_it_is_switched_off(
        self, registry: ScriptedRegistry, clock: ManualClock, image: Manifest
    ) -> None:
        async with open_engine(registry, clock) as rig:
            await pull(rig, image)
            await read_ahead(rig)
        assert registry.log.count(BLOBS) == 0

    async def test_of_layers_that_are_to_be_had_elsewhere(
        self, rig: Rig, registry: ScriptedRegistry, image: Manifest
    ) -> None:
        document = json.loads(image.body)
        document["layers"][0]["urls"] = ["https://elsewhere.test/layer"]
        odd = replace(image, body=json.dumps(document).encode())
        registry.add("app", "odd", odd)
        await pull(rig, odd, "odd")
        await read_ahead(rig)
        assert registry.log.count(BLOBS) == len(image.blobs) - 1
        assert registry.log.count(blob_path(image.blobs[1])) == 0

    async def test_of_what_would_fill_the_store(
        self, registry: ScriptedRegistry, clock: ManualClock, image: Manifest
    ) -> None:
        small = replace(settings(registry), storage=Storage(max_size=Bytes(sum(LAYERS))))
        async with open_engine(registry, clock, config=small) as rig:
            await pull(rig, image)
            await read_ahead(rig)
        assert registry.log.count(BLOBS) == 0


class TestWhatGoesWrong:
    @pytest.mark.parametrize("status", [401, 403, 404, 429])
    async def test_is_not_asked_on(
        self, rig: Rig, registry: ScriptedRegistry, image: Manifest, status: int
    ) -> None:
        registry.fault(AnswerWith(status), path=BLOBS)
        await pull(rig, image)
        await read_ahead(rig)
        assert 1 <= registry.log.count(BLOBS) <= 3

    async def test_does_not_keep_the_client_from_it(
        self, rig: Rig, registry: ScriptedRegistry, image: Manifest
    ) -> None:
        registry.fault(AnswerWith(500), path=BLOBS, times=1)
        await pull(rig, image)
        await read_ahead(rig)
        for blob in image.blobs:
            answer = await rig.ask(blob_path(blob))
            assert (answer.status, len(answer.body)) == (200, blob.size)

    async def test_the_end_of_the_engine_ends_it(
        self, registry: ScriptedRegistry, clock: ManualClock, image: Manifest
    ) -> None:
        registry.fault(Hold(1000), path=BLOBS)
        async with asyncio.timeout(20):
            async with open_engine(registry, clock, config=settings(registry)) as rig:
                await pull(rig, image)
                await registry.log.wait_until_async(lambda: registry.log.count(BLOBS) == 3)
        assert registry.log.count(BLOBS) == 3


class TestWhoseRights:
    async def test_are_those_of_who_asked_for_the_manifest(self, clock: ManualClock) -> None:
        users = {"alice": "a", "bob": "b"}
        with ScriptedRegistry(auth=Auth(users=users)) as registry:
            image = registry.add_image("app", "1.0", LAYERS)
            registry.make_private("app", "alice")
            async with open_engine(registry, clock, config=settings(registry)) as rig:
                alice = await rig.login(basic("alice", "a"))
                answer = await rig.ask(manifest_path("1.0"), accepting(image) | alice)
                assert answer.status == 200
                await read_ahead(rig)
                asked = registry.log.find(BLOBS)
                assert {entry.user for entry in asked if entry.status == 200} == {"alice"}
                path = blob_path(image.blobs[1])
                assert (await rig.ask(path, alice)).cache == "hit"
                bob = await rig.login(basic("bob", "b"))
                assert (await rig.ask(path, bob)).status in {401, 403, 404}
