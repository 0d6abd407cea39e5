"""Pushes through the proxy: to upstreams with the client's own rights, to a registry of one's own,
and refused where nobody has allowed them.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.clients import Client, ClientError, Pusher
from tests.e2e.containerd_client import Ctr
from tests.e2e.lab import (
    ANN,
    BOB,
    GUARDED,
    LOCAL,
    PRIVATE,
    PUSHER_NAMES,
    TUNNELLED,
    Lab,
    local_registry,
)
from tests.e2e.pushes import archive, htpasswd
from tests.e2e.upstreams import blob_gets, writes
from tests.support.distribution import Distribution

SIZES = (300_000, 500_000)
FROZEN = "open/frozen*"
MESSAGE = "no images from here until the release"
UPSTREAMS = {
    GUARDED: {
        "rules": [
            {"match": FROZEN, "push": "deny", "message": MESSAGE},
            {"match": "open/*", "push": "allow"},
            {"match": "secret/*", "push": "allow"},
        ]
    },
    PRIVATE: {"push": "allow"},
    TUNNELLED: {},
}
ACCESS = [
    {"match": "team/*", "users": [ANN.user], "allow": ["pull", "push", "delete"]},
    {"match": "team/*", "users": ["*"], "allow": ["pull"]},
]


@pytest.fixture(scope="module", autouse=True)
def _proxy(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    directory = tmp_path_factory.mktemp("pushes")
    users = htpasswd(directory / "users", ANN, BOB)
    settings = {
        "registries": UPSTREAMS,
        "local_registries": local_registry(htpasswd=str(users), access=ACCESS),
    }
    with lab.proxy(directory, settings=settings):
        yield


@pytest.fixture(params=PUSHER_NAMES)
def pusher(request: pytest.FixtureRequest, lab: Lab) -> Iterator[Pusher]:
    pusher = lab.pusher(request.param)
    yield pusher
    pusher.remove_all()


@pytest.fixture
def other(lab: Lab, pusher: Pusher) -> Iterator[Client]:
    """Another kind of client than the one that pushes."""
    skopeo = lab.client("skopeo")
    other = lab.client("podman") if pusher is skopeo else skopeo
    yield other
    other.remove_all()


def _upstream(lab: Lab, host: str) -> Distribution:
    return {GUARDED: lab.guarded, PRIVATE: lab.private, LOCAL: lab.local}[host]


def _said(pusher: Pusher, reason: str, status: str) -> str:
    """No more than the status is what ctr tells its user."""
    return status if isinstance(pusher, Ctr) else reason


@pytest.mark.parametrize(
    ("host", "folder"), [(GUARDED, "secret"), (PRIVATE, "team"), (LOCAL, "team")]
)
def test_what_is_pushed_is_there_for_others(
    lab: Lab, pusher: Pusher, other: Client, host: str, folder: str, tmp_path: Path, seed: int
) -> None:
    repository = f"{folder}/pushed{seed}"
    name = f"{host}/{repository}:v1"
    first = pusher.push(archive(tmp_path, name, SIZES, seed), name, ANN)
    assert other.pull(name, ANN) == first
    other.remove_all()
    second = pusher.push(archive(tmp_path, name, SIZES, seed + 1_000_000), name, ANN)
    assert second != first
    assert other.pull(name, ANN) == second
    # What was pushed has passed the proxy: nothing of it is fetched.
    assert blob_gets(_upstream(lab, host), repository) == 0


@pytest.mark.parametrize(("host", "folder"), [(GUARDED, "secret"), (LOCAL, "team")])
def test_layers_that_another_repository_has(
    pusher: Pusher, other: Client, host: str, folder: str, tmp_path: Path, seed: int
) -> None:
    """Docker and podman have them mounted."""
    for repository in (f"{folder}/from{seed}", f"{folder}/to{seed}"):
        name = f"{host}/{repository}:v1"
        pushed = pusher.push(archive(tmp_path, name, SIZES, seed), name, ANN)
        assert other.pull(name, ANN) == pushed
        other.remove_all()


def test_nothing_is_pushed_where_nobody_has_allowed_it(
    pusher: Pusher, tmp_path: Path, seed: int
) -> None:
    name = f"{TUNNELLED}/team/pushed{seed}:v1"
    reason = f"pushing to {TUNNELLED} through this proxy is not allowed"
    with pytest.raises(ClientError, match=_said(pusher, reason, "405 Method Not Allowed")):
        pusher.push(archive(tmp_path, name, SIZES, seed), name)


def test_a_rule_that_refuses_is_heard(pusher: Pusher, tmp_path: Path, seed: int) -> None:
    name = f"{GUARDED}/open/frozen{seed}:v1"
    with pytest.raises(ClientError, match=_said(pusher, MESSAGE, "403 Forbidden")):
        pusher.push(archive(tmp_path, name, SIZES, seed), name, ANN)


@pytest.mark.parametrize(
    ("host", "folder"), [(GUARDED, "secret"), (LOCAL, "team")], ids=["upstream", "local"]
)
def test_others_may_not_push(
    lab: Lab, pusher: Pusher, host: str, folder: str, tmp_path: Path, seed: int
) -> None:
    """It is for ann alone: upstream by the upstream's word, to the local registry by ours."""
    repository = f"{folder}/pushed{seed}"
    name = f"{host}/{repository}:v1"
    image = archive(tmp_path, name, SIZES, seed)
    for who in (BOB, None):
        with pytest.raises(ClientError, match=r"(?i)denied|unauthorized|authorization|forbidden"):
            pusher.push(image, name, who)
    assert writes(_upstream(lab, host), repository) == []
