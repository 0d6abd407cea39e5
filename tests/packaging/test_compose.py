"""The compose files against what Compose makes of them, and against the Dockerfile."""

import os
import shutil
import subprocess
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


# ---- with a private registry ---------------------------------------------------------------


@pytest.fixture
def composed(repository_root: Path, tmp_path: Path) -> dict[str, Any]:
    """Both files as Compose puts them together. Debian's is of before the specification, whose
    `name` it does not know.
    """
    if shutil.which("docker-compose") is None:
        pytest.skip("docker-compose is not installed")
    files: list[str | Path] = []
    for name in ("docker-compose.yml", "docker-compose.registry.yml"):
        text = (repository_root / name).read_text().replace("name: entrepot\n", "")
        (tmp_path / name).write_text(text)
        files += ["--file", tmp_path / name]
    settings = (repository_root / ".env.example").read_text()
    assert "\nREGISTRY_PASSWORD=\n" in settings
    (tmp_path / ".env").write_text(settings.replace("PASSWORD=", "PASSWORD=not-a-secret", 1))
    done = subprocess.run(
        ["docker-compose", "--project-directory", tmp_path, *files, "config"],
        capture_output=True,
        check=True,
        text=True,
        env={"PATH": os.environ["PATH"]},
    )
    loaded = yaml.safe_load(done.stdout)
    assert isinstance(loaded, dict)
    return loaded


def test_the_proxy_knows_its_registry(composed: dict[str, Any]) -> None:
    proxy, registry = composed["services"]["proxy"], composed["services"]["registry"]
    assert proxy["environment"]["PRIVATE_REGISTRY"] == "http://registry:5000"
    assert proxy["environment"]["PASSWORD"] == "not-a-secret"
    published = {(port["published"], port["target"]) for port in proxy["ports"]}
    assert published == {(3128, 3128), (443, 8443)}
    assert proxy["environment"]["REGISTRY_LISTEN"] == "*:8443"
    assert "ports" not in registry  # nobody but the proxy reaches it


def test_both_work_on_one_storage_as_one_user(
    composed: dict[str, Any], repository_root: Path
) -> None:
    instructions = parse(repository_root / "Dockerfile")
    user = [each.rest for each in instructions if each.word == "USER"][-1]
    assert composed["services"]["registry"]["user"] == user
    root = yaml.safe_load((repository_root / "config/registry.yml").read_text())
    directory = root["storage"]["filesystem"]["rootdirectory"]
    for service in composed["services"].values():
        assert any(_target(mount) == directory for mount in service["volumes"])


def _target(mount: dict[str, Any] | str) -> str:
    return mount.split(":")[1] if isinstance(mount, str) else str(mount["target"])


def test_the_settings_of_the_proxy_are_right(composed: dict[str, Any], tmp_path: Path) -> None:
    from entrepot.config.load import load_config  # noqa: PLC0415 - only this test needs it

    environ = composed["services"]["proxy"]["environment"]
    config = load_config(None, environ, {"data": str(tmp_path)}, serves=False).config
    (local,) = config.local_registries.values()
    assert local.upstream == ("http://registry:5000",)
    assert local.username == "admin"
    assert local.read_only is False


def test_without_a_password_it_does_not_start(repository_root: Path) -> None:
    text = (repository_root / "docker-compose.registry.yml").read_text()
    assert "${REGISTRY_PASSWORD:?" in text


def test_distribution_as_the_proxy_needs_it(repository_root: Path) -> None:
    settings = yaml.safe_load((repository_root / "config/registry.yml").read_text())
    assert settings["storage"]["delete"]["enabled"] is True
    assert "cache" not in settings["storage"]
    assert "auth" not in settings
