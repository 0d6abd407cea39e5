"""Images as `docker save` writes them, of any size, without holding them in memory."""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.support.content import Content, sha256

_BLOCK = 512
_END = bytes(2 * _BLOCK)


def write_docker_archive(path: Path, name: str, files: Sequence[Content]) -> None:
    """An image of that name with one layer for each file; clients compress them as they push."""
    with tarfile.open(path, "w") as archive:
        layers, diff_ids = [], []
        for number, content in enumerate(files):
            stream = _Layer(f"data/{number}", content)
            member = tarfile.TarInfo(f"{number}/layer.tar")
            member.size = stream.size
            archive.addfile(member, stream)
            layers.append(member.name)
            diff_ids.append(stream.digest)
        config = {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Cmd": ["/bin/true"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": [{"created_by": "test"} for _ in diff_ids],
        }
        config_name = _add(archive, json.dumps(config).encode())
        manifest = [{"Config": config_name, "RepoTags": [name], "Layers": layers}]
        _add(archive, json.dumps(manifest).encode(), "manifest.json")


def _add(archive: tarfile.TarFile, body: bytes, name: str = "") -> str:
    member = tarfile.TarInfo(name or f"{sha256(body).partition(':')[2]}.json")
    member.size = len(body)
    archive.addfile(member, io.BytesIO(body))
    return member.name


class _Layer(io.RawIOBase):
    """A tar of one file, made as it is read; its digest is known when it has been."""

    def __init__(self, name: str, content: Content) -> None:
        super().__init__()
        self._padding = bytes(-content.size % _BLOCK)
        self.size = _BLOCK + content.size + len(self._padding) + len(_END)
        self._pieces = self._made(name, content)
        self._rest = b""
        self._hash = hashlib.sha256()

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"

    def read(self, size: int = -1, /) -> bytes:
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._rest = piece
        taken, self._rest = self._rest[:size], self._rest[size:]
        self._hash.update(taken)
        if len(taken) < size:  # tarfile takes a short read for the end
            taken += self.read(size - len(taken))
        return taken

    def _made(self, name: str, content: Content) -> Iterator[bytes]:
        member = tarfile.TarInfo(name)
        member.size, member.mode = content.size, 0o644
        yield member.tobuf(tarfile.USTAR_FORMAT)
        yield from content.chunks(0, content.size)
        yield self._padding + _END
