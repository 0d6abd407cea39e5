"""What is deleted by name: tags, versions, whole repositories."""

from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass

from entrepot.local.catalogue import Version
from entrepot.local.command import Survey, survey
from entrepot.local.failure import JobFailed
from entrepot.local.premises import Premises
from entrepot.local.reach import Leftovers, descendants, leftovers
from entrepot.oci.digest import Digest
from entrepot.oci.reference import Repository, Tag


@dataclass(frozen=True, slots=True)
class Contents:
    """All of a repository that can be known: `versions` without tags only by a survey."""

    repository: Repository
    tags: Mapping[Tag, Digest]
    versions: Mapping[Digest, Version]

    @property
    def leftovers(self) -> Leftovers:
        return leftovers(self.tags, self.versions)


async def contents(
    premises: Premises, repository: Repository, known: Iterable[Digest] = ()
) -> Contents:
    tags = await premises.catalogue.tagged(repository)
    versions = await premises.catalogue.reached(repository, {*tags.values(), *known})
    return Contents(repository, tags, versions)


async def surveyed(premises: Premises) -> Survey:
    """All that the storage holds. A registry that is new has none yet, and its program fails."""
    if await anext(premises.catalogue.repositories(), None) is None:
        return Survey(is_whole=True)
    gc = premises.settings.gc
    return await survey(gc.command, gc.timeout)


async def all_contents(
    premises: Premises, found: Survey, only: Repository | None = None
) -> AsyncIterator[Contents]:
    for repository, digests in found.manifests.items():
        if only in {None, repository}:
            yield await contents(premises, repository, digests)


async def tag_target(premises: Premises, repository: Repository, tag: Tag) -> Digest:
    digest = await premises.catalogue.resolve(repository, tag)
    if digest is None:
        raise JobFailed(f"there is no {repository}:{tag}")
    return digest


async def version_tags(premises: Premises, repository: Repository, digest: Digest) -> list[Tag]:
    """The tags that go with a version. JobFailed where it is part of one that stays."""
    if await premises.catalogue.resolve(repository, digest) is None:
        raise JobFailed(f"there is no {repository}@{digest}")
    found = await contents(premises, repository)
    for tag, target in found.tags.items():
        if target != digest and digest in descendants([target], found.versions):
            raise JobFailed(
                f"{repository}@{digest} is part of {repository}:{tag}, which could not be pulled"
                " without it: delete that first"
            )
    return sorted(tag for tag, target in found.tags.items() if target == digest)


async def remove_version(premises: Premises, repository: Repository, digest: Digest) -> None:
    tags = await version_tags(premises, repository, digest)
    await premises.delete(repository, digest)
    for tag in tags:
        await premises.forgetting.tag(repository, tag)
        await premises.pushed.forget(premises.name, repository, tag)


async def remove_versions(
    premises: Premises, repository: Repository, digests: Iterable[Digest]
) -> list[Digest]:
    """In this order, with their tags. Those that were there."""
    return [digest for digest in digests if await premises.delete(repository, digest)]


async def remove_all(premises: Premises, found: Contents) -> list[Digest]:
    """Of a repository of which nothing is to be left, while nobody pushes to it."""
    ordered = sorted(found.versions, key=lambda digest: not found.versions[digest].children)
    removed = await remove_versions(premises, found.repository, ordered)
    for tag in found.tags:
        await premises.forgetting.tag(found.repository, tag)
        await premises.pushed.forget(premises.name, found.repository, tag)
    if left := await premises.catalogue.tagged(found.repository):
        raise JobFailed(f"{found.repository} still has {', '.join(left)}")
    return removed
