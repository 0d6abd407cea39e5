"""Private images: the operator's credentials open them to all, the clients' own to who has them."""

from pathlib import Path

import pytest

from tests.e2e.clients import Client, ClientError
from tests.e2e.lab import ANN, PRIVATE, Lab
from tests.support.images import Manifest, build_image
from tests.support.registry import ScriptedRegistry

LAYERS = (200_000, 400_000)


@pytest.fixture
def image(seed: int) -> Manifest:
    return build_image(LAYERS, seed=seed)


@pytest.fixture
def name(lab: Lab, image: Manifest, seed: int) -> str:
    lab.private.push("team/app", str(seed), image)
    return f"{PRIVATE}/team/app:{seed}"


def _fetched(lab: Lab, image: Manifest) -> int:
    """How often the upstream was asked for the image's blobs; it logs each request twice."""
    lines = lab.private.log.splitlines()
    return sum(f'"GET /v2/team/app/blobs/{d} ' in line for line in lines for d in image.all_blobs())


def test_operators_credentials(
    lab: Lab, image: Manifest, name: str, client: Client, tmp_path: Path
) -> None:
    operators = {"username": ANN.user, "password": ANN.password}
    with lab.proxy(tmp_path, settings={"registries": {PRIVATE: operators}}) as proxy:
        for _ in range(2):
            assert client.pull(name) == image.digest
            client.remove_all()
        assert ANN.password not in proxy.log_tail()
    assert _fetched(lab, image) == len(image.all_blobs())


def test_clients_own_credentials(
    lab: Lab, image: Manifest, name: str, client: Client, tmp_path: Path
) -> None:
    with lab.proxy(tmp_path, settings={"registries": {PRIVATE: {}}}):
        with pytest.raises(ClientError):
            client.pull(name)
        assert client.pull(name, ANN) == image.digest
        client.remove_all()
        with pytest.raises(ClientError):
            client.pull(name)  # cached, and still not for everyone
        assert client.pull(name, ANN) == image.digest
    assert _fetched(lab, image) == len(image.all_blobs())


def test_unknown_images_are_said_to_be_unknown(
    lab: Lab, hub: ScriptedRegistry, client: Client, tmp_path: Path
) -> None:
    with lab.proxy(tmp_path), pytest.raises(ClientError, match=r"(?i)unknown|not found|denied"):
        client.pull("docker.io/library/no-such-image:1")
