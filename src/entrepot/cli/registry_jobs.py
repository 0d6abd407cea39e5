"""What `entrepot registry` does, and what it asks before."""

import sys
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import click

from entrepot.cache.matching import pattern_of
from entrepot.cli.registry_names import Name
from entrepot.cli.registry_print import Row, Teller, tag_row
from entrepot.clock import SystemClock
from entrepot.config.model import Config
from entrepot.errors import ConfigError, EntrepotError, StorageError
from entrepot.local.collection import Collection
from entrepot.local.disk import BlobFiles
from entrepot.local.failure import JobFailed, together
from entrepot.local.images import describe
from entrepot.local.premises import Premises, open_catalogue, open_premises
from entrepot.local.pushed import PushTimes
from entrepot.local.reach import blobs_of
from entrepot.local.records import Pushed
from entrepot.local.removal import (
    Contents,
    contents,
    remove_all,
    remove_version,
    surveyed,
    tag_target,
    version_tags,
)
from entrepot.local.retention import Retention
from entrepot.oci.digest import Digest
from entrepot.oci.reference import Repository, Tag
from entrepot.storage.base import Ledger
from entrepot.storage.disk.store import open_disk_store


@dataclass(frozen=True, slots=True)
class Care:
    """How something is deleted."""

    is_dry: bool
    is_sure: bool
    is_offline: bool


class Jobs:
    def __init__(self, config: Config, registry: str, care: Care, *, as_json: bool) -> None:
        self._config = config
        self._registry = registry
        self._settings = config.local_registries[registry]
        self._care = care
        self._teller = Teller(as_json=as_json)

    # What only looks.

    async def list_repositories(self, pattern: str, *, with_empty: bool) -> None:
        rows: list[Row] = []
        async with open_catalogue(self._config, self._registry) as catalogue:
            async for repository in _matching(catalogue.repositories(), pattern):
                count = len(await catalogue.tags(repository))
                if count or with_empty:
                    rows.append({"repository": repository, "tags": count})
        self._teller.lines(rows, "repository")

    async def list_tags(self, repository: Repository) -> None:
        async with open_catalogue(self._config, self._registry) as catalogue:
            tags = await catalogue.tags(repository)
            if not tags:
                raise JobFailed(f"there is no tag in {repository}")
            found = await together(describe(catalogue, repository, tag) for tag in tags)
        pushed = await self._push_times(repository)
        self._teller.table(
            [tag_row(image, pushed.get(image.tag)) for image in found if image is not None]
        )

    async def show_usage(self, pattern: str) -> None:
        rows: list[Row] = []
        needed: dict[Digest, int] = {}
        async with open_catalogue(self._config, self._registry) as catalogue:
            async for repository in _matching(catalogue.repositories(), pattern):
                tags = await catalogue.tagged(repository)
                own = blobs_of((await catalogue.reached(repository, tags.values())).values())
                if tags:
                    size = sum(own.values())
                    rows.append({"repository": repository, "tags": len(tags), "size": size})
                needed |= own
        rows.sort(key=lambda row: -int(str(row["size"])))
        stored = None
        if self._settings.gc.storage is not None and pattern == "*":
            files = BlobFiles(self._settings.gc.storage)
            files.check()
            stored = files.total()
        self._teller.usage(rows, sum(needed.values()), stored)

    # What deletes.

    async def remove_named(self, names: Sequence[Name]) -> None:
        """Each for itself: one that fails leaves the others to be done."""
        failed = False
        gone: list[str] = []
        async with self._premises() as premises:
            _confirm(map(str, names), self._care)
            for name in names:
                try:
                    gone += await _remove(premises, name, self._care)
                except EntrepotError as error:
                    failed = True
                    click.echo(f"Error: {error}", err=True)
            self._teller.deleted(gone, is_dry=self._care.is_dry)
        if failed:
            raise SystemExit(1)

    async def remove_repositories(self, repositories: Sequence[Repository]) -> None:
        async with self._premises() as premises:
            found = [each async for each in _all_of(premises, repositories)]
            if self._care.is_dry:
                self._tell_versions((c.repository, d) for c in found for d in c.versions)
                return
            _confirm((f"{name} with all that is in it" for name in repositories), self._care)
            removed: list[tuple[Repository, Digest]] = []
            async with premises.claimed("a repository is being deleted") as claim:
                await premises.close(claim)
                async for each in _all_of(premises, repositories):
                    removed += [(each.repository, d) for d in await remove_all(premises, each)]
            self._tell_versions(removed)

    async def remove_untagged(self, only: Repository | None) -> None:
        async with self._premises() as premises:
            collection = Collection(premises)
            planned = await collection.plan_leftovers(only)
            if self._care.is_dry or not planned.versions:
                self._tell_versions(planned.versions)
                return
            _confirm([f"{len(planned.versions)} versions that no tag leads to"], self._care)
            self._tell_versions((await collection.run_leftovers(only)).versions)

    async def collect(self, *, untagged: bool) -> None:
        async with self._premises() as premises:
            collection = Collection(premises)
            if self._care.is_dry:
                planned = await collection.plan(untagged=untagged)
                self._teller.collected(planned, is_dry=True)
                return
            if untagged:
                _confirm([f"what no tag leads to in {self._registry}"], self._care)
            self._teller.collected(await collection.run(untagged=untagged), is_dry=False)

    async def retain(self) -> None:
        if not self._settings.retention:
            raise ConfigError(f"there are no rules of retention for {self._registry}")
        async with self._premises() as premises:
            retention = Retention(premises)
            if self._care.is_dry:
                self._teller.expired(await retention.plan(notes=False), is_dry=True)
                return
            _confirm([f"the tags that the rules for {self._registry} do not keep"], self._care)
            self._teller.expired(await retention.run(), is_dry=False)

    def _tell_versions(self, versions: Iterable[tuple[Repository, Digest]]) -> None:
        names = (f"{repository}@{digest}" for repository, digest in versions)
        self._teller.deleted(names, is_dry=self._care.is_dry)

    # Where it is done.

    @asynccontextmanager
    async def _premises(self) -> AsyncIterator[Premises]:
        clock, alone = SystemClock(), self._care.is_offline
        async with (
            self._ledger() as ledger,
            open_premises(self._config, self._registry, ledger, clock, is_alone=alone) as premises,
        ):
            yield premises

    @asynccontextmanager
    async def _ledger(self) -> AsyncIterator[Ledger]:
        if not (self._config.data / "cache").is_dir():
            raise ConfigError(
                f"there is no cache in {self._config.data} (data): give the data directory of"
                " the proxy (--data), for what is deleted must not be served from its cache"
            )
        store = open_disk_store(self._config.data, self._config.storage, SystemClock())
        try:
            yield store.ledger
        finally:
            await store.aclose()

    async def _push_times(self, repository: Repository) -> dict[Tag, Pushed]:
        """As far as they can be seen from here."""
        try:
            async with self._ledger() as ledger:
                return await PushTimes(ledger, SystemClock()).of(self._registry, repository)
        except (ConfigError, StorageError):
            return {}


