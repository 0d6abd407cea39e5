"""A local registry as its jobs see it."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace

from entrepot.clock import Clock
from entrepot.config.local import LocalRegistry
from entrepot.config.model import Config
from entrepot.local.catalogue import Catalogue
from entrepot.local.forgetting import Forgetting
from entrepot.local.hold import Claim, Post, claimed
from entrepot.local.pushed import PushTimes
from entrepot.oci.digest import Digest
from entrepot.oci.reference import Repository, Tag
from entrepot.storage.base import Ledger
from entrepot.upstream.fleet import Upstreams


@dataclass(frozen=True, slots=True)
class Premises:
    name: str
    settings: LocalRegistry
    catalogue: Catalogue
    ledger: Ledger
    clock: Clock
    is_alone: bool = False  # no proxy is running that could be waited for

    @property
    def forgetting(self) -> Forgetting:
        return Forgetting(self.ledger, self.name)

    @property
    def pushed(self) -> PushTimes:
        return PushTimes(self.ledger, self.clock)

    def claimed(self, job: str) -> AbstractAsyncContextManager[Claim]:
        return claimed(Post(self.name, self.ledger, self.clock), job)

    async def close(self, claim: Claim) -> None:
        await claim.close(self.settings.gc.wait, is_alone=self.is_alone)

    async def delete(self, repository: Repository, digest: Digest) -> bool:
        """Also from what the cache knows. Whether it was there."""
        was_there = await self.catalogue.delete(repository, digest)
        await self.forgetting.version(repository, digest)
        return was_there

    async def untag(self, repository: Repository, tag: Tag, expected: Digest) -> None:
        await self.catalogue.untag(repository, tag, expected)
        await self.forgetting.tag(repository, tag)
        await self.pushed.forget(self.name, repository, tag)


@asynccontextmanager
async def open_catalogue(config: Config, name: str) -> AsyncIterator[Catalogue]:
    """With connections of its own, to this registry alone."""
    own = replace(config, registries={}, local_registries={name: config.local_registries[name]})
    upstreams = Upstreams(own)
    try:
        yield Catalogue(upstreams.get(name))
    finally:
        await upstreams.aclose()


@asynccontextmanager
async def open_premises(
    config: Config, name: str, ledger: Ledger, clock: Clock, *, is_alone: bool = False
) -> AsyncIterator[Premises]:
    settings = config.local_registries[name]
    async with open_catalogue(config, name) as catalogue:
        yield Premises(name, settings, catalogue, ledger, clock, is_alone)
