"""docker-compose.yml against what `docker compose config` asks for, and against the Dockerfile."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.packaging.dockerfile import parse

# Of the Compose specification, what a service of ours may use.
_SERVICE_KEYS = {
    "build", "cap_drop", "environment", "healthcheck", "image", "logging", "ports", "read_only",
    "restart", "security_opt", "stop_grace_period", "tmpfs", "ulimits", "volumes",
}  # fmt: skip


@pytest.fixture
def compose(repository_root: Path) -> dict[str, Any]:
    loaded = yaml.safe_load((repository_root / "docker-compose.yml").read_text())
    assert isinstance(loaded, dict)
    return loaded


@pytest.fixture
def proxy(compose: dict[str, Any]) -> dict[str, Any]:
    (service,) = compose["services"].values()
    assert isinstance(service, dict)
    return service


def test_only_keys_that_compose_knows(compose: dict[str, Any], proxy: dict[str, Any]) -> None:
    assert set(compose) == {"name", "services", "volumes"}
    assert set(proxy) <= _SERVICE_KEYS
    known = {"test", "interval", "timeout", "start_period", "retries"}
    assert set(proxy["healthcheck"]) <= known


def test_values_are_text_where_compose_wants_text(proxy: dict[str, Any]) -> None:
    assert all(isinstance(value, str) for value in proxy["environment"].values())
    assert all(isinstance(value, str) for value in proxy["logging"]["options"].values())
    assert proxy["ports"] == ["3128:3128"]


def test_volumes(compose: dict[str, Any], proxy: dict[str, Any]) -> None:
    mounts = dict(volume.split(":") for volume in proxy["volumes"])
    assert set(mounts) == set(compose["volumes"])
    assert set(mounts.values()) == {"/var/lib/entrepot", "/ca"}


def test_it_may_do_little(proxy: dict[str, Any]) -> None:
    assert proxy["read_only"] is True
    assert proxy["tmpfs"]
    assert proxy["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in proxy["security_opt"]
    assert proxy["restart"] == "unless-stopped"


def test_one_health_check(proxy: dict[str, Any], repository_root: Path) -> None:
    instructions = parse(repository_root / "Dockerfile")
    (check,) = (each for each in instructions if each.word == "HEALTHCHECK")
    assert proxy["healthcheck"]["test"] == ["CMD", *check.exec_form]
    for name in ("interval", "timeout", "retries"):
        assert str(proxy["healthcheck"][name]) == check.flags[name]


def test_variables_in_comments_are_real(repository_root: Path) -> None:
    from entrepot.config.environment import variable_names  # noqa: PLC0415 - only this test needs it

    lines = (repository_root / "docker-compose.yml").read_text().splitlines()
    named = {line.split()[1].rstrip(":") for line in lines if "# ENTREPOT_" in line}
    assert named
    assert named <= set(variable_names())
