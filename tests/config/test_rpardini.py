"""The variables that rpardini's users have."""

import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.config.kinds import Seconds, Secret
from entrepot.config.model import Config, Registry, docker_hub
from entrepot.config.rpardini import OBSOLETE, split_entries, split_fields
from tests.config.loading import Loading


def names(config: Config) -> list[str]:
    return list(config.registries)


def credentials(config: Config, name: str) -> tuple[str, str]:
    registry = config.registries[name]
    assert registry.password is not None
    return registry.username, registry.password.reveal()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("quay.io ghcr.io", ["docker.io", "quay.io", "ghcr.io"]),
        ("  quay.io\n ghcr.io ", ["docker.io", "quay.io", "ghcr.io"]),
        ('"quay.io ghcr.io"', ["docker.io", "quay.io", "ghcr.io"]),
        ("reg.lan:5000 *.pkg.dev", ["docker.io", "reg.lan:5000", "*.pkg.dev"]),
        ("docker.io auth.docker.io registry-1.docker.io", ["docker.io"]),
        ("Quay.io quay.io", ["docker.io", "quay.io"]),
    ],
)
def test_registries(loading: Loading, value: str, expected: list[str]) -> None:
    assert names(loading.config(None, {"REGISTRIES": value})) == expected


def test_registries_choose_from_the_file_and_keep_its_settings(loading: Loading) -> None:
    text = "registries:\n  quay.io: {push: allow}\n  ghcr.io:\n  docker.io: {connections: 8}\n"
    config = loading.config(text, {"REGISTRIES": "quay.io gcr.io"})
    assert names(config) == ["docker.io", "quay.io", "gcr.io"]
    assert config.registries["quay.io"].push == "allow"
    assert config.registries["docker.io"].connections == 8
    assert config.registries["docker.io"].hosts == docker_hub().hosts


def test_what_is_no_registry_is_told(loading: Loading) -> None:
    assert loading.errors(None, {"REGISTRIES": "https://quay.io/x a_b.*"}) == [
        "REGISTRIES: expected a registry's name without scheme, path or credentials; write quay.io",
        "REGISTRIES: expected a registry's name: host, host:port or *.example.com; got 'a_b.*'",
    ]


@pytest.mark.parametrize(
    ("environ", "name", "user", "password"),
    [
        ({"AUTH_REGISTRIES": "quay.io:u:p"}, "quay.io", "u", "p"),
        ({"AUTH_REGISTRIES": "quay.io:u:p:q:"}, "quay.io", "u", "p:q:"),
        ({"AUTH_REGISTRIES": "x.io:a:b quay.io:u:p"}, "quay.io", "u", "p"),
        ({"AUTH_REGISTRIES": "auth.docker.io:u:p"}, "docker.io", "u", "p"),
        ({"AUTH_REGISTRIES": "registry-1.docker.io:u:p"}, "docker.io", "u", "p"),
        ({"AUTH_REGISTRIES": "docker.io:u:p"}, "docker.io", "u", "p"),
        ({"AUTH_REGISTRIES": "index.docker.io:u:p"}, "docker.io", "u", "p"),
        ({"AUTH_REGISTRIES": '"quay.io:u:p"'}, "quay.io", "u", "p"),
        ({"AUTH_REGISTRIES": "'quay.io:u:p' 'x.io:a:b'"}, "quay.io", "u", "p"),
        ({"AUTH_REGISTRIES": "\"quay.io:u:'p'\""}, "quay.io", "u", "'p'"),
        ({"AUTH_REGISTRIES": "reg.lan:5000:u:p:q"}, "reg.lan:5000", "u", "p:q"),
        ({"AUTH_REGISTRIES": "reg:u:p"}, "reg", "u", "p"),
        (
            {"AUTH_REGISTRIES": "quay.io:::u:::p q:;;;x.io:::a:::b", "D": ";;;", "F": ":::"},
            "quay.io",
            "u",
            "p q:",
        ),
        (
            {"AUTH_REGISTRIES": "x.io:a:b;;;\nquay.io:u:p", "D": '";;;"'},
            "quay.io",
            "u",
            "p",
        ),
        ({"AUTH_REGISTRIES": "reg.lan:5000|u|p", "F": "|"}, "reg.lan:5000", "u", "p"),
        (
            {"AUTH_REGISTRIES": 'quay.io|_json_key|{"a": "b:c"}', "D": "\n", "F": "|"},
            "quay.io",
            "_json_key",
            '{"a": "b:c"}',
        ),
    ],
)
def test_credentials(
    loading: Loading, environ: dict[str, str], name: str, user: str, password: str
) -> None:
    renamed = {"D": "AUTH_REGISTRIES_DELIMITER", "F": "AUTH_REGISTRY_DELIMITER"}
    environ = {renamed.get(key, key): value for key, value in environ.items()}
    environ["REGISTRIES"] = "quay.io x.io reg.lan:5000 reg"
    assert credentials(loading.config(None, environ), name) == (user, password)


