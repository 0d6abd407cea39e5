"""Where things are in the store's directory, and whether it is one that we can use."""

import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from entrepot.errors import StorageError
from entrepot.oci.digest import Digest

# Raised with every change that code of the version before cannot live with.
VERSION = 1


@dataclass(frozen=True, slots=True)
class Layout:
    root: Path

    @property
    def fills(self) -> Path:
        return self.root / "fills"

    @property
    def content(self) -> Path:
        return self.root / "content"

    @property
    def ledger(self) -> Path:
        return self.root / "ledger"

    @property
    def scrubbed(self) -> Path:
        """Its time of change says when the last scrub ended; locked while one is running."""
        return self.root / "scrubbed"

    def part(self, digest: Digest, *, suffix: str = "") -> Path:
        return self.fills / f"{digest.algorithm}-{digest.hex}{suffix}.part"

    def intake(self, chance: str) -> Path:
        return self.fills / f"intake-{chance}.part"

    def prepare(self) -> None:
        if os.path.expandvars(self.root) != str(self.root):
            raise StorageError(f"{self.root}: diskcache would expand the $ in this path")
        for directory in (self.root, self.fills, self.content, self.ledger):
            # Private images lie here: nobody else's business.
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._check_version()

    def probe(self) -> None:
        """Raise OSError unless a file can be written."""
        path = self.fills / f".probe-{secrets.token_hex(8)}"
        try:
            path.write_bytes(b"entrepot")
        finally:
            path.unlink(missing_ok=True)

    def _check_version(self) -> None:
        path = self.root / "version"
        try:
            text = path.read_text().strip()
        except FileNotFoundError:
            temporary = self.root / f".version-{secrets.token_hex(8)}"
            temporary.write_text(f"{VERSION}\n")
            temporary.rename(path)
            return
        if not text.isascii() or not text.isdigit():
            raise StorageError(f"{path}: not a version of the store: {text[:20]!r}")
        if int(text) > VERSION:
            raise StorageError(
                f"{self.root} was written by a newer entrepot: its layout is version {text},"
                f" this one knows {VERSION}; upgrade, or use another directory"
            )


def content_name(digest: Digest) -> str:
    """A name never used before: diskcache removes the file that a replaced row named."""
    unique = secrets.token_hex(8)
    return f"content/{digest.hex[:2]}/{digest.algorithm}-{digest.hex}-{unique}"


def content_key(name: str) -> str:
    """The index's key of a file in content/: what `content_name` made it from."""
    algorithm, _, rest = name.partition("-")
    return f"{algorithm}:{rest.partition('-')[0]}"
