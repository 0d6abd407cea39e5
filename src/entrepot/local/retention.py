"""Which tags go by the operator's rules, and their deletion."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from entrepot.cache.matching import pattern_of
from entrepot.config.local import RetentionRule
from entrepot.local.failure import JobFailed, together
from entrepot.local.images import created_at
from entrepot.local.premises import Premises
from entrepot.local.reach import leftovers, subject_of
from entrepot.local.records import Pushed
from entrepot.local.removal import contents, remove_versions
from entrepot.oci.digest import Digest
from entrepot.oci.reference import Repository, Tag


@dataclass(frozen=True, slots=True)
class Aged:
    """A tag with what retention goes by. `created` is the image's own word, which may be any."""

    tag: Tag
    digest: Digest
    pushed_at: float
    created: float = 0.0


@dataclass(frozen=True, slots=True)
class Expired:
    repository: Repository
    tags: tuple[Aged, ...]


def expired(rule: RetentionRule, tags: Iterable[Aged], now: float) -> tuple[Aged, ...]:
    """Those that nothing in the rule keeps."""
    ranked = sorted(tags, key=lambda aged: (aged.pushed_at, aged.created, aged.tag), reverse=True)
    kept = [pattern_of(pattern) for pattern in rule.keep_tags]
    return tuple(
        aged
        for rank, aged in enumerate(ranked)
        if rank >= rule.keep_last
        and now - aged.pushed_at >= rule.keep_for
        and not any(pattern.fullmatch(aged.tag) for pattern in kept)
    )


class Retention:
    def __init__(self, premises: Premises) -> None:
        self._premises = premises
        self._rules = [(pattern_of(rule.match), rule) for rule in premises.settings.retention]

    async def plan(self, *, notes: bool) -> list[Expired]:
        """What would go now. `notes`: a tag that was never seen before is known from now on."""
        found = []
        async for repository in self._premises.catalogue.repositories():
            rule = self._rule_of(repository)
            if rule is not None:
                going = await self._expired(rule, repository, notes=notes)
                found += [Expired(repository, going)] if going else []
        return found

    async def run(self) -> list[Expired]:
        """What went. JobFailed where writes could not be held back, or something was refused."""
        if not self._rules:
            return []
        async with self._premises.claimed("old tags are being deleted") as claim:
            plan = await self.plan(notes=True)
            if not plan:
                return []
            await self._premises.close(claim)
            gone = [await self._remove(expired) for expired in plan]
            await self._premises.forgetting.settle()
            return [expired for expired in gone if expired.tags]

    def _rule_of(self, repository: Repository) -> RetentionRule | None:
        return next((rule for pattern, rule in self._rules if pattern.fullmatch(repository)), None)

    async def _expired(
        self, rule: RetentionRule, repository: Repository, *, notes: bool
    ) -> tuple[Aged, ...]:
        premises, now = self._premises, self._premises.clock.now()
        tags = {
            tag: digest
            for tag, digest in (await premises.catalogue.tagged(repository)).items()
            if subject_of(tag) is None  # it goes with what it was made for
        }
        known = await premises.pushed.of(premises.name, repository)
        unseen = {
            tag: Pushed(now, str(digest), is_seen=True)
            for tag, digest in tags.items()
            if tag not in known or known[tag].digest not in {"", str(digest)}
        }
        if notes:
            await premises.pushed.note_seen(premises.name, repository, unseen)
        times = {tag: pushed.at for tag, pushed in (known | unseen).items()}
        aged = [Aged(tag, digest, times[tag]) for tag, digest in tags.items()]
        if expired(rule, aged, now) and rule.keep_last:
            aged = await self._with_creation(repository, aged)
        return expired(rule, aged, now)

    async def _with_creation(self, repository: Repository, tags: list[Aged]) -> list[Aged]:
        """Of those that became known at the same moment: it decides which is newer."""
        moments = [aged.pushed_at for aged in tags]
        catalogue = self._premises.catalogue

        async def completed(aged: Aged) -> Aged:
            if moments.count(aged.pushed_at) == 1:
                return aged
            version = await catalogue.version(repository, aged.digest)
            created = version and await created_at(catalogue, repository, version)
            return Aged(aged.tag, aged.digest, aged.pushed_at, created or 0.0)

        return await together(completed(aged) for aged in tags)

    async def _remove(self, expired: Expired) -> Expired:
        """Those that still point where they did. Versions go with their last tag."""
        premises, repository = self._premises, expired.repository
        found = await contents(premises, repository)
        going = {aged.tag: aged for aged in expired.tags if found.tags.get(aged.tag) == aged.digest}
        kept = {tag: digest for tag, digest in found.tags.items() if tag not in going}
        left = leftovers(kept, found.versions)
        await premises.catalogue.check_deletable(repository)
        for aged in going.values():
            if aged.digest not in left.versions:
                await premises.untag(repository, aged.tag, aged.digest)
        await remove_versions(premises, repository, left.versions)
        await self._check_kept(repository, kept, left.tags)
        for tag in going:
            await premises.forgetting.tag(repository, tag)
            await premises.pushed.forget(premises.name, repository, tag)
        return Expired(repository, tuple(going.values()))

    async def _check_kept(
        self, repository: Repository, kept: Mapping[Tag, Digest], gone: Iterable[Tag]
    ) -> None:
        """A registry that took more than it was told to must not go on with the next repository."""
        left = await self._premises.catalogue.tags(repository)
        if missing := kept.keys() - set(left) - set(gone):
            raise JobFailed(f"{repository} has lost {', '.join(sorted(missing))}, which was kept")