def test_credentials_from_a_file(loading: Loading, tmp_path: Path) -> None:
    file = tmp_path / "auth"
    file.write_text("quay.io:u:p\nx.io:a:b\n")
    config = loading.load(None, {"AUTH_REGISTRIES_FILE": str(file)}).config
    assert credentials(config, "quay.io") == ("u", "p")
    assert credentials(config, "x.io") == ("a", "b")


def test_credentials_replace_those_of_the_file(loading: Loading) -> None:
    text = "registries: {quay.io: {helper: x, push: allow}}"
    config = loading.config(text, {"AUTH_REGISTRIES": "quay.io:u:p"})
    assert config.registries["quay.io"] == Registry(
        username="u", password=Secret("p"), push="allow"
    )


def test_a_registry_with_credentials_is_added_and_said_so(loading: Loading) -> None:
    loaded = loading.load(None, {"AUTH_REGISTRIES": "gitlab.com:u:p"})
    assert names(loaded.config) == ["docker.io", "gitlab.com"]
    (warning,) = loaded.warnings
    assert warning.startswith("AUTH_REGISTRIES: gitlab.com is not among the registries and was")


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ("quay.io", "entry 1: expected registry, user and password between delimiters"),
        ("a.io:u:p quay.io:hunter2", "entry 2: expected registry, user and password"),
        ("quay.io/team:u:hunter2", "entry 1: expected registry, user and password"),
        ("quay.io::hunter2", "entry 1: expected registry, user and password"),
        ("https://quay.io:u:hunter2", "entry 1: expected it to begin with the host"),
        # What follows a space in a password must not be taken for a registry and shown.
        ("a.io:u:pass hunter2:x:y", "entry 2: expected it to begin with the host of a registry"),
    ],
)
def test_credentials_that_cannot_be_read_are_not_shown(
    loading: Loading, value: str, error: str
) -> None:
    (line,) = loading.errors(None, {"AUTH_REGISTRIES": value})
    assert line.startswith(f"AUTH_REGISTRIES: {error}")
    assert "hunter2" not in line


_WORD = st.text(
    st.characters(codec="ascii", exclude_characters=" :'\"\t\n\r\v\f\x1c\x1d\x1e\x1f\0")
)


@given(user=_WORD.filter(bool), password=st.lists(_WORD.filter(bool), min_size=1).map(":".join))
def test_a_password_may_hold_the_delimiter(user: str, password: str) -> None:
    (entry,) = split_entries(f"quay.io:{user}:{password}", " ")
    assert split_fields(entry, ":", frozenset({"quay.io"})) == ["quay.io", user, password]


