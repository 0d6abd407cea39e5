"""Digests: `algorithm:hex`, the name of content (OCI image-spec, descriptor.md, "Digests")."""

import hashlib
import re
from dataclasses import dataclass
from typing import Protocol, Self

from entrepot.errors import InvalidReference

# sha512 is registered beside sha256; others may pass through the proxy but can never be verified.
_HEX_LENGTH = {"sha256": 64, "sha512": 128}
_HEX = re.compile(r"[0-9a-f]+")


class Hasher(Protocol):
    def update(self, data: bytes | memoryview, /) -> None: ...
    def hexdigest(self) -> str: ...


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    algorithm: str
    hex: str

    @classmethod
    def parse(cls, text: str) -> Self:
        algorithm, _, value = text.partition(":")
        if len(value) != _HEX_LENGTH.get(algorithm) or not _HEX.fullmatch(value):
            raise InvalidReference(f"not a sha256 or sha512 digest: {text[:150]!r}")
        return cls(algorithm, value)

    @classmethod
    def of(cls, content: bytes, algorithm: str = "sha256") -> Self:
        return cls(algorithm, hashlib.new(algorithm, content).hexdigest())

    def hasher(self) -> Hasher:
        return hashlib.new(self.algorithm)

    def matches(self, content: bytes) -> bool:
        return Digest.of(content, self.algorithm) == self

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"
