"""Bytes to serve: given, or made up on the fly so that gigabytes cost no memory."""

import functools
import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

_BLOCK = 1 << 20
_NUMBER = 8  # bytes that make each block of generated content different


class Content(Protocol):
    @property
    def size(self) -> int: ...

    @property
    def digest(self) -> str: ...

    def chunks(self, start: int, stop: int) -> Iterator[bytes]:
        """The bytes from `start` up to `stop`, in pieces of moderate size."""
        ...


@dataclass(frozen=True, slots=True)
class Given:
    body: bytes
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", sha256(self.body))

    @property
    def size(self) -> int:
        return len(self.body)

    def chunks(self, start: int, stop: int) -> Iterator[bytes]:
        for offset in range(start, stop, _BLOCK):
            yield self.body[offset : min(offset + _BLOCK, stop)]


class Generated:
    """Incompressible bytes that follow from (seed, size): equal arguments, equal digest."""

    def __init__(self, seed: int, size: int) -> None:
        self.size = size
        self._base = random.Random(seed).randbytes(_BLOCK - _NUMBER)

    @functools.cached_property
    def digest(self) -> str:
        hasher = hashlib.sha256()
        for chunk in self.chunks(0, self.size):
            hasher.update(chunk)
        return f"sha256:{hasher.hexdigest()}"

    def chunks(self, start: int, stop: int) -> Iterator[bytes]:
        while start < min(stop, self.size):
            number, within = divmod(start, _BLOCK)
            block = number.to_bytes(_NUMBER, "big") + self._base
            piece = block[within : within + min(stop, self.size) - start]
            yield piece
            start += len(piece)


def sha256(body: bytes) -> str:
    return f"sha256:{hashlib.sha256(body).hexdigest()}"
