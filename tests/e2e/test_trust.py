"""Who does not trust the proxy's CA gets nothing, and is told why."""

from pathlib import Path

import pytest

from tests.e2e.clients import Client, ClientError
from tests.e2e.lab import Lab
from tests.support.registry import ScriptedRegistry


def test_a_ca_that_the_client_does_not_trust(
    lab: Lab, hub: ScriptedRegistry, client: Client, tmp_path: Path, seed: int
) -> None:
    hub.add_image("library/alpine", "latest", seed=seed)
    with (
        lab.proxy(tmp_path / "proxy", ca=tmp_path / "other-ca"),
        pytest.raises(ClientError, match="x509: certificate signed by unknown authority"),
    ):
        client.pull("docker.io/library/alpine:latest")
    assert hub.blob_bytes == 0
