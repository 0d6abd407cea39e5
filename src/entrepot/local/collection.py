"""The registry's storage kept small: its own garbage collection, and versions without a tag first.

Distribution's collection takes what a running push has brought, so nothing may be written while it
runs. Its flag for versions without a tag is not used: 2.x takes the children of indexes for such.
"""

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field

from entrepot.local.command import Survey, run
from entrepot.local.disk import BlobFiles
from entrepot.local.hold import Claim
from entrepot.local.premises import Premises
from entrepot.local.reach import blobs_of
from entrepot.local.removal import all_contents, remove_versions, surveyed
from entrepot.oci.digest import Digest
from entrepot.oci.reference import Repository

_STALE = (
    "the registry still says that it has a blob that was collected: it keeps descriptors in"
    " memory, and pushes will leave out what is gone. Restart it now, and take `cache` out of"
    " `storage` in its configuration"
)
_PROBED_BLOBS, _PROBED_REPOSITORIES = 5, 20

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Collected:
    """What went, or would go."""

    blobs: list[Digest] = field(default_factory=list)
    versions: list[tuple[Repository, Digest]] = field(default_factory=list)
    size: int | None = None  # of the blobs; None: not known
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Probe:
    """A blob that is there before the collection, and should not be after it."""

    repository: Repository
    digest: Digest


class Collection:
    def __init__(self, premises: Premises) -> None:
        self._premises = premises
        self._gc = premises.settings.gc
        self._files = BlobFiles(self._gc.storage) if self._gc.storage else None

    async def plan(self, *, untagged: bool) -> Collected:
        """What would go now; pushes that are under way may change it."""
        await self._check_storage()
        found = await surveyed(self._premises)
        planned = Collected(list(found.garbage))
        if untagged:
            await self._plan_leftovers(found, planned)
        planned.blobs.sort()
        planned.size = await self._weigh(planned.blobs)
        return planned

    async def run(self, *, untagged: bool) -> Collected:
        await self._check_storage()
        async with self._premises.claimed("its storage is being cleaned") as claim:
            # Pushes are not disturbed where there is nothing to do.
            found = await surveyed(self._premises)
            if not found.garbage and not (untagged and await self._has_leftovers(found)):
                return Collected(size=0 if self._files else None)
            await self._premises.close(claim)
            return await self._collect(claim, found, untagged=untagged)

    async def run_leftovers(self, only: Repository | None) -> Collected:
        """Versions without a tag, and not yet what they needed."""
        async with self._premises.claimed("versions without a tag are being deleted") as claim:
            await self._premises.close(claim)
            gone = Collected()
            await self._remove_leftovers(await surveyed(self._premises), gone, only)
            await self._premises.forgetting.settle()
            return gone

    async def plan_leftovers(self, only: Repository | None) -> Collected:
        planned = Collected()
        async for there in all_contents(self._premises, await surveyed(self._premises), only):
            planned.versions += [(there.repository, d) for d in there.leftovers.versions]
        return planned

    # While writes are held back.

    async def _collect(self, claim: Claim, found: Survey, *, untagged: bool) -> Collected:
        gone, doomed = Collected(), set(found.garbage)
        if untagged:
            # Asked again: what was pushed meanwhile is not left over.
            found = await surveyed(self._premises)
            doomed |= set(found.garbage) | await self._remove_leftovers(found, gone)
        sizes = await self._sizes(doomed)
        probes = await self._probes(found, doomed)
        forgetting = self._premises.forgetting
        await forgetting.doom(sorted(doomed))
        result = Survey()
        try:
            result = await run(
                self._gc.command, self._gc.timeout, lambda: claim.is_sure, found=result
            )
        finally:
            # Also when it failed: some may have gone.
            await asyncio.shield(self._forget(result))
        gone.blobs = sorted(result.garbage)  # which it tells in no order
        if sizes is not None:
            left = await self._sizes(result.garbage) or {}
            gone.size = sum(sizes[d] for d in result.garbage if d in sizes and d not in left)
        if await self._is_remembered(probes, set(result.garbage)):
            gone.warnings.append(_STALE)
        return gone

    async def _is_remembered(self, probes: Iterable[_Probe], collected: set[Digest]) -> bool:
        """What a leftover shared with others was doomed, and stays."""
        for probe in probes:
            if probe.digest in collected:
                return await self._premises.catalogue.has_blob(probe.repository, probe.digest)
        return False

    async def _forget(self, result: Survey) -> None:
        forgetting = self._premises.forgetting
        await forgetting.blobs(result.garbage)
        await forgetting.see_to_doomed()
        await forgetting.settle()

    async def _remove_leftovers(
        self, found: Survey, gone: Collected, only: Repository | None = None
    ) -> set[Digest]:
        """Returns what they needed."""
        needed: set[Digest] = set()
        async for there in all_contents(self._premises, found, only):
            left = there.leftovers.versions
            needed |= blobs_of(there.versions[digest] for digest in left).keys()
            removed = await remove_versions(self._premises, there.repository, left)
            gone.versions += [(there.repository, digest) for digest in removed]
        return needed

    # What is there.

    async def _has_leftovers(self, found: Survey) -> bool:
        async for there in all_contents(self._premises, found):
            if there.leftovers.versions:
                return True
        return False

    async def _plan_leftovers(self, found: Survey, planned: Collected) -> None:
        """With the blobs that nobody would need then: one repository's are another's, too."""
        dead: set[Digest] = set()
        needed: set[Digest] = set()
        async for there in all_contents(self._premises, found):
            left = set(there.leftovers.versions)
            planned.versions += [(there.repository, d) for d in there.leftovers.versions]
            dead |= blobs_of(there.versions[digest] for digest in left).keys()
            kept = [version for digest, version in there.versions.items() if digest not in left]
            needed |= blobs_of(kept).keys()
            needed |= {child.digest for version in kept for child in version.children}
        planned.blobs += dead - needed - set(planned.blobs)

    async def _probes(self, found: Survey, doomed: Iterable[Digest]) -> list[_Probe]:
        """Asked for, so that a registry that remembers will remember them. What is garbage already
        comes first: of the rest, some may be needed by others.
        """
        garbage = set(found.garbage)
        candidates = sorted(doomed, key=lambda digest: (digest not in garbage, digest))
        probes: list[_Probe] = []
        for digest in candidates[:_PROBED_BLOBS]:
            known = await self._premises.forgetting.holders(digest)
            for repository in [*known, *found.manifests][:_PROBED_REPOSITORIES]:
                if await self._premises.catalogue.has_blob(repository, digest):
                    probes.append(_Probe(repository, digest))
                    break
        return probes

    async def _check_storage(self) -> None:
        if self._files is not None:
            await asyncio.to_thread(self._files.check)

    async def _sizes(self, digests: Iterable[Digest]) -> dict[Digest, int] | None:
        if self._files is None:
            return None
        return await asyncio.to_thread(self._files.sizes, list(digests))

    async def _weigh(self, digests: Iterable[Digest]) -> int | None:
        sizes = await self._sizes(digests)
        return None if sizes is None else sum(sizes.values())
