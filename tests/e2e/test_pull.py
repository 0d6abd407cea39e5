"""What is pulled: images, indexes, artifacts and builds, first from the upstream, then not."""

from pathlib import Path

import pytest

from tests.e2e.clients import Client
from tests.e2e.containerd_client import Ctr
from tests.e2e.containers_clients import Skopeo
from tests.e2e.lab import HUB, TUNNELLED, Lab
from tests.support.faults import AnswerWith, Truncate
from tests.support.images import Manifest, build_artifact, build_image
from tests.support.registry import ScriptedRegistry

ALPINE = "docker.io/library/alpine:latest"
LAYERS = (300_000, 2_000_000, 50_000)


@pytest.fixture
def alpine(hub: ScriptedRegistry, seed: int) -> Manifest:
    return hub.add_image("library/alpine", "latest", LAYERS, seed=seed)


def test_cold_then_warm(
    lab: Lab, hub: ScriptedRegistry, alpine: Manifest, client: Client, tmp_path: Path
) -> None:
    with lab.proxy(tmp_path):
        assert client.pull(ALPINE) == alpine.digest
        assert hub.blob_bytes == alpine.blob_bytes
        assert all(hub.blob_gets(digest) == 1 for digest in alpine.all_blobs())
        client.remove_all()
        hub.forget()
        assert client.pull(ALPINE) == alpine.digest
        assert hub.blob_bytes == hub.blob_gets() == hub.manifest_gets() == 0


def test_docker_schema_2(
    lab: Lab, hub: ScriptedRegistry, client: Client, tmp_path: Path, seed: int
) -> None:
    image = hub.add_image("library/alpine", "latest", LAYERS, seed=seed, schema="docker")
    with lab.proxy(tmp_path):
        assert client.pull(ALPINE) == image.digest


def test_index(lab: Lab, hub: ScriptedRegistry, client: Client, tmp_path: Path, seed: int) -> None:
    platforms = ("linux/arm64/v8", "linux/amd64")
    index = hub.add_image("library/alpine", "latest", (100_000,), seed=seed, platforms=platforms)
    arm, amd = index.children
    with lab.proxy(tmp_path):
        # Clients keep an index under its own digest, or only what they have chosen from it.
        assert client.pull(ALPINE) in {index.digest, amd.digest}
        hub.forget()
        client.remove_all()
        assert client.pull(ALPINE) in {index.digest, amd.digest}
    assert hub.blob_bytes == 0
    assert not any(hub.blob_gets(digest) for digest in arm.all_blobs())


@pytest.mark.parametrize("name", ["skopeo", "ctr"])
def test_artifact(lab: Lab, hub: ScriptedRegistry, name: str, tmp_path: Path, seed: int) -> None:
    artifact = build_artifact(
        "application/vnd.test.chart.v1",
        {"chart.tgz": bytes(100_000) + seed.to_bytes(4), "README.md": b"# Chart"},
        config_type="application/vnd.test.config.v1+json",
    )
    hub.add("charts/web", "1.0", artifact)
    client = lab.client(name)
    assert isinstance(client, Skopeo | Ctr)
    with lab.proxy(tmp_path):
        for expected in (artifact.blob_bytes, 0):
            hub.forget()
            assert client.fetch("docker.io/charts/web:1.0") == artifact.digest
            assert hub.blob_bytes == expected
            client.remove_all()


def test_build_with_buildkit(
    lab: Lab, hub: ScriptedRegistry, alpine: Manifest, tmp_path: Path
) -> None:
    docker, context = lab.docker(), tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM alpine\nCOPY Dockerfile /\n")
    with lab.proxy(tmp_path / "proxy"):
        docker.build(context, "built")
        assert hub.blob_bytes == alpine.blob_bytes
        docker.remove_all()
        hub.forget()
        docker.build(context, "built")
        assert hub.blob_bytes == 0
    docker.remove_all()


def test_upstream_that_stumbles_is_not_the_clients_trouble(
    lab: Lab, hub: ScriptedRegistry, alpine: Manifest, client: Client, tmp_path: Path
) -> None:
    # By themselves podman, skopeo and ctr fail at the first 503 and skopeo at a short body.
    hub.fault(AnswerWith(503), path="*/manifests/*", times=1)
    hub.fault(AnswerWith(503), path="/v2/*/blobs/*", times=1)
    hub.fault(Truncate(fraction=0.6), path="/signed/*", times=1)
    with lab.proxy(tmp_path):
        assert client.pull(ALPINE) == alpine.digest


def test_hosts_that_are_no_registry_are_tunnelled(
    lab: Lab, hub: ScriptedRegistry, client: Client, tmp_path: Path, seed: int
) -> None:
    image = build_image(LAYERS, seed=seed)
    lab.tunnelled.push("team/app", str(seed), image)
    with lab.proxy(tmp_path):
        assert client.pull(f"{TUNNELLED}/team/app:{seed}") == image.digest
        issuer_of_tunnelled = lab.certificate_shown(TUNNELLED)["issuer"]
        issuer_of_hub = lab.certificate_shown(HUB)["issuer"]
    assert "Upstreams' CA" in str(issuer_of_tunnelled)
    assert "Upstreams' CA" not in str(issuer_of_hub)
