"""Which tags go, and that nothing else does."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.config.kinds import DAY, Seconds
from entrepot.config.local import RetentionRule
from entrepot.local.premises import Premises, open_premises
from entrepot.local.retention import Aged, Expired, Retention, expired
from entrepot.oci.digest import Digest
from entrepot.oci.media_type import OCI_MANIFEST
from entrepot.oci.reference import Repository, Tag
from entrepot.storage.memory import MemoryLedger
from tests.local.registry import NAME, OwnRegistry
from tests.support.clock import ManualClock
from tests.support.content import Given
from tests.support.images import Manifest, build_image, build_index

APP = Repository("team/app")
IMAGES = [build_image([1000], seed=seed) for seed in range(5)]
DIGEST = Digest.of(b"")
NOW = 100.0 * DAY


def aged(tag: str, days: float, created: float = 0.0) -> Aged:
    return Aged(Tag(tag), DIGEST, NOW - days * DAY, created)


def going(rule: RetentionRule, *tags: Aged) -> set[str]:
    return {one.tag for one in expired(rule, tags, NOW)}


class TestARule:
    TAGS = (aged("a", 1), aged("b", 2), aged("v1.0", 3), aged("c", 40))

    def test_keeps_the_newest(self) -> None:
        assert going(RetentionRule(keep_last=2), *self.TAGS) == {"v1.0", "c"}

    def test_keeps_for_a_time(self) -> None:
        assert going(RetentionRule(keep_for=Seconds(3 * DAY)), *self.TAGS) == {"v1.0", "c"}

    def test_keeps_by_name(self) -> None:
        rule = RetentionRule(keep_last=1, keep_tags=("v*", "c"))
        assert going(rule, *self.TAGS) == {"b"}

    def test_keeps_all_for_ever(self) -> None:
        assert going(RetentionRule(keep_for=Seconds(float("inf"))), *self.TAGS) == set()

    def test_when_it_was_made_decides_between_those_pushed_at_once(self) -> None:
        tags = (aged("a", 5, created=3), aged("b", 5, created=9), aged("c", 5, created=6))
        assert going(RetentionRule(keep_last=1), *tags) == {"a", "c"}

    @given(st.lists(st.floats(0, 400), max_size=12), st.integers(0, 5), st.integers(0, 300))
    def test_never_takes_what_it_says_it_keeps(
        self, days: list[float], last: int, kept_days: int
    ) -> None:
        tags = [aged(f"t{number}", age) for number, age in enumerate(days)]
        rule = RetentionRule(keep_last=last, keep_for=Seconds(kept_days * DAY))
        gone = expired(rule, tags, NOW)
        kept = set(tags) - set(gone)
        assert len(kept) >= min(last, len(tags))
        assert all(NOW - one.pushed_at >= kept_days * DAY for one in gone)
        assert all(k.pushed_at >= g.pushed_at for k in kept for g in gone)


class Rig:
    def __init__(self, own: OwnRegistry, premises: Premises, clock: ManualClock) -> None:
        self.own = own
        self.premises = premises
        self.clock = clock

    async def push(self, tag: str, image: int, repository: str = APP) -> None:
        """Through the proxy: it notes when. A day passes."""
        self.own.push(repository, tag, IMAGES[image])
        name = Repository(repository)
        await self.premises.pushed.note(NAME, name, Tag(tag), IMAGES[image].digest)
        self.clock.advance(DAY)

    async def tags(self, repository: str = APP) -> list[Tag]:
        return await self.premises.catalogue.tags(Repository(repository))

    async def retain(self) -> list[str]:
        return names(await Retention(self.premises).run())


type Rigs = Callable[..., AbstractAsyncContextManager[Rig]]


def names(found: list[Expired]) -> list[str]:
    return sorted(f"{one.repository}:{aged.tag}" for one in found for aged in one.tags)


@pytest.fixture
def rig_of(
    own: OwnRegistry, tmp_path: Path, ledger: MemoryLedger, clock: ManualClock
) -> Callable[..., AbstractAsyncContextManager[Rig]]:
    @asynccontextmanager
    async def opened(*rules: RetentionRule) -> AsyncIterator[Rig]:
        config = own.config(tmp_path, retention=rules)
        async with open_premises(config, NAME, ledger, clock, is_alone=True) as premises:
            yield Rig(own, premises, clock)

    return opened


async def test_the_newest_stay_and_the_others_are_gone_with_their_content(rig_of: Rigs) -> None:
    async with rig_of(RetentionRule(keep_last=2)) as rig:
        for number, tag in enumerate(("a", "b", "c")):
            await rig.push(tag, number)
        assert names(await Retention(rig.premises).plan(notes=False)) == ["team/app:a"]
        assert await rig.tags() == ["a", "b", "c"]
        assert await rig.retain() == ["team/app:a"]
        assert await rig.tags() == ["b", "c"]
        assert not rig.own.has(f"{APP}/manifests/{IMAGES[0].digest}")
        assert await rig.retain() == []


async def test_a_version_that_a_kept_tag_has_stays(rig_of: Rigs) -> None:
    async with rig_of(RetentionRule(keep_tags=("stable",))) as rig:
        await rig.push("stable", 1)
        await rig.push("1.0", 1)
        assert await rig.retain() == ["team/app:1.0"]
        assert await rig.tags() == ["stable"]
        assert rig.own.has_all_of(APP, IMAGES[1])


async def test_children_that_a_kept_index_has_stay(rig_of: Rigs) -> None:
    async with rig_of(RetentionRule(keep_tags=("new",))) as rig:
        old, new = build_index(IMAGES[:2]), build_index(IMAGES[1:3])
        rig.own.push(APP, "old", old)
        rig.own.push(APP, "new", new)
        assert await rig.retain() == ["team/app:old"]
        assert rig.own.has_all_of(APP, new)
        assert not rig.own.has(f"{APP}/manifests/{IMAGES[0].digest}")


async def test_a_tag_that_was_never_seen_is_known_from_the_first_run_on(rig_of: Rigs) -> None:
    async with rig_of(RetentionRule(keep_for=Seconds(7 * DAY))) as rig:
        rig.own.push(APP, "around-the-proxy", IMAGES[0])
        rig.clock.advance(30 * DAY)
        assert names(await Retention(rig.premises).plan(notes=False)) == []
        assert await rig.retain() == []
        rig.clock.advance(6 * DAY)
        assert await rig.retain() == []
        rig.clock.advance(1 * DAY)
        assert await rig.retain() == ["team/app:around-the-proxy"]


def image_of(year: int) -> Manifest:
    config = Given(json.dumps({"created": f"{year}-01-01T00:00:00.123456789Z"}).encode())
    named = {
        "mediaType": "application/vnd.oci.image.config.v1+json",
        "digest": config.digest,
        "size": config.size,
    }
    document = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": named, "layers": []}
    return Manifest(json.dumps(document).encode(), OCI_MANIFEST, blobs=(config,))


async def test_of_tags_that_became_known_together_the_newest_image_stays(rig_of: Rigs) -> None:
    async with rig_of(RetentionRule(keep_last=1)) as rig:
        for tag, year in (("a", 2024), ("b", 2026), ("c", 2025)):
            rig.own.push(APP, tag, image_of(year))
        assert await rig.retain() == ["team/app:a", "team/app:c"]


async def test_a_tag_that_moved_around_the_proxy_is_new(rig_of: Rigs) -> None:
    async with rig_of(RetentionRule(keep_for=Seconds(7 * DAY))) as rig:
        await rig.push("a", 0)
        rig.clock.advance(30 * DAY)
        rig.own.push(APP, "a", IMAGES[1])
        assert await rig.retain() == []


async def test_the_first_rule_that_matches_decides(rig_of: Rigs) -> None:
    forever = Seconds(float("inf"))
    async with rig_of(
        RetentionRule(match="team/*", keep_for=forever), RetentionRule(match="*", keep_last=1)
    ) as rig:
        for repository in (APP, "other"):
            for number, tag in enumerate(("a", "b")):
                await rig.push(tag, number, repository)
        assert await rig.retain() == ["other:a"]
        assert await rig.tags() == ["a", "b"]


async def test_without_a_rule_nothing_goes(rig_of: Rigs) -> None:
    async with rig_of() as rig:
        await rig.push("a", 0)
        assert await rig.retain() == []
        assert await rig.tags() == ["a"]
