"""2 GiB, pushed through the proxy to the local registry."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.lab import ANN, LOCAL, Lab, local_registry
from tests.e2e.pushes import archive
from tests.e2e.upstreams import stored_bytes

SIZE = 2 << 30
PUSH_S = 240
FREE = 5 * SIZE  # the archive, the client's copy, the registry's, and what the proxy keeps
GROWTH = 100 << 20  # of the proxy's memory, whatever the size
SETTINGS = {"local_registries": local_registry(username=ANN.user, password=ANN.password)}


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """Empty again at once: pytest keeps what tests leave."""
    if shutil.disk_usage(tmp_path).free < FREE:
        pytest.skip("not enough disk")
    yield tmp_path
    shutil.rmtree(tmp_path)


@pytest.fixture
def registry_emptied(lab: Lab) -> Iterator[None]:
    yield
    shutil.rmtree(lab.local._storage)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("name", "layers"),
    [("docker", 4), ("skopeo", 1)],  # docker compresses each on one core, and takes its time
    ids=["docker", "skopeo"],
)
def test_two_gibibytes(
    lab: Lab, name: str, layers: int, directory: Path, registry_emptied: None, seed: int
) -> None:
    pusher, image = lab.pusher(name), f"{LOCAL}/team/large{seed}:v1"
    with lab.proxy(directory / "proxy", settings=SETTINGS) as proxy:
        before, stored = proxy.anonymous_memory(), stored_bytes(lab.local)
        packed = archive(directory, image, [SIZE // layers] * layers, seed)
        try:
            pusher.push(packed, image, ANN, timeout_s=PUSH_S)
        finally:
            pusher.remove_all()
        assert stored_bytes(lab.local) - stored > SIZE
        assert proxy.anonymous_memory() - before < GROWTH
