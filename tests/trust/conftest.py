import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.trust.authority import Authority, Proxy, make_authority, running_proxy
from tests.trust.machine import Machine


@pytest.fixture(scope="session")
def authority() -> Authority:
    return make_authority("Entrepot CA")


@pytest.fixture(scope="session")
def successor() -> Authority:
    return make_authority("Entrepot CA 2")


@pytest.fixture
def proxy(authority: Authority) -> Iterator[Proxy]:
    with running_proxy() as proxy:
        proxy.serve(authority)
        yield proxy


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Debian with docker running, and containerd beside it."""
    machine = Machine(tmp_path, ("update-ca-certificates",))
    (machine.root / "usr/local/share/ca-certificates").mkdir(parents=True)
    machine.add_service("docker")
    machine.add_service("containerd")
    return machine


@pytest.fixture(scope="session")
def busybox_tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the applets of busybox and nothing else: what a small system has."""
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.skip("busybox is not installed")
    directory = tmp_path_factory.mktemp("busybox")
    listed = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True)
    for applet in listed.stdout.split():
        (directory / applet).symlink_to(busybox)
    return directory
