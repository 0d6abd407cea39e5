"""Every file that operators copy loads, and the documentation names what the code knows."""

import re
from pathlib import Path

import pytest

from entrepot.config import environment, private_registry, rpardini
from entrepot.config.load import load_config
from entrepot.config.model import Config

_ROOT = Path(__file__).resolve().parents[2]
_FILES = sorted(
    path
    for path in (_ROOT / "config").rglob("*.yaml")
    if path.parent == _ROOT / "config" or path.parent.name == "examples"
)
_KEPT_ELSEWHERE = re.compile(r"(?:/run/secrets|/etc/entrepot)/[\w./-]+(?<!\.yaml)$", re.MULTILINE)


def load_example(path: Path, directory: Path) -> Config:
    """Loads a copy in which the files of secrets and certificates are there."""

    def made(match: re.Match[str]) -> str:
        file = directory / match[0].lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("made for a test")
        return str(file)

    copy = directory / path.name
    copy.write_text(_KEPT_ELSEWHERE.sub(made, path.read_text()))
    loaded = load_config(copy, {}, {})
    assert loaded.warnings == ()
    return loaded.config


@pytest.mark.parametrize("path", _FILES, ids=lambda path: path.name)
def test_every_shipped_file_loads(path: Path, tmp_path: Path) -> None:
    assert "docker.io" in load_example(path, tmp_path).registries


def example(name: str, tmp_path: Path) -> Config:
    return load_example(_ROOT / "config" / "examples" / name, tmp_path)


def test_the_fleet_uses_an_account(tmp_path: Path) -> None:
    hub = example("ci.yaml", tmp_path).registries["docker.io"]
    assert hub.username
    assert hub.password_file


def test_behind_a_firewall_everything_takes_the_parent_proxy(tmp_path: Path) -> None:
    config = example("airgap.yaml", tmp_path)
    assert config.upstream.proxy
    assert config.tunnel.policy == "deny"
    assert config.ca.certificate
    assert config.registries["harbor.corp.example"].proxy == "none"


def test_the_clouds_use_helpers_and_commands(tmp_path: Path) -> None:
    registries = example("aws-gcp-azure.yaml", tmp_path).registries.values()
    assert any(registry.helper for registry in registries)
    assert any(registry.exec for registry in registries)


def test_the_lab_has_a_registry_of_its_own(tmp_path: Path) -> None:
    config = example("private-registry.yaml", tmp_path)
    local = config.local_registries[config.hostname]
    assert local.htpasswd
    assert local.access[-1].match == "*"
    assert local.retention
    assert local.gc.schedule
    assert config.registry_listen == "*:443"


def test_rules_let_through_what_is_on_the_list(tmp_path: Path) -> None:
    config = example("repository-rules.yaml", tmp_path)
    assert config.clients.htpasswd
    assert config.registries["docker.io"].rules[-1].pull == "deny"
    assert config.registries["ghcr.io"].audience
    assert config.tunnel.policy == "deny"


# ---- documentation -------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(rpardini.KNOWN | environment.PROXY_VARIABLES))
def test_every_variable_is_in_the_migration_table(name: str) -> None:
    text = (_ROOT / "docs" / "migrating-from-rpardini.md").read_text()
    first_columns = [line.split("|")[1] for line in text.splitlines() if line.startswith("|")]
    assert any(f"`{name}`" in column for column in first_columns)


@pytest.mark.parametrize(
    "name", sorted(private_registry.KNOWN | {environment.REGISTRY_LISTEN, "SECRET", "SECRET_FILE"})
)
def test_every_variable_of_a_private_registry_is_explained(name: str) -> None:
    text = (_ROOT / "docs" / "configuration.md").read_text()
    assert re.search(rf"^\| `{name}` \|", text, re.MULTILINE)


@pytest.mark.parametrize("page", ["migrating-from-rpardini.md", "configuration.md"])
def test_settings_and_variables_that_pages_name_exist(page: str) -> None:
    text = (_ROOT / "docs" / page).read_text()
    settings = {".".join(path) for path in environment.variable_names().values()}
    sections = {setting.split(".")[0] for setting in settings if "." in setting}
    for section, key in re.findall(r"`(\w+)\.(\w+)(?:: \w+)?`", text):
        if section in sections and key != "rules":
            assert f"{section}.{key}" in settings
    known = {*environment.variable_names(), environment.CONFIG_VARIABLE}
    for name in re.findall(r"\bENTREPOT_[A-Z_]*[A-Z]\b", text):
        assert name in known
