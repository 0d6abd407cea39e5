"""The file for operators: it loads as what it was made from, commented or not."""

import dataclasses
import re
from pathlib import Path

import pytest
from hypothesis import given

from entrepot.config.build import hints
from entrepot.config.kinds import DAY, Seconds
from entrepot.config.load import load_config
from entrepot.config.local import AccessRule, LocalRegistry, RetentionRule
from entrepot.config.model import Auth, Config, Registry, RepositoryRule, TagRule, Tags
from entrepot.config.template import render_documented, shipped
from tests.config.configurations import CONFIGS, load_text
from tests.config.loading import Loading


@given(config=CONFIGS)
def test_what_is_documented_loads_as_the_same(
    tmp_path_factory: pytest.TempPathFactory, config: Config
) -> None:
    public = _without_secrets(config)
    assert load_text(tmp_path_factory.mktemp("round"), render_documented(public)) == public


def _without_secrets(config: Config) -> Config:
    public = {
        name: dataclasses.replace(registry, username="", password=None, proxy="")
        for name, registry in config.registries.items()
    }
    local = {
        name: dataclasses.replace(
            own,
            username="",
            password=None,
            anonymous=("pull",),
            access=() if own.username else own.access,
        )
        for name, own in config.local_registries.items()
    }
    return dataclasses.replace(
        config,
        registries=public,
        local_registries=local,
        auth=Auth(),
        upstream=dataclasses.replace(config.upstream, proxy=""),
    )


# ---- the shipped file ----------------------------------------------------------------------


@pytest.fixture
def shipped_file(repository_root: Path) -> Path:
    return repository_root / "config" / "entrepot.yaml"


def test_the_shipped_file_follows_the_model(shipped_file: Path) -> None:
    assert shipped_file.read_text() == render_documented(shipped()), (
        "write it anew: entrepot config template > config/entrepot.yaml"
    )


def test_the_shipped_file_is_the_defaults_and_the_public_registries(shipped_file: Path) -> None:
    config = load_config(shipped_file, {}, {}).config
    assert config == shipped()
    assert dataclasses.replace(config, registries=Config().registries) == Config()
    assert {"docker.io", "ghcr.io", "quay.io", "*.pkg.dev"} <= set(config.registries)


def test_its_comments_are_settings(shipped_file: Path, loading: Loading) -> None:
    """With each # before a setting taken away, the file says the same: defaults and examples."""
    users = loading.path.parent / "users"
    users.touch()
    lines = map(_live, shipped_file.read_text().splitlines())
    config = loading.config(
        "\n".join(lines).replace("/etc/entrepot/users.htpasswd", str(users)) + "\n"
    )
    assert config.registries.pop("registry.example.com:5000") == Registry(
        rules=(RepositoryRule(match="team/*", push="allow", message="Ask the team."),)
    )
    assert config.local_registries.pop("docker-registry.local") == LocalRegistry(
        upstream=("http://registry:5000",),
        htpasswd=users,
        access=(AccessRule(match="team/*", users=("ann", "bob"), allow=("pull", "push")),),
        retention=(
            RetentionRule(
                match="ci/*",
                keep_last=10,
                keep_for=Seconds(30 * DAY),
                keep_tags=("latest", "v*"),
            ),
        ),
    )
    assert config.tags.rules == (TagRule(match="quay.io/team/*:v*", immutable=True),)
    assert dataclasses.replace(config, tags=Tags()) == shipped()


_EXAMPLES = r"registry\.example\.com:5000|docker-registry\.local"
_SETTING = re.compile(rf"(?:- )?(?:[a-z_]+|{_EXAMPLES}):(?: |$)|- \S")


def _live(line: str) -> str:
    marks, text = re.findall(r"^([ #]*)(.*)$", line)[0]
    return marks.replace("# ", "") + text if _SETTING.match(text) else line


def keys(kind: type) -> list[tuple[str, str]]:
    found = []
    for field in dataclasses.fields(kind):
        found.append((field.name, field.metadata["doc"]))
        inner = hints(kind)[field.name].kind
        if isinstance(inner, type) and dataclasses.is_dataclass(inner):
            found += keys(inner)
    return found


_KINDS = (Config, Registry, LocalRegistry, TagRule, RepositoryRule, AccessRule, RetentionRule)


@pytest.mark.parametrize(("key", "doc"), [pair for kind in _KINDS for pair in keys(kind)])
def test_every_setting_is_in_the_shipped_file(shipped_file: Path, key: str, doc: str) -> None:
    text = shipped_file.read_text()
    assert re.search(rf"^[ #-]*{key}:", text, re.MULTILINE)
    assert " ".join(doc.split()) in " ".join(
        re.sub(r"^[ #]+", "", text, flags=re.MULTILINE).split()
    )


def test_no_line_is_long(shipped_file: Path) -> None:
    assert max(len(line) for line in shipped_file.read_text().splitlines()) <= 100
