"""Whole images by skopeo and by dockerd."""

import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from bench.peers.server import Server
from tests.support.processes import Program, clean_environment

_READY_S = 30.0
_STORAGE = "overlay2"


class ImageClient(Protocol):
    name: str

    def pull(self, server: Server, image: str) -> float:
        """Seconds. Nothing is kept of which the next pull could profit."""
        ...


class Skopeo:
    """Copies into a directory."""

    name = "skopeo"

    def __init__(self, directory: Path, prefix: list[str]) -> None:
        self._copy = directory / "copy"
        self._prefix = prefix

    def pull(self, server: Server, image: str) -> float:
        environment = {"SSL_CERT_FILE": str(server.trust)}
        if server.proxy:
            environment["HTTPS_PROXY"] = f"http://{server.proxy}"
        source = f"docker://{server.authority}/{image}"
        command = ["skopeo", "--insecure-policy", "copy", "-q", source, f"dir:{self._copy}"]
        began = time.monotonic()
        _check([*self._prefix, *command], environment)
        seconds = time.monotonic() - began
        shutil.rmtree(self._copy)
        return seconds


class Docker:
    """Unpacks, too."""

    name = "docker"

    def __init__(self, socket: str) -> None:
        self._docker = ["docker", "--host", socket]

    def pull(self, server: Server, image: str) -> float:
        name = f"{server.authority}/{image}"
        began = time.monotonic()
        _check([*self._docker, "pull", "-q", name], {})
        seconds = time.monotonic() - began
        _check([*self._docker, "rmi", "-f", name], {})
        return seconds

    def is_ready(self) -> bool:
        done = subprocess.run([*self._docker, "version"], capture_output=True, check=False)
        return done.returncode == 0


@contextmanager
def docker(directory: Path, prefix: list[str], trust: Path, proxy: str) -> Iterator[Docker]:
    """A daemon of its own that touches nothing of the machine's network."""
    directory.mkdir()
    (directory / "daemon.json").write_text("{}")
    socket = f"unix://{directory}/docker.sock"
    command = [
        "dockerd",
        f"--config-file={directory}/daemon.json",
        f"--data-root={directory}/root",
        f"--exec-root={directory}/exec",
        f"--pidfile={directory}/pid",
        f"--host={socket}",
        "--bridge=none",
        "--iptables=false",
        "--ip6tables=false",
        "--ip-forward=false",
        f"--storage-driver={_STORAGE}",
    ]
    environment = {"HTTPS_PROXY": f"http://{proxy}", "SSL_CERT_FILE": str(trust)}
    program = Program([*prefix, *command], directory / "log", environment)
    client = Docker(socket)
    try:
        program.wait_ready(client.is_ready, _READY_S)
        yield client
    finally:
        program.terminate()


def _check(command: list[str], environment: Mapping[str, str]) -> None:
    done = subprocess.run(
        command, env=clean_environment(environment), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()}"
