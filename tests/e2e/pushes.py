"""What tests of pushes share: images to push, and who may push where."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.e2e.clients import Credentials
from tests.support.archives import write_docker_archive
from tests.support.content import Generated


def archive(directory: Path, image: str, sizes: Sequence[int], seed: int) -> Path:
    """An image of that name, ready to be loaded and pushed; layers of so many random bytes."""
    path = directory / f"{seed}.tar"
    files = [Generated(seed * 1000 + number, size) for number, size in enumerate(sizes)]
    write_docker_archive(path, image, files)
    return path


def htpasswd(file: Path, *users: Credentials) -> Path:
    lines = [
        subprocess.run(
            ["htpasswd", "-Bbn", "-C", "5", user.user, user.password],
            capture_output=True,
            check=True,
        ).stdout
        for user in users
    ]
    file.write_bytes(b"".join(line.strip() + b"\n" for line in lines))
    return file
