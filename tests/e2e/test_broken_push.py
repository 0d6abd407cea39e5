"""Pushes that break off, on either side of the proxy, and are begun again."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.clients import Pusher
from tests.e2e.lab import ANN, GUARDED, LOCAL, PUSHER_NAMES, Lab, local_registry
from tests.e2e.pushes import archive
from tests.e2e.upstreams import uploaded_bytes
from tests.support.processes import Program
from tests.support.proxy import ProxyProcess

SIZES = (80_000_000,)
UNDER_WAY = 4_000_000  # bytes that have come to the upstream
SETTINGS = {
    "registries": {GUARDED: {"push": "allow"}},
    "local_registries": local_registry(username=ANN.user, password=ANN.password),
}


@pytest.fixture
def proxy(lab: Lab, tmp_path: Path) -> Iterator[ProxyProcess]:
    with lab.proxy(tmp_path / "proxy", settings=SETTINGS) as proxy:
        yield proxy


@pytest.fixture(params=PUSHER_NAMES)
def pusher(request: pytest.FixtureRequest, lab: Lab) -> Iterator[Pusher]:
    pusher = lab.pusher(request.param)
    yield pusher
    pusher.remove_all()


def _wait_under_way(lab: Lab, host: str, push: Program) -> None:
    registry = lab.guarded if host == GUARDED else lab.local
    before = uploaded_bytes(registry)
    push.wait_ready(lambda: uploaded_bytes(registry) > before + UNDER_WAY, 30)


def test_client_that_is_killed(
    lab: Lab, proxy: ProxyProcess, pusher: Pusher, tmp_path: Path, seed: int
) -> None:
    name = f"{GUARDED}/secret/killed{seed}:v1"
    image = archive(tmp_path, name, SIZES, seed)
    with lab.logged_in(pusher, GUARDED, ANN):
        push = pusher.start_push(image, name, ANN)
        _wait_under_way(lab, GUARDED, push)
        push.kill()
        pushed = pusher.push(image, name, ANN)
    pusher.remove_all()
    assert pusher.pull(name, ANN) == pushed


@pytest.mark.parametrize("pusher", ["docker", "skopeo"], indirect=True)
def test_proxy_that_is_killed(
    lab: Lab, proxy: ProxyProcess, pusher: Pusher, tmp_path: Path, seed: int
) -> None:
    name = f"{LOCAL}/team/killed{seed}:v1"
    image = archive(tmp_path, name, SIZES, seed)
    with lab.logged_in(pusher, LOCAL, ANN):
        push = pusher.start_push(image, name, ANN)
        _wait_under_way(lab, LOCAL, push)
        proxy.kill9()
        push.kill()
        proxy.start()
        pushed = pusher.push(image, name, ANN)
        pusher.remove_all()
        assert pusher.pull(name, ANN) == pushed
    _scrub(proxy)


def _scrub(proxy: ProxyProcess) -> None:
    """Fails where anything in the store is not what its digest says."""
    command = [sys.executable, "-m", "entrepot", "cache", "scrub", "--json"]
    done = subprocess.run(
        [*command, "--data", str(proxy.data)], capture_output=True, text=True, check=True
    )
    said = json.loads(done.stdout)
    assert said["checked"] > 1
    assert said["corrupt"] == []