async def _matching(
    repositories: AsyncIterator[Repository], pattern: str
) -> AsyncIterator[Repository]:
    matches = pattern_of(pattern).fullmatch
    async for repository in repositories:
        if matches(repository):
            yield repository


async def _all_of(
    premises: Premises, repositories: Sequence[Repository]
) -> AsyncIterator[Contents]:
    """With versions that have no tag, which only the storage can tell of."""
    survey = await surveyed(premises)
    for repository in repositories:
        found = await contents(premises, repository, survey.manifests.get(repository, ()))
        if not found.versions:
            raise JobFailed(f"there is nothing in {repository}")
        yield found


async def _remove(premises: Premises, name: Name, care: Care) -> list[str]:
    """What goes, in words."""
    if name.digest is None:
        assert name.tag is not None
        target = await tag_target(premises, name.repository, name.tag)
        if not care.is_dry:
            await premises.untag(name.repository, name.tag, target)
        return [str(name)]
    tags = await version_tags(premises, name.repository, name.digest)
    if not care.is_dry:
        await remove_version(premises, name.repository, name.digest)
    return [f"{name.repository}@{name.digest}", *(f"{name.repository}:{tag}" for tag in tags)]


def _confirm(what: Iterable[str], care: Care) -> None:
    """At a terminal; scripts know what they do."""
    if not (care.is_sure or care.is_dry) and sys.stdin.isatty():
        click.confirm(f"Delete {', '.join(what)}?", abort=True, err=True)
