"""What was pulled once can be pulled while the upstream is gone, from /v2/ to the last layer."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.clients import Client
from tests.e2e.lab import Lab
from tests.support.images import Manifest
from tests.support.proxy import ProxyProcess
from tests.support.registry import ScriptedRegistry

ALPINE = "docker.io/library/alpine:latest"
# Nothing is believed without asking: it is the outage that makes it stale, not the clock fresh.
NEVER_FRESH = {"tags": {"ttl": 0}, "auth": {"verdict_ttl": 0}}
IMPATIENT = {"upstream": {"revalidate_timeout": 2}}


@pytest.fixture
def index(hub: ScriptedRegistry, seed: int) -> Manifest:
    return hub.add_image(
        "library/alpine", "latest", (300_000, 900_000), seed=seed, platforms=("linux/amd64",)
    )


def _leave_running(proxy: ProxyProcess) -> None:
    assert proxy.pid


def _restart(proxy: ProxyProcess) -> None:
    assert proxy.terminate() == 0
    proxy.start()


def _crash(proxy: ProxyProcess) -> None:
    proxy.kill9()
    proxy.start()


@pytest.mark.parametrize("between", [_leave_running, _restart, _crash])
def test_upstream_dead(
    lab: Lab,
    hub: ScriptedRegistry,
    index: Manifest,
    client: Client,
    tmp_path: Path,
    between: Callable[[ProxyProcess], None],
) -> None:
    with lab.proxy(tmp_path, settings=NEVER_FRESH) as proxy:
        digest = client.pull(ALPINE)
        assert digest in {each.digest for each in index.all_manifests()}
        client.remove_all()
        hub.die()
        between(proxy)
        assert client.pull(ALPINE) == digest


def test_upstream_that_says_nothing(
    lab: Lab, hub: ScriptedRegistry, index: Manifest, client: Client, tmp_path: Path
) -> None:
    with lab.proxy(tmp_path, settings=NEVER_FRESH | IMPATIENT):
        digest = client.pull(ALPINE)
        client.remove_all()
        hub.black_hole()
        assert client.pull(ALPINE) == digest


def test_what_another_kind_of_client_has_pulled(
    lab: Lab, hub: ScriptedRegistry, index: Manifest, client: Client, tmp_path: Path
) -> None:
    """Clients accept different types; what one has cached is there for all that accept it."""
    first = lab.client("skopeo")
    with lab.proxy(tmp_path, settings=NEVER_FRESH) as proxy:
        first.pull(ALPINE)
        first.remove_all()
        hub.die()
        _restart(proxy)
        assert client.pull(ALPINE) in {each.digest for each in index.all_manifests()}
