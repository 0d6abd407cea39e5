"""Blobs of any size that cost no memory, each with a digest of its own."""

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

BLOCK = 1 << 20
_NONCE = 16
MIB, GIB = 1 << 20, 1 << 30


@dataclass(frozen=True, slots=True)
class Blob:
    """One block of random bytes over and over, and a nonce at the end."""

    size: int
    digest: str
    nonce: bytes


class Mint:
    """Makes blobs that nobody has seen before.

    They differ at their end alone: what comes before is hashed once for each size.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._begun: dict[int, hashlib._Hash] = {}

    def blob(self, size: int) -> Blob:
        if size not in self._begun:
            hasher = hashlib.sha256()
            for piece in pieces(size, bytes(_NONCE), 0, size - _NONCE):
                hasher.update(piece)
            self._begun[size] = hasher
        nonce = self._random.randbytes(_NONCE)
        hasher = self._begun[size].copy()
        hasher.update(nonce)
        return Blob(size, f"sha256:{hasher.hexdigest()}", nonce)


def pieces(
    size: int, nonce: bytes, start: int, stop: int, step: int = BLOCK
) -> Iterator[memoryview]:
    """The bytes from `start` to `stop` of a blob of that size and nonce, at most `step` each."""
    plain = size - len(nonce)
    while start < min(plain, stop):
        within = start % BLOCK
        piece = _BLOCK[within : within + min(step, min(plain, stop) - start)]
        yield piece
        start += len(piece)
    if start < stop:
        yield memoryview(nonce)[start - plain : stop - plain]


def write(blob: Blob, file: Path) -> None:
    file.parent.mkdir(parents=True)
    with file.open("wb") as target:
        for piece in pieces(blob.size, blob.nonce, 0, blob.size):
            target.write(piece)


_BLOCK = memoryview(random.Random(0).randbytes(BLOCK))
