"""What is asked of a registry that pages, deletes tags by name (3.x), or fails."""

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from entrepot.config.local import LocalRegistry
from entrepot.config.model import Config
from entrepot.local.catalogue import Catalogue
from entrepot.local.failure import JobFailed
from entrepot.local.images import created_at, describe
from entrepot.local.premises import open_catalogue
from entrepot.oci.digest import Digest
from entrepot.oci.reference import Repository, Tag
from tests.local.registry import NAME
from tests.support.engine import impatient
from tests.support.faults import AnswerWith
from tests.support.http_server import Reply, Request
from tests.support.images import build_artifact, build_image, build_index
from tests.support.registry import ScriptedRegistry

APP = Repository("app")


@pytest.fixture
def registry() -> Iterator[ScriptedRegistry]:
    with ScriptedRegistry() as registry:
        yield registry


@pytest.fixture
async def catalogue(registry: ScriptedRegistry, tmp_path: Path) -> AsyncIterator[Catalogue]:
    local = LocalRegistry(upstream=(registry.url,))
    config = Config(data=tmp_path, local_registries={NAME: local}, upstream=impatient())
    async with open_catalogue(config, NAME) as catalogue:
        yield catalogue


@dataclass(frozen=True, slots=True)
class Then:
    """Somebody else is next, before the answer is."""

    act: Callable[[], object]

    def apply(self, request: Request, reply: Reply) -> None:
        self.act()


def methods(registry: ScriptedRegistry, reference: str) -> list[str]:
    return [
        entry.method
        for entry in registry.log.entries
        if entry.path == f"/v2/{APP}/manifests/{reference}"
    ]


async def test_a_tag_is_deleted_by_name_where_that_is_possible(
    registry: ScriptedRegistry, catalogue: Catalogue
) -> None:
    image = registry.add_image("app", "1.0")
    registry.add("app", "latest", image)
    await catalogue.untag(APP, Tag("1.0"), Digest.parse(image.digest))
    assert await catalogue.tagged(APP) == {Tag("latest"): Digest.parse(image.digest)}
    assert "PUT" not in methods(registry, "1.0")


async def test_a_tag_that_is_pushed_while_it_is_deleted_is_left(
    registry: ScriptedRegistry, catalogue: Catalogue
) -> None:
    """At a registry that deletes by digest only."""
    image, pushed = registry.add_image("app", "1.0"), build_image([2000], seed=9)
    registry.fault(AnswerWith(400), path="*/manifests/1.0", method="DELETE")
    registry.fault(Then(lambda: registry.add("app", "1.0", pushed)), method="PUT")
    with pytest.raises(JobFailed, match="pushed again meanwhile"):
        await catalogue.untag(APP, Tag("1.0"), Digest.parse(image.digest))
    registry.script.clear()
    assert await catalogue.tagged(APP) == {Tag("1.0"): Digest.parse(pushed.digest)}


async def test_what_is_not_there_is_nothing(catalogue: Catalogue) -> None:
    assert await catalogue.tags(Repository("none")) == []
    assert await catalogue.resolve(APP, Tag("none")) is None
    assert await catalogue.version(APP, Tag("none")) is None
    assert not await catalogue.has_blob(APP, Digest.of(b""))
    assert await catalogue.document(APP, Digest.of(b"")) == {}


@pytest.mark.parametrize(
    ("status", "said"), [(401, "upstream_username"), (403, "upstream_username"), (500, "500")]
)
async def test_a_refusal_is_told(
    registry: ScriptedRegistry, catalogue: Catalogue, status: int, said: str
) -> None:
    registry.fault(AnswerWith(status))
    with pytest.raises(JobFailed, match=said):
        await catalogue.tags(APP)


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}"])
async def test_an_answer_that_is_no_list(
    registry: ScriptedRegistry, catalogue: Catalogue, body: bytes
) -> None:
    registry.fault(AnswerWith(200, body))
    if body == b"<html>":
        with pytest.raises(JobFailed, match="JSON"):
            await catalogue.tags(APP)
    else:
        assert await catalogue.tags(APP) == []


class TestAnImage:
    async def test_of_several_platforms(
        self, registry: ScriptedRegistry, catalogue: Catalogue
    ) -> None:
        children = [
            build_image([1000], seed=seed, platform=platform)
            for seed, platform in enumerate(("linux/amd64", "linux/arm64/v8"))
        ]
        index = registry.add("app", "1.0", build_index(children))
        image = await describe(catalogue, APP, Tag("1.0"))
        assert image is not None
        assert image.platforms == ("linux/amd64", "linux/arm64/v8")
        assert image.size == sum(len(each.body) for each in index.all_manifests()) + (
            index.blob_bytes
        )
        assert image.created == 0.0

    async def test_that_is_none(self, registry: ScriptedRegistry, catalogue: Catalogue) -> None:
        registry.add("app", "1.0", build_artifact("application/x.chart", {"a": b"tar"}))
        image = await describe(catalogue, APP, Tag("1.0"))
        assert image is not None
        assert (image.platforms, image.created) == ((), None)

    async def test_whose_configuration_says_no_time(
        self, registry: ScriptedRegistry, catalogue: Catalogue
    ) -> None:
        image = registry.add("app", "1.0", build_image([1000]))
        registry.fault(AnswerWith(200, b'{"created": "long ago"}'), path="*/blobs/*")
        version = await catalogue.version(APP, Digest.parse(image.digest))
        assert version is not None
        assert await created_at(catalogue, APP, version) is None
