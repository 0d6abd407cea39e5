"""A file system that is full, for real."""

import os
import shutil
import subprocess

import pytest

from tests.storage.disk.conftest import Disk, child, line_of

MOUNT = 'mount -t tmpfs -o size=2m none "$0" && exec "$@"'


@pytest.fixture
def mount(disk: Disk) -> tuple[str, ...]:
    """What a command is run within, to find 2 MiB at the directory."""
    if os.geteuid() != 0 or not shutil.which("unshare"):
        pytest.skip("mounting needs root and unshare")
    within = ("unshare", "-m", "sh", "-c", MOUNT, str(disk.directory))
    if subprocess.run([*within, "true"], check=False).returncode != 0:
        pytest.skip("this machine does not permit mounting")
    return within


async def test_a_full_disk_ends_the_draft_and_nothing_else(
    disk: Disk, mount: tuple[str, ...]
) -> None:
    with child("fill-up", disk.directory, within=mount) as process:
        assert "No space left" in line_of(process)
        assert line_of(process) == "served"
        assert process.wait() == 0
