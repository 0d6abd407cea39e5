"""A local registry for clients that use no proxy: its own port, trusted by certs.d alone."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.clients import ClientError, Credentials, Pusher
from tests.e2e.lab import ANN, DIRECT, LOCAL, PUSHER_NAMES, WITH_LOGIN, Lab, local_registry
from tests.e2e.pushes import archive
from tests.e2e.upstreams import blob_gets, writes

SIZES = (300_000, 500_000)


@pytest.fixture(scope="module", autouse=True)
def _proxy(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    settings = {
        "registry_listen": DIRECT,
        "local_registries": local_registry(username=ANN.user, password=ANN.password),
    }
    with lab.proxy(tmp_path_factory.mktemp("listener"), settings=settings):
        yield


@pytest.fixture(params=PUSHER_NAMES)
def pusher(request: pytest.FixtureRequest, lab: Lab) -> Iterator[Pusher]:
    pusher = lab.pusher(request.param, is_direct=True)
    yield pusher
    pusher.remove_all()


def test_push_and_pull(lab: Lab, pusher: Pusher, tmp_path: Path, seed: int) -> None:
    repository = f"team/direct{seed}"
    name = f"{LOCAL}/{repository}:v1"
    pushed = pusher.push(archive(tmp_path, name, SIZES, seed), name, ANN)
    pusher.remove_all()
    assert pusher.pull(name, ANN) == pushed
    # The same registry for those that use the proxy.
    assert lab.client("skopeo").pull(name, ANN) == pushed
    assert blob_gets(lab.local, repository) == 0


def test_who_has_no_password(lab: Lab, pusher: Pusher, tmp_path: Path, seed: int) -> None:
    repository = f"team/direct{seed}"
    name = f"{LOCAL}/{repository}:v1"
    image = archive(tmp_path, name, SIZES, seed)
    with pytest.raises(ClientError, match=r"(?i)unauthorized|authorization|denied"):
        pusher.push(image, name)
    assert writes(lab.local, repository) == []


@pytest.mark.parametrize("name", WITH_LOGIN)
def test_login(lab: Lab, name: str) -> None:
    client = lab.with_login(name, is_direct=True)
    wrong = Credentials(ANN.user, "incorrect pony")
    with pytest.raises(ClientError, match=r"(?i)unauthorized|invalid username/password"):
        client.login(LOCAL, wrong)
    assert "Login Succeeded" in client.login(LOCAL, ANN)
    client.logout(LOCAL, ANN)
