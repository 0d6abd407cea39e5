"""Part files, each held by the lock of who writes it: fills/<algorithm>-<hex>.part, and
fills/intake-<chance>.part of what is named at its end.
"""

import fcntl
import hashlib
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from entrepot.oci.digest import Digest, Hasher
from entrepot.storage.disk.layout import Layout

_CHUNK = 1 << 20
# Hashed while it is written: what nearly all that is pushed is named by.
INTAKE_ALGORITHM = "sha256"


@dataclass(frozen=True, slots=True)
class Part:
    """A locked part file, and the hash of what is in it."""

    digest: Digest | None  # None: named at its end
    path: Path
    descriptor: int
    is_private: bool  # another holds the shared one, or none: nobody would find it again
    size: int
    hasher: Hasher

    def close(self) -> None:
        os.close(self.descriptor)

    def give_up(self) -> None:
        """Of who went away before it was open: what nobody would find again goes, too."""
        if self.is_private:
            self.path.unlink(missing_ok=True)
        self.close()


def open_part(layout: Layout, digest: Digest) -> Part:
    """Blocks as long as it takes to hash what an earlier attempt left."""
    path = layout.part(digest)
    descriptor = lock_part(path)
    if descriptor is None:
        return open_private_part(layout, digest)
    return _part(digest, path, descriptor, is_private=False)


def open_private_part(layout: Layout, digest: Digest) -> Part:
    """An empty one, beside the shared one."""
    path, descriptor = _lock_new(lambda: layout.part(digest, suffix=f".{secrets.token_hex(8)}"))
    return _part(digest, path, descriptor, is_private=True)


def open_intake_part(layout: Layout) -> Part:
    path, descriptor = _lock_new(lambda: layout.intake(secrets.token_hex(16)))
    return Part(
        None, path, descriptor, is_private=True, size=0, hasher=hashlib.new(INTAKE_ALGORITHM)
    )


def _lock_new(path_of_chance: Callable[[], Path]) -> tuple[Path, int]:
    while True:  # a sweep may hold it for a moment
        path = path_of_chance()
        descriptor = lock_part(path)
        if descriptor is not None:
            return path, descriptor


def _part(digest: Digest, path: Path, descriptor: int, *, is_private: bool) -> Part:
    try:
        hasher = digest.hasher()
        size = hash_file(descriptor, hasher)
    except BaseException:
        os.close(descriptor)
        raise
    return Part(digest, path, descriptor, is_private, size, hasher)


def lock_part(path: Path, *, create: bool = True) -> int | None:
    """None where another draft holds it, of this process or any other."""
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_CREAT if create else 0)
    while True:
        descriptor = os.open(path, flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        # Between open and lock its owner may have committed or removed it.
        if _is_at(path, descriptor):
            return descriptor
        os.close(descriptor)


def unlock_part(descriptor: int) -> None:
    fcntl.flock(descriptor, fcntl.LOCK_UN)


def sweep_parts(fills: Path, before: float | None) -> int:
    """Remove the part files that nobody holds; with `before`, those of them that may be gone on
    with only if they were not written since.
    """
    count = 0
    for path in fills.iterdir():
        with suppress(FileNotFoundError):
            if before is None or _is_of_one(path.name) or _time_of(path) < before:
                count += _remove_unheld(path)
    return count


def sweep_lost_parts(fills: Path) -> int:
    """Remove what no draft will ever find again, left by a process that was killed."""
    return sweep_parts(fills, before=float("-inf"))


def _is_of_one(name: str) -> bool:
    """Whether it is of one draft alone: private, or named at its end."""
    return name.endswith(".part") and (name.startswith("intake-") or name.count(".") > 1)


def _time_of(path: Path) -> float:
    return path.stat(follow_symlinks=False).st_mtime


def _remove_unheld(path: Path) -> bool:
    descriptor = lock_part(path, create=False)
    if descriptor is None:
        return False
    try:
        path.unlink()
    finally:
        os.close(descriptor)
    return True


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        named = path.stat(follow_symlinks=False)
    except FileNotFoundError:
        return False
    held = os.fstat(descriptor)
    return (named.st_dev, named.st_ino) == (held.st_dev, held.st_ino)


def hash_file(descriptor: int, hasher: Hasher) -> int:
    size = 0
    if not os.fstat(descriptor).st_size:
        return size  # as nearly all are when they are opened: no buffer is made for them
    chunk = memoryview(bytearray(_CHUNK))
    while count := os.preadv(descriptor, [chunk], size):
        hasher.update(chunk[:count])
        size += count
    return size
