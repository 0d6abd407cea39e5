"""Private images: the operator's credentials open them to all, the clients' own to who has them."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.clients import Client, ClientError, Credentials, forms
from tests.e2e.curl import Curl
from tests.e2e.lab import ANN, BOB, GUARDED, HUB, PRIVATE, Lab
from tests.support.faults import Hold
from tests.support.images import Manifest, build_image
from tests.support.proxy import ProxyProcess
from tests.support.registry import ScriptedRegistry

LAYERS = (200_000, 400_000)
VERDICT_TTL_S = 2
REFUSAL = r"(?i)denied|unauthorized|authorization failed|not found"
# What follows from the identity alone is looked at by one client of each make.
MAKES = pytest.mark.parametrize("client", ["docker", "ctr", "podman"], indirect=True)


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


@pytest.fixture
def secret(lab: Lab, image: Manifest, seed: int) -> str:
    """Only ann may read it upstream."""
    lab.guarded.push(f"secret/app{seed}", "v1", image)
    return f"{GUARDED}/secret/app{seed}:v1"


@pytest.fixture(scope="class")
def operators(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxyProcess]:
    """With ann's credentials, given in the way that users of other proxies know."""
    environment = {
        "AUTH_REGISTRIES": f"{GUARDED}:{ANN.user}:{ANN.password}",
        "AUTH_REGISTRIES_DELIMITER": ";;",
    }
    settings: dict[str, Any] = {"registries": {GUARDED: {}}}
    directory = tmp_path_factory.mktemp("operator")
    with lab.proxy(directory, settings=settings, environment=environment) as proxy:
        yield proxy


class TestOperator:
    def test_opens_it_to_who_has_no_credentials(
        self, operators: ProxyProcess, secret: str, image: Manifest, client: Client
    ) -> None:
        assert client.pull(secret) == image.digest

    def test_does_not_serve_who_has_others(
        self, operators: ProxyProcess, secret: str, image: Manifest, client: Client
    ) -> None:
        client.pull(secret)
        client.remove_all()
        with pytest.raises(ClientError):
            client.pull(secret, BOB)

    def test_is_never_seen(
        self, lab: Lab, operators: ProxyProcess, secret: str, image: Manifest, tmp_path: Path
    ) -> None:
        repository = secret.partition("/")[2].partition(":")[0]
        issued = len(lab.tokens.issued)
        curl = Curl(lab, GUARDED, tmp_path)
        for path in (
            "/v2/",
            f"/v2/{repository}/tags/list",
            "/v2/_catalog",
            "/v2/secret/none/tags/list",
        ):
            curl.ask(path)
        proof = curl.bearer(repository, None)
        paths = (
            f"/v2/{repository}/manifests/v1",
            f"/v2/{repository}/manifests/{image.digest}",
            *(f"/v2/{repository}/blobs/{digest}" for digest in image.all_blobs()),
            f"/v2/{repository}/tags/list",
        )
        assert [curl.ask(path, *proof).status for path in paths] == [200] * len(paths)
        curl.ask("/v2/secret/none/manifests/v1", *proof)
        given = lab.tokens.issued[issued:]
        assert given
        heard = b"".join(said.head.encode() + said.body for said in curl.heard)
        for hidden in (*given, *forms(ANN)):
            assert hidden.encode() not in heard


@MAKES
def test_rights_that_are_revoked(
    lab: Lab, image: Manifest, client: Client, tmp_path: Path, seed: int
) -> None:
    repository = f"lent/app{seed}"
    name = f"{GUARDED}/{repository}:v1"
    lab.guarded.push(repository, "v1", image)
    lab.tokens.grant(ANN.user, repository, "pull")
    settings = {"registries": {GUARDED: {}}, "auth": {"verdict_ttl": VERDICT_TTL_S}}
    with lab.proxy(tmp_path, settings=settings):
        assert client.pull(name, ANN) == image.digest
        lab.tokens.revoke(ANN.user, repository)
        revoked = time.monotonic()
        with pytest.raises(ClientError, match=REFUSAL):
            _pull_until_refused(client, name, revoked + VERDICT_TTL_S)


def _pull_until_refused(client: Client, name: str, allowed_until: float) -> None:
    for _ in range(100):
        client.remove_all()
        begun = time.monotonic()
        client.pull(name, ANN)
        assert begun < allowed_until, "let in for too long"


@MAKES
def test_registry_and_token_server_are_down(
    lab: Lab, secret: str, image: Manifest, client: Client, tmp_path: Path
) -> None:
    settings = {"registries": {GUARDED: {}}, "tags": {"ttl": 0}, "auth": {"verdict_ttl": 0}}
    with lab.proxy(tmp_path, settings=settings), lab.logged_in(client, GUARDED, ANN):
        client.pull(secret, ANN)
        client.remove_all()
        lab.guarded.stop()
        lab.tokens.stop()
        try:
            with pytest.raises(ClientError):
                client.pull(secret, BOB)
            assert client.pull(secret, ANN) == image.digest
        finally:
            lab.tokens.start()
            lab.guarded.start()


@MAKES
def test_while_a_slow_pull_runs(lab: Lab, client: Client, seed: int, tmp_path: Path) -> None:
    users = {each.user: each.password for each in (ANN, BOB)}
    with lab.hub(users) as hub, lab.proxy(tmp_path), ThreadPoolExecutor() as pool:
        image = hub.add_image("secret/app", "v1", LAYERS, seed=seed)
        hub.make_private("secret/app", ANN.user)
        gate = hub.gate()
        hub.fault(Hold(after=LAYERS[0] // 2, gate=gate), path="/signed/*")
        pull = pool.submit(client.pull, "docker.io/secret/app:v1", ANN)
        try:
            hub.log.wait_until(lambda: pull.done() or hub.blob_bytes >= LAYERS[0] // 2)
            assert not pull.done(), pull.result()
            for who in (BOB, None):
                with pytest.raises(ClientError):
                    lab.client("skopeo").pull("docker.io/secret/app:v1", who)
                _gets_nothing_by_hand(Curl(lab, HUB, tmp_path), image, who)
        finally:
            gate.open()
        assert pull.result() == image.digest


def _gets_nothing_by_hand(curl: Curl, image: Manifest, who: Credentials | None) -> None:
    proof = curl.bearer("secret/app", who)
    for digest in image.all_blobs():
        for part in ((), ("--range", "0-99"), ("--head",)):
            said = curl.ask(f"/v2/secret/app/blobs/{digest}", *part, *proof)
            assert said.status in {401, 403, 404}
