"""The programs that the bench needs, and where Debian has them."""

import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping

PACKAGES: Mapping[str, str] = {
    "curl": "curl",
    "docker": "docker.io",
    "dockerd": "docker.io",
    "docker-registry": "docker-registry",
    "haproxy": "haproxy",
    "hey": "hey",
    "nginx": "nginx-light",
    "openssl": "openssl",
    "rsvg-convert": "librsvg2-bin",
    "skopeo": "skopeo",
    "socat": "socat",
    "squid": "squid-openssl",
    "taskset": "util-linux",
}
# Where a user's PATH does not lead, and Debian puts servers.
_SYSTEM = "/usr/sbin:/sbin"


def extend_path() -> None:
    os.environ["PATH"] = f"{os.environ.get('PATH', '')}:{_SYSTEM}"


def missing(programs: Iterable[str]) -> list[str]:
    return sorted({program for program in programs if shutil.which(program) is None})


def packages_of(programs: Iterable[str]) -> list[str]:
    return sorted({PACKAGES[program] for program in programs})


def can_install() -> bool:
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def install(packages: list[str]) -> None:
    """Without what they would start: the peers' services are no part of this."""
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    command = ["apt-get", "install", "-qq", "-y", "--no-install-recommends", *packages]
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
