"""One stream by curl: what a fast ordinary client gets."""

import subprocess
from dataclasses import dataclass

from bench.peers.server import Server
from tests.support.processes import clean_environment


@dataclass(frozen=True, slots=True)
class Download:
    size: int
    seconds: float
    first_byte_s: float

    @property
    def mb_s(self) -> float:
        return self.size / self.seconds / 1e6


def download(server: Server, path: str, size: int, prefix: list[str]) -> Download:
    """The first `size` bytes; the whole, if it is that large."""
    command = [*prefix, "curl", "-sSf", "-o", "/dev/null", "--cacert", str(server.trust)]
    command += ["-w", "%{size_download} %{time_total} %{time_starttransfer}"]
    for header in server.headers:
        command += ["-H", header]
    if server.proxy:
        command += ["-x", f"http://{server.proxy}"]
    done = subprocess.run(
        [*command, server.url(path)],
        env=clean_environment(),
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{server.name}: {done.stderr}"
    taken, seconds, first = done.stdout.split()
    assert int(taken) == size, f"{server.name} sent {taken} bytes of {size}"
    return Download(int(taken), float(seconds), float(first))


def download_part(server: Server, path: str, size: int, prefix: list[str]) -> Download:
    """The first `size` bytes of something larger."""
    ranged = server.with_header(f"Range: bytes=0-{size - 1}")
    return download(ranged, path, size, prefix)
