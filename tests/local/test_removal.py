"""What is deleted by name, at a registry that deletes by digest only (2.8)."""

from typing import Any

import pytest

from entrepot.cache.record import (
    Binding,
    Verdict,
    encode,
    listing_key,
    member_key,
    tag_key,
)
from entrepot.local.failure import JobFailed
from entrepot.local.premises import Premises
from entrepot.local.removal import (
    contents,
    remove_all,
    remove_version,
    surveyed,
    tag_target,
    version_tags,
)
from entrepot.oci.digest import Digest
from entrepot.oci.reference import Repository, Tag
from tests.local.registry import NAME, OwnRegistry
from tests.support.images import Manifest, build_image, build_index

APP = Repository("team/app")
ONE, TWO = build_image([2000], seed=1), build_image([3000], seed=2)
INDEX = build_index([ONE, TWO])
LONG = 10_000


def digest_of(manifest: Manifest) -> Digest:
    return Digest.parse(manifest.digest)


async def untag(premises: Premises, tag: str) -> None:
    target = await tag_target(premises, APP, Tag(tag))
    await premises.untag(APP, Tag(tag), target)


class TestATag:
    async def test_goes_alone(self, own: OwnRegistry, premises: Premises) -> None:
        own.push(APP, "1.0", INDEX)
        own.tag(APP, "latest", INDEX)
        await untag(premises, "1.0")
        assert await premises.catalogue.tagged(APP) == {Tag("latest"): digest_of(INDEX)}
        assert own.has_all_of(APP, INDEX)

    async def test_the_last_one_goes_too(self, own: OwnRegistry, premises: Premises) -> None:
        own.push(APP, "1.0", ONE)
        await untag(premises, "1.0")
        assert await premises.catalogue.tags(APP) == []
        assert own.has(f"{APP}/manifests/{ONE.digest}")

    async def test_that_is_not_there(self, own: OwnRegistry, premises: Premises) -> None:
        with pytest.raises(JobFailed, match="there is no team/app:none"):
            await untag(premises, "none")

    async def test_that_was_pushed_meanwhile_is_left(
        self, own: OwnRegistry, premises: Premises
    ) -> None:
        own.push(APP, "1.0", ONE)
        own.push(APP, "1.0", TWO)
        with pytest.raises(JobFailed, match="meanwhile"):
            await premises.untag(APP, Tag("1.0"), digest_of(ONE))
        assert await premises.catalogue.tagged(APP) == {Tag("1.0"): digest_of(TWO)}

    async def test_leaves_nothing_for_the_collection_to_keep(
        self, own: OwnRegistry, premises: Premises
    ) -> None:
        own.push(APP, "1.0", ONE)
        before = (await surveyed(premises)).manifests[APP]
        await untag(premises, "1.0")
        assert (await surveyed(premises)).manifests[APP] == before


class TestAVersion:
    async def test_goes_with_its_tags(self, own: OwnRegistry, premises: Premises) -> None:
        own.push(APP, "1.0", ONE)
        own.tag(APP, "latest", ONE)
        own.push(APP, "2.0", TWO)
        assert await version_tags(premises, APP, digest_of(ONE)) == ["1.0", "latest"]
        await remove_version(premises, APP, digest_of(ONE))
        assert await premises.catalogue.tags(APP) == ["2.0"]
        assert not own.has(f"{APP}/manifests/{ONE.digest}")

    async def test_that_is_part_of_a_tagged_one_stays(
        self, own: OwnRegistry, premises: Premises
    ) -> None:
        own.push(APP, "1.0", INDEX)
        with pytest.raises(JobFailed, match=r"part of team/app:1\.0"):
            await remove_version(premises, APP, digest_of(ONE))
        assert own.has_all_of(APP, INDEX)

    async def test_that_is_not_there(self, own: OwnRegistry, premises: Premises) -> None:
        own.push(APP, "1.0", TWO)
        with pytest.raises(JobFailed, match="there is no"):
            await remove_version(premises, APP, digest_of(ONE))


async def test_a_whole_repository_goes_with_versions_that_have_no_tag(
    own: OwnRegistry, premises: Premises
) -> None:
    old = build_image([1000], seed=3)
    own.push(APP, "1.0", old)
    own.push(APP, "1.0", INDEX)
    own.push("other", "1.0", INDEX)
    found = await contents(premises, APP, (await surveyed(premises)).manifests[APP])
    removed = await remove_all(premises, found)
    assert {str(digest) for digest in removed} == {
        *(each.digest for each in INDEX.all_manifests()),
        old.digest,
    }
    assert await premises.catalogue.tags(APP) == []
    assert not any(own.has(f"{APP}/manifests/{digest}") for digest in removed)
    assert own.has_all_of("other", INDEX)


class TestARegistryThatDeletesNothing:
    @pytest.fixture
    def storage(self) -> dict[str, Any]:
        return {"delete": {"enabled": False}}

    async def test_keeps_its_tag_and_says_what_to_set(
        self, own: OwnRegistry, premises: Premises
    ) -> None:
        own.push(APP, "1.0", ONE)
        with pytest.raises(JobFailed, match=r"storage\.delete\.enabled"):
            await untag(premises, "1.0")
        assert await premises.catalogue.tagged(APP) == {Tag("1.0"): digest_of(ONE)}


class TestWhatTheCacheKnows:
    async def test_is_forgotten(self, own: OwnRegistry, premises: Premises) -> None:
        own.push(APP, "1.0", ONE)
        own.push(APP, "2.0", TWO)
        keys = {}
        for tag, image in (("1.0", ONE), ("2.0", TWO)):
            binding = Binding(digest_of(image), image.media_type, len(image.body), 1)
            keys[tag] = tag_key(NAME, APP, Tag(tag), "")
            await premises.ledger.put(keys[tag], encode(binding), LONG)
            member = member_key(NAME, APP, digest_of(image))
            await premises.ledger.put(member, encode(Verdict(1)), LONG)
        listing = listing_key(NAME, f"/v2/{APP}/tags/list", "")
        await premises.ledger.put(listing, b"{}\n[]", LONG)
        await remove_version(premises, APP, digest_of(ONE))
        gone = (keys["1.0"], member_key(NAME, APP, digest_of(ONE)), listing)
        assert [await premises.ledger.get(key) for key in gone] == [None, None, None]
        assert await premises.ledger.get(member_key(NAME, APP, digest_of(TWO)))
        await untag(premises, "2.0")
        assert await premises.ledger.get(keys["2.0"]) is None