@pytest.mark.parametrize(
    ("environ", "section", "key", "value"),
    [
        ({"CACHE_MAX_SIZE": "5g"}, "storage", "max_size", 5 << 30),
        ({"CACHE_INACTIVE": "1d"}, "storage", "inactive", 86400),
        ({"LOG_LEVEL": "WARN"}, "log", "level", "warning"),
        ({"LOG_LEVEL": "debug"}, "log", "level", "debug"),
        ({"SEND_TIMEOUT": "5s"}, "clients", "send_timeout", 5),
        ({"CLIENT_HEADER_TIMEOUT": "5s"}, "clients", "header_timeout", 5),
        ({"KEEPALIVE_TIMEOUT": "5s"}, "clients", "idle_timeout", 5),
        ({"PROXY_READ_TIMEOUT": "5s"}, "upstream", "read_timeout", 5),
        ({"PROXY_READ_TIMEOUT": "5s"}, "upstream", "header_timeout", 5),
        ({"PROXY_CONNECT_TIMEOUT": "5s"}, "upstream", "connect_timeout", 5),
        ({"PROXY_CONNECT_CONNECT_TIMEOUT": "5s"}, "tunnel", "connect_timeout", 5),
        ({"DISABLE_IPV6": "true"}, "upstream", "ipv6", False),
        ({"DISABLE_IPV6": "false"}, "upstream", "ipv6", True),
        ({"SECRET": "hunter2-and-seven-more"}, "auth", "secret", Secret("hunter2-and-seven-more")),
        ({"ENABLE_MANIFEST_CACHE": "false"}, "tags", "ttl", 0),
        (
            {"CACHE_MAX_SIZE": "5g", "ENTREPOT_STORAGE__MAX_SIZE": "6g"},
            "storage",
            "max_size",
            6 << 30,
        ),
    ],
)
def test_one_variable_one_setting(
    loading: Loading, environ: Mapping[str, str], section: str, key: str, value: object
) -> None:
    # The file says otherwise where it can.
    text = "storage: {max_size: 1g, inactive: 2d}\nupstream: {ipv6: yes}\ntags: {ttl: 2m}\n"
    config = loading.config(text, environ)
    assert getattr(getattr(config, section), key) == value


def test_an_error_names_variable_and_setting(loading: Loading) -> None:
    assert loading.errors(None, {"CACHE_MAX_SIZE": "lots", "ALLOW_PUSH": "perhaps"}) == [
        "ALLOW_PUSH: expected true or false; got 'perhaps'",
        (
            "CACHE_MAX_SIZE: storage.max_size: expected a size such as 32g, 512m, 10k, 1.5 GiB;"
            " got 'lots'"
        ),
    ]


def test_a_ca_of_ones_own(loading: Loading, tmp_path: Path) -> None:
    key, certificate = tmp_path / "ca.key", tmp_path / "ca.crt"
    key.touch()
    certificate.touch()
    environ = {"CA_KEY_FILE": str(key), "CA_CRT_FILE": str(certificate)}
    ca = loading.config(None, environ).ca
    assert (ca.key, ca.certificate) == (key, certificate)
    del environ["CA_CRT_FILE"]
    assert loading.errors(None, environ) == [
        "CA_KEY_FILE: ca.key: expected ca.certificate beside it"
    ]


def test_push_is_allowed_everywhere(loading: Loading) -> None:
    text = "registries: {quay.io: {push: allow}}"
    environ = {"ALLOW_PUSH": "true", "AUTH_REGISTRIES": "quay.io:u:p"}
    config = loading.config(text, environ)
    assert [registry.push for registry in config.registries.values()] == ["allow", "allow"]
    config = loading.config(text, {"ALLOW_PUSH": "false"})
    assert [registry.push for registry in config.registries.values()] == ["deny", "deny"]


def test_what_the_operator_logged_in_to_is_pushed_to_as_the_operator(loading: Loading) -> None:
    text = """
        registries:
          quay.io:
          ghcr.io: {push_as: client}
          a.io: {username: u, password: p}
        """
    environ = {"ALLOW_PUSH": "true", "AUTH_REGISTRIES": "quay.io:u:p ghcr.io:u:p"}
    registries = loading.config(text, environ).registries
    assert {name: registry.push_as for name, registry in registries.items()} == {
        "quay.io": "operator",
        "ghcr.io": "client",
        "a.io": "client",
        "docker.io": "client",
    }
    environ["ALLOW_PUSH"] = "false"
    assert loading.config(text, environ).registries["quay.io"].push_as == "client"


def test_verification_is_switched_off_everywhere_with_a_warning(loading: Loading) -> None:
    loaded = loading.load("registries: {quay.io: }", {"VERIFY_SSL": "false"})
    assert not any(registry.verify for registry in loaded.config.registries.values())
    assert "no upstream's certificate is checked" in loaded.warnings[0]
    config = loading.config("registries: {quay.io: {verify: no}}", {"VERIFY_SSL": "true"})
    assert config.registries["quay.io"].verify


# ---- the manifest cache --------------------------------------------------------------------


def ttl_of(config: Config, name: str) -> float:
    for rule in config.tags.rules:
        if re.search(rule.match.strip("/"), name):
            assert rule.ttl is not None
            return rule.ttl
    return config.tags.ttl


_PRIMARY, _SECONDARY, _REST = 600, 60 * 86400, 3600


