"""The registry's own collection (2.8), with what we do around it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from entrepot.cache.record import Verdict, encode, member_key
from entrepot.config.kinds import Seconds
from entrepot.local.collection import Collection
from entrepot.local.failure import JobFailed
from entrepot.local.premises import Premises
from entrepot.local.records import doomed_prefix
from entrepot.oci.digest import Digest
from entrepot.oci.reference import Repository
from tests.local.holding import keeper_of
from tests.local.registry import NAME, OwnRegistry
from tests.support.images import Manifest, build_artifact, build_image, build_index

APP = Repository("team/app")
ONE, TWO, OLD = (build_image([size], seed=size) for size in (20_000, 30_000, 40_000))
INDEX = build_index([ONE, TWO])


def with_gc(premises: Premises, **changes: Any) -> Premises:
    gc = replace(premises.settings.gc, **changes)
    return replace(premises, settings=replace(premises.settings, gc=gc))


def needed(manifest: Manifest) -> set[str]:
    return {*manifest.all_blobs(), *(each.digest for each in manifest.all_manifests())}


async def test_what_nothing_needs_goes_and_weighs_what_was_announced(
    own: OwnRegistry, premises: Premises
) -> None:
    own.push(APP, "1.0", INDEX)
    own.push(APP, "2.0", OLD)
    await premises.delete(APP, Digest.parse(OLD.digest))
    planned = await Collection(premises).plan(untagged=False)
    before = own.stored()
    gone = await Collection(premises).run(untagged=False)
    assert {str(digest) for digest in gone.blobs} == needed(OLD)
    assert (gone.size, gone.warnings) == (planned.size, [])
    assert gone.size == before - own.stored() > 40_000
    assert own.has_all_of(APP, INDEX)


async def test_versions_without_a_tag_go_where_that_is_asked_for(
    own: OwnRegistry, premises: Premises
) -> None:
    own.push(APP, "1.0", OLD)
    own.push(APP, "1.0", INDEX)
    own.push("other", "1.0", OLD)
    assert (await Collection(premises).run(untagged=False)).blobs == []
    planned = await Collection(premises).plan(untagged=True)
    gone = await Collection(premises).run(untagged=True)
    assert planned.versions == gone.versions == [(APP, Digest.parse(OLD.digest))]
    assert planned.blobs == gone.blobs == []  # the other repository's, too
    assert gone.warnings == []
    assert own.has_all_of(APP, INDEX)
    assert own.has_all_of("other", OLD)


async def test_what_only_they_needed_is_announced(own: OwnRegistry, premises: Premises) -> None:
    own.push(APP, "1.0", build_index([ONE, OLD]))
    own.push(APP, "1.0", INDEX)
    planned = await Collection(premises).plan(untagged=True)
    gone = await Collection(premises).run(untagged=True)
    assert set(planned.blobs) == set(gone.blobs)
    assert planned.size == gone.size
    assert needed(OLD) <= {str(digest) for digest in gone.blobs}
    assert own.has_all_of(APP, INDEX)


async def test_signatures_live_as_long_as_their_image(own: OwnRegistry, premises: Premises) -> None:
    signature = build_artifact("application/x.signature", {"s": b"signed"}, subject=ONE)
    for tag in ("1.0", "2.0"):
        own.push(APP, tag, ONE)
    own.push(APP, f"sha256-{ONE.digest.partition(':')[2]}", build_index([signature]))
    await Collection(premises).run(untagged=True)
    assert own.has_all_of(APP, signature)
    own.push(APP, "1.0", TWO)
    own.push(APP, "2.0", TWO)
    await Collection(premises).run(untagged=True)
    assert await premises.catalogue.tags(APP) == ["1.0", "2.0"]
    assert not own.has(f"{APP}/manifests/{signature.digest}")
    assert own.has_all_of(APP, TWO)


async def test_where_there_is_nothing_to_do_nothing_is_held_back(
    own: OwnRegistry, premises: Premises
) -> None:
    own.push(APP, "1.0", INDEX)
    in_use = replace(premises, is_alone=False)  # to close would fail: nobody is there
    gone = await Collection(in_use).run(untagged=True)
    assert (gone.blobs, gone.size) == ([], 0)


async def test_what_was_collected_is_forgotten(own: OwnRegistry, premises: Premises) -> None:
    own.push(APP, "1.0", OLD)
    layer = Digest.parse(OLD.blobs[1].digest)
    await premises.ledger.put(member_key(NAME, APP, layer), encode(Verdict(1)), 10_000)
    await premises.ledger.put(member_key("docker.io", APP, layer), encode(Verdict(1)), 10_000)
    await premises.delete(APP, Digest.parse(OLD.digest))
    await Collection(premises).run(untagged=False)
    assert await premises.ledger.get(member_key(NAME, APP, layer)) is None
    assert await premises.ledger.get(member_key("docker.io", APP, layer))
    assert [key async for key, _ in premises.ledger.scan(doomed_prefix(NAME))] == []


async def test_a_collection_that_fails_is_told_and_forgets_what_may_have_gone(
    own: OwnRegistry, premises: Premises, tmp_path: Path
) -> None:
    own.push(APP, "1.0", OLD)
    await premises.delete(APP, Digest.parse(OLD.digest))
    layer = Digest.parse(OLD.blobs[1].digest)
    await premises.ledger.put(member_key(NAME, APP, layer), encode(Verdict(1)), 10_000)
    text = f'case "$*" in *--dry-run*) exec {" ".join(own.command)} "$@";; esac; exit 7'
    failing = with_gc(premises, command=("sh", "-c", text, "sh"))
    with pytest.raises(JobFailed, match="status 7"):
        await Collection(failing).run(untagged=False)
    assert await premises.ledger.get(member_key(NAME, APP, layer)) is None
    assert (await Collection(premises).run(untagged=False)).blobs


async def test_of_a_job_that_was_killed_the_proxy_forgets_before_it_lets_writes_in(
    own: OwnRegistry, premises: Premises
) -> None:
    layer = Digest.of(b"collected")
    await premises.ledger.put(member_key(NAME, APP, layer), encode(Verdict(1)), 10_000)
    keeper = keeper_of(premises.ledger, premises.clock)  # type: ignore[arg-type] # a manual one
    await premises.forgetting.doom([layer])
    await keeper.look()
    assert await premises.ledger.get(member_key(NAME, APP, layer)) is None


async def test_a_storage_that_is_none_is_told_before_anything_is_done(
    own: OwnRegistry, premises: Premises, tmp_path: Path
) -> None:
    (tmp_path / "something").touch()
    with pytest.raises(JobFailed, match=r"gc\.storage"):
        await Collection(with_gc(premises, storage=tmp_path)).run(untagged=False)


async def test_without_storage_the_size_is_not_known(own: OwnRegistry, premises: Premises) -> None:
    own.push(APP, "1.0", OLD)
    await premises.delete(APP, Digest.parse(OLD.digest))
    gone = await Collection(with_gc(premises, storage=None)).run(untagged=False)
    assert (gone.size, len(gone.blobs)) == (None, 3)


async def test_a_hanging_one_is_stopped(own: OwnRegistry, premises: Premises) -> None:
    own.push(APP, "1.0", OLD)
    slow = with_gc(premises, command=("sh", "-c", 'sleep 60; : "$@"', "sh"), timeout=Seconds(1))
    with pytest.raises(JobFailed, match=r"gc\.timeout"):
        await Collection(slow).run(untagged=False)


class TestARegistryThatRemembers:
    @pytest.fixture
    def storage(self) -> dict[str, Any]:
        return {"cache": {"blobdescriptor": "inmemory"}}

    async def test_is_warned_of(self, own: OwnRegistry, premises: Premises) -> None:
        own.push(APP, "1.0", OLD)
        await premises.delete(APP, Digest.parse(OLD.digest))
        gone = await Collection(premises).run(untagged=False)
        assert ["`storage`" in warning for warning in gone.warnings] == [True]


async def test_a_registry_that_is_new(own: OwnRegistry, premises: Premises) -> None:
    own.storage.mkdir()
    assert (await Collection(premises).run(untagged=True)).size == 0


async def test_two_at_once(own: OwnRegistry, premises: Premises) -> None:
    own.push(APP, "1.0", OLD)
    await premises.delete(APP, Digest.parse(OLD.digest))
    async with premises.claimed("another job"):
        with pytest.raises(JobFailed, match="another job is at work"):
            await Collection(premises).run(untagged=False)
    assert (await Collection(premises).run(untagged=False)).blobs
