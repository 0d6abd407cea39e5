"""An image that clients really unpack, large and quickly made."""

import gzip
import hashlib
import io
import random
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bench.stage import Stage
from bench.upstream import blob_path, manifest_path
from tests.support.images import Layer, build_image

_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class FileContent:
    file: Path
    size: int
    digest: str

    def chunks(self, start: int, stop: int) -> Iterator[bytes]:
        with self.file.open("rb") as source:
            source.seek(start)
            while start < stop:
                piece = source.read(min(_PIECE, stop - start))
                yield piece
                start += len(piece)


class Writable(Protocol):
    def write(self, data: bytes, /) -> int: ...


class _Hashing(io.RawIOBase):
    """What is written, and its digest."""

    def __init__(self, target: Writable) -> None:
        self._target = target
        self._hasher = hashlib.sha256()

    @property
    def digest(self) -> str:
        return f"sha256:{self._hasher.hexdigest()}"

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        assert isinstance(data, bytes | bytearray | memoryview)
        self._hasher.update(data)
        return self._target.write(bytes(data))


def stock_image(stage: Stage, tag: str, layers: int, layer_size: int) -> str:
    """At the stage's upstream; returns the tag's path."""
    made = [
        _layer(stage.directory / f"layer-{number}", number, layer_size) for number in range(layers)
    ]
    image = build_image(made)
    for blob in image.blobs:
        file = stage.directory / blob.digest
        with file.open("wb") as target:
            target.writelines(blob.chunks(0, blob.size))
        stage.upstream.stock_file(
            blob_path(blob.digest), file, blob.digest, "application/octet-stream"
        )
    file = stage.directory / f"manifest-{tag}"
    file.write_bytes(image.body)
    for reference in (tag, image.digest):
        stage.upstream.stock_file(manifest_path(reference), file, image.digest, image.media_type)
    return manifest_path(tag)


def _layer(file: Path, seed: int, size: int) -> Layer:
    """Random bytes are not compressed: that would take minutes, and change nothing."""
    body = random.Random(seed).randbytes(size)
    with file.open("wb") as target:
        packed = _Hashing(target)
        with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=0, mtime=0) as zipped:
            plain = _Hashing(zipped)
            with tarfile.open(fileobj=plain, mode="w|", bufsize=_PIECE) as tar:
                member = tarfile.TarInfo(f"data/{seed}")
                member.size = size
                tar.addfile(member, io.BytesIO(body))
    return Layer(FileContent(file, file.stat().st_size, packed.digest), plain.digest)