@pytest.mark.parametrize(
    ("name", "ttl"),
    [
        ("docker.io/library/nginx:stable", _PRIMARY),
        ("docker.io/library/nginx:stable-alpine", _PRIMARY),
        ("docker.io/library/nginx:my-stable", _REST),
        ("docker.io/library/stable:latest", _REST),
        ("docker.io/library/nginx:1.27.3", _SECONDARY),
        ("docker.io/library/nginx:v20240101", _SECONDARY),
        ("docker.io/library/nginx:12", _REST),
        ("reg.lan:5000/a1.2.3/b:latest", _REST),
        ("reg.lan:5000/a/b:1.2.3", _SECONDARY),
    ],
)
def test_the_tiers_of_the_manifest_cache(loading: Loading, name: str, ttl: float) -> None:
    assert ttl_of(loading.config(None, {"ENABLE_MANIFEST_CACHE": "true"}), name) == ttl


def test_tiers_of_ones_own_come_before_the_files_rules(loading: Loading) -> None:
    config = loading.config(
        "tags: {ttl: 5s, rules: [{match: '*', immutable: true}]}",
        {
            "ENABLE_MANIFEST_CACHE": "true",
            "MANIFEST_CACHE_PRIMARY_REGEX": "dev|x/y",
            "MANIFEST_CACHE_PRIMARY_TIME": "5s",
            "MANIFEST_CACHE_SECONDARY_TIME": "1d",
            "MANIFEST_CACHE_DEFAULT_TIME": "2h",
        },
    )
    assert ttl_of(config, "a/b:develop") == 5
    assert config.tags.rules[1].ttl == Seconds(86400)
    assert config.tags.rules[2].immutable
    assert config.tags.ttl == Seconds(7200)


@pytest.mark.parametrize("regex", ["(", "(?i)x", "a)(b"])
def test_a_regular_expression_that_cannot_be_read(loading: Loading, regex: str) -> None:
    environ = {"ENABLE_MANIFEST_CACHE": "true", "MANIFEST_CACHE_PRIMARY_REGEX": regex}
    (line,) = loading.errors(None, environ)
    assert line.startswith("MANIFEST_CACHE_PRIMARY_REGEX: expected a regular expression")


def test_times_name_their_variable(loading: Loading) -> None:
    environ = {"ENABLE_MANIFEST_CACHE": "true", "MANIFEST_CACHE_SECONDARY_TIME": "long"}
    (line,) = loading.errors(None, environ)
    assert line.startswith("MANIFEST_CACHE_SECONDARY_TIME: tags.rules[1].ttl: expected a duration")


@pytest.mark.parametrize("environ", [{}, {"ENABLE_MANIFEST_CACHE": "false"}])
def test_tiers_without_the_cache_have_no_effect(loading: Loading, environ: dict[str, str]) -> None:
    loaded = loading.load(None, {**environ, "MANIFEST_CACHE_DEFAULT_TIME": "5m"})
    assert loaded.config.tags.rules == ()
    assert loaded.warnings == (
        "MANIFEST_CACHE_DEFAULT_TIME has no effect without ENABLE_MANIFEST_CACHE=true",
    )


# ---- what no longer means anything ---------------------------------------------------------


@pytest.mark.parametrize("name", sorted(OBSOLETE))
def test_an_obsolete_variable_is_a_warning(loading: Loading, name: str) -> None:
    loaded = loading.load(None, {name: "true"})
    assert loaded.config == Config()
    assert loaded.warnings == (f"{name} has no effect: {OBSOLETE[name]}",)


@pytest.mark.parametrize("name", ["DEBUG", "DEBUG_HUB", "DEBUG_NGINX"])
def test_debugging_that_is_off_is_no_warning(loading: Loading, name: str) -> None:
    loading.config(None, {name: "false"})


def test_stacking_mitmweb_is_pointed_to(loading: Loading) -> None:
    assert "docs/debugging.md" in loading.load(None, {"DEBUG": "true"}).warnings[0]


@pytest.mark.parametrize("text", ["registries: {quay.io: 5}", "registries: [a]", "registries: 5"])
def test_what_the_file_has_wrong_stays_an_error(loading: Loading, text: str) -> None:
    environ = {"AUTH_REGISTRIES": "quay.io:u:p", "ALLOW_PUSH": "true"}
    assert "file:1: registries" in loading.errors(text, environ)[0]
