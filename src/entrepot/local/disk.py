"""What the registry's storage weighs, where it is a directory that can be seen from here."""

import os
from collections.abc import Iterable
from pathlib import Path

from entrepot.local.failure import JobFailed
from entrepot.oci.digest import Digest

_BLOBS = Path("docker", "registry", "v2", "blobs")


class BlobFiles:
    """Its methods block."""

    def __init__(self, storage: Path) -> None:
        self._root = storage / _BLOBS
        self._storage = storage

    def check(self) -> None:
        if self._root.is_dir():
            return
        is_new = self._storage.is_dir() and not any(self._storage.iterdir())
        if not is_new:
            raise JobFailed(
                f"{self._storage} (gc.storage) is not a registry's storage: it has no {_BLOBS}"
            )

    def sizes(self, digests: Iterable[Digest]) -> dict[Digest, int]:
        """Of those that are there."""
        found: dict[Digest, int] = {}
        for digest in digests:
            try:
                found[digest] = self._file(digest).stat().st_size
            except FileNotFoundError:
                continue
            except OSError as error:
                raise JobFailed(f"{self._file(digest)} (gc.storage): {error.strerror}") from error
        return found

    def total(self) -> int:
        """Of all blobs."""
        return sum(
            os.stat(os.path.join(directory, "data")).st_size  # noqa: PTH116, PTH118 - a million
            for directory, _, files in os.walk(self._root)
            if "data" in files
        )

    def _file(self, digest: Digest) -> Path:
        return self._root / digest.algorithm / digest.hex[:2] / digest.hex / "data"
