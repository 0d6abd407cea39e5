"""Disk stores in the test's own directory, as many and as odd as a test wants."""

import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from subprocess import PIPE, Popen

import pytest

from entrepot.config.kinds import Bytes
from entrepot.config.model import Storage
from entrepot.oci.digest import Digest
from entrepot.storage.disk import DiskStore, open_disk_store
from entrepot.storage.disk.evictor import free_bytes
from tests.support.clock import ManualClock

ROOT = Path(__file__).parents[3]


@dataclass
class Disk:
    """A directory, its clock, and the stores that a test opened in it."""

    directory: Path
    clock: ManualClock
    free: Callable[[Path], int] = free_bytes
    _opened: list[DiskStore] = field(default_factory=list)

    def open(self, settings: Storage | None = None) -> DiskStore:
        settings = settings or replace(Storage(), min_free=Bytes(0))
        store = open_disk_store(
            self.directory,
            settings,
            self.clock,
            free=lambda path: self.free(path),  # noqa: PLW0108 - tests change it later
        )
        self._opened.append(store)
        return store

    async def close(self, store: DiskStore) -> None:
        self._opened.remove(store)
        await store.aclose()

    async def aclose(self) -> None:
        for store in list(self._opened):
            await self.close(store)

    @property
    def parts(self) -> list[str]:
        return sorted(path.name for path in (self.directory / "cache/fills").iterdir())

    @property
    def files(self) -> list[Path]:
        content = (self.directory / "cache/content").glob("*/*")
        return sorted(content, key=lambda path: path.name)

    def file(self, digest: Digest) -> Path:
        (path,) = (path for path in self.files if digest.hex in path.name)
        return path


@pytest.fixture
async def disk(tmp_path: Path) -> AsyncIterator[Disk]:
    disk = Disk(tmp_path, ManualClock())
    yield disk
    await disk.aclose()


@contextmanager
def child(
    verb: str, directory: Path, *arguments: str, within: tuple[str, ...] = ()
) -> Iterator[Popen[str]]:
    """Another process at the same store: see child.py."""
    command = [*within, sys.executable, "-m", "tests.storage.disk.child", verb, str(directory)]
    with Popen([*command, *arguments], cwd=ROOT, stdout=PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def line_of(process: Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


async def has(store: DiskStore, digest: Digest) -> bool:
    content = await store.open(digest)
    if content is not None:
        content.close()
    return content is not None
