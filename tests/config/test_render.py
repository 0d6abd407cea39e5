"""What is written out can be read again, and shows no secret."""

import dataclasses
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from entrepot.config.build import hints
from entrepot.config.convert import HIDDEN
from entrepot.config.kinds import FOREVER, Bytes, ProxyUrl, Seconds, Secret
from entrepot.config.load import load_config
from entrepot.config.model import (
    Auth,
    Config,
    Log,
    Registry,
    Storage,
    TagRule,
    Tags,
    Tunnel,
    Upstream,
    docker_hub,
)
from entrepot.config.render import plain, render, render_documented, shipped
from tests.config.loading import Loading

_SECONDS = st.builds(Seconds, st.floats(min_value=0, max_value=3e9) | st.just(FOREVER))
_TIMEOUTS = st.builds(Seconds, st.floats(min_value=0.001, max_value=1e6))
_SIZES = st.builds(Bytes, st.integers(min_value=1, max_value=1 << 60))
# What YAML can hold: it has no way to write most control characters or half a surrogate pair.
_TEXT = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], include_characters="\t\n"), min_size=1
).filter(lambda text: "://" not in text and "@" not in text and text != HIDDEN)
_NAMES = st.from_regex(r"[a-z]{1,8}\.(lan|dev)", fullmatch=True)


def registries() -> st.SearchStrategy[dict[str, Registry]]:
    plain_registry = st.builds(
        Registry,
        endpoints=st.lists(_NAMES.map("https://{}".format)).map(tuple),
        push=st.sampled_from(["allow", "deny"]),
        verify=st.booleans(),
        proxy=st.sampled_from(["", "none", ProxyUrl("http://u:p@proxy.lan:1")]),
        connections=st.integers(1, 10_000),
        helper=st.just("") | _TEXT,
    )
    with_password = st.builds(Registry, username=_TEXT, password=_TEXT.map(Secret))
    with_command = st.builds(Registry, exec=st.lists(_TEXT, min_size=1).map(tuple))
    names = _NAMES | _NAMES.map("*.{}".format) | _NAMES.map("{}:5000".format)
    return st.dictionaries(names, plain_registry | with_password | with_command, max_size=4).map(
        lambda some: {**some, "docker.io": docker_hub()}
    )


def rules() -> st.SearchStrategy[TagRule]:
    matches = st.sampled_from(["*", "a.io/*:v?", r"/:v\d+$/", "null", "- x", "#1"])
    return st.builds(TagRule, match=matches, ttl=st.none() | _SECONDS, immutable=st.booleans())


_CONFIGS = st.builds(
    Config,
    listen=st.sampled_from(["*:3128", "[::1]:80", "127.0.0.1:0"]),
    hostname=_NAMES,
    data=st.sampled_from([Path("/var/lib/entrepot"), Path("/a b/c: d"), Path("/null")]),
    log=st.builds(Log, level=st.sampled_from(["debug", "error"])),
    tunnel=st.builds(
        Tunnel,
        hosts=st.lists(_NAMES).map(tuple),
        ports=st.lists(st.integers(1, 65535)).map(tuple),
        connect_timeout=_TIMEOUTS,
    ),
    registries=registries(),
    tags=st.builds(
        Tags, ttl=_SECONDS, max_stale=_SECONDS, rules=st.lists(rules(), max_size=3).map(tuple)
    ),
    auth=st.builds(
        Auth, secret=st.none() | _TEXT.map(lambda text: Secret(text + "0123456789abcdef"))
    ),
    upstream=st.builds(
        Upstream,
        proxy=st.sampled_from(["", ProxyUrl("http://u:p@other.example:1")]),
        ipv6=st.booleans(),
        retries=st.integers(0, 100),
    ),
    storage=st.builds(Storage, max_size=_SIZES, inactive=_SECONDS),
)


def load_text(directory: Path, text: str) -> Config:
    path = directory / "entrepot.yaml"
    path.write_text(text, encoding="utf-8", newline="")
    return load_config(path, {}, {}).config


@given(config=_CONFIGS)
def test_what_is_rendered_loads_as_the_same(
    tmp_path_factory: pytest.TempPathFactory, config: Config
) -> None:
    assert load_text(tmp_path_factory.mktemp("round"), render(config, reveal=True)) == config


@given(config=_CONFIGS)
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
    return dataclasses.replace(
        config,
        registries=public,
        auth=Auth(),
        upstream=dataclasses.replace(config.upstream, proxy=""),
    )


def secretive() -> Config:
    registry = Registry(username="me", password=Secret("hunter2"), proxy="http://me:hunter2@p:1")
    return Config(
        registries={"docker.io": docker_hub(), "quay.io": registry},
        auth=Auth(secret=Secret("hunter2")),
        upstream=Upstream(proxy="http://me:hunter2@proxy:1"),
    )


def test_secrets_are_hidden() -> None:
    text = render(secretive())
    assert "hunter2" not in text
    loaded = yaml.safe_load(text)
    assert loaded["registries"]["quay.io"]["password"] == "(hidden)"
    assert loaded["auth"]["secret"] == "(hidden)"
    assert loaded["upstream"]["proxy"] == "http://(hidden)@proxy:1"
    assert "hunter2" not in render_documented(secretive())
    assert "hunter2" not in str(plain(secretive()))
    assert render(secretive(), reveal=True).count("hunter2") == 4


def test_what_is_hidden_does_not_load(loading: Loading) -> None:
    errors = loading.errors(render(secretive()))
    assert len(errors) == 4
    assert all(
        "expected a secret, not the (hidden)" in line for line in errors if "proxy" not in line
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
    """With each # before a setting taken away, the file says the same: defaults and an example."""
    lines = []
    for line in shipped_file.read_text().splitlines():
        match = re.fullmatch(r"( *)# ((?:# )?)(.*)", line)
        lines.append(f"{match[1]}{match[3]}" if match and _is_setting(match[3]) else line)
    config = loading.config("\n".join(lines) + "\n")
    assert config.registries.pop("registry.example.com:5000") == Registry()
    assert config.tags.rules == (TagRule(match="quay.io/team/*:v*", immutable=True),)
    assert dataclasses.replace(config, tags=Tags()) == shipped()


def _is_setting(text: str) -> bool:
    return bool(re.match(r" *(?:- )?(?:[a-z_]+|registry\.example\.com:5000):(?: |$)| *- \S", text))


def keys(kind: type) -> list[tuple[str, str]]:
    found = []
    for field in dataclasses.fields(kind):
        found.append((field.name, field.metadata["doc"]))
        inner = hints(kind)[field.name].kind
        if isinstance(inner, type) and dataclasses.is_dataclass(inner):
            found += keys(inner)
    return found


@pytest.mark.parametrize(("key", "doc"), keys(Config) + keys(Registry) + keys(TagRule))
def test_every_setting_is_in_the_shipped_file(shipped_file: Path, key: str, doc: str) -> None:
    text = shipped_file.read_text()
    assert re.search(rf"^[ #-]*{key}:", text, re.MULTILINE)
    assert " ".join(doc.split()) in " ".join(
        re.sub(r"^[ #]+", "", text, flags=re.MULTILINE).split()
    )


def test_no_line_is_long(shipped_file: Path) -> None:
    assert max(len(line) for line in shipped_file.read_text().splitlines()) <= 100
