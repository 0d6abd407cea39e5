"""ENTREPOT_<PATH> and the usual proxy variables."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from entrepot.config.build import leaves
from entrepot.config.environment import variable_names
from entrepot.config.kinds import Seconds, Secret
from tests.config.loading import Loading


def test_every_scalar_has_a_variable(loading: Loading, tmp_path: Path) -> None:
    config = loading.config(
        "tags: {ttl: 1h, list_ttl: 2h}",
        {
            "ENTREPOT_TAGS__TTL": "30s",
            "ENTREPOT_CA__DIRECTORY": "/x",
            "entrepot_clients__allow": "10.0.0.0/8, 192.168.0.0/16",
            "ENTREPOT_TUNNEL__PORTS": "443",
            "ENTREPOT_AUTH__SECRET": "hunter2-and-seven-more",
        },
    )
    assert (config.tags.ttl, config.tags.list_ttl) == (Seconds(30), Seconds(7200))
    assert config.ca.directory == Path("/x")
    assert config.clients.allow == ("10.0.0.0/8", "192.168.0.0/16")
    assert config.tunnel.ports == (443,)
    assert config.auth.secret == Secret("hunter2-and-seven-more")


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("ENTREPOT_TAGS_TTL", "did you mean ENTREPOT_TAGS__TTL?"),
        ("ENTREPOT_NONSENSE", "names no setting"),
        ("ENTREPOT_REGISTRIES__GHCR", "registries are set by REGISTRIES"),
        ("ENTREPOT_TAGS__RULES", "rules are set in the file"),
    ],
)
def test_a_variable_that_names_no_setting(loading: Loading, name: str, error: str) -> None:
    (line,) = loading.errors(None, {name: "hunter2"})
    assert line.startswith(f"{name}: names no setting")
    assert error in line
    assert "hunter2" not in line


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ENTREPOT_CONFIG", "/etc/entrepot.yaml"),
        ("ENTREPOT_NONSENSE", ""),
        ("ENTREPOT_SERVICE_HOST", "10.0.0.1"),
        ("ENTREPOT_SERVICE_PORT", "3128"),
        ("ENTREPOT_SERVICE_PORT_HTTP_PROXY", "3128"),
        ("ENTREPOT_PORT", "tcp://10.0.0.1:3128"),
        ("ENTREPOT_PORT_3128_TCP", "tcp://10.0.0.1:3128"),
        ("ENTREPOT_PORT_3128_TCP_ADDR", "10.0.0.1"),
        ("ENTREPOT_REDIS_PORT_6379_TCP_PROTO", "tcp"),
    ],
)
def test_variables_of_others_are_left_alone(loading: Loading, name: str, value: str) -> None:
    loading.config(None, {name: value})


def test_a_port_of_our_own_is_no_kubernetes_variable(loading: Loading) -> None:
    assert "names no setting" in loading.errors(None, {"ENTREPOT_PORT": "3128"})[0]


def test_errors_name_the_variable(loading: Loading) -> None:
    assert loading.errors(None, {"ENTREPOT_STORAGE__MAX_SIZE": "lots"}) == [
        (
            "ENTREPOT_STORAGE__MAX_SIZE: storage.max_size: expected a size such as 32g, 512m, 10k,"
            " 1.5 GiB; got 'lots'"
        )
    ]


@pytest.mark.parametrize("name", ["ENTREPOT_AUTH__SECRET_FILE", "SECRET_FILE"])
def test_a_secret_comes_from_a_file(loading: Loading, tmp_path: Path, name: str) -> None:
    file = tmp_path / "secret"
    file.write_text("hunter2-and-seven-more\n")
    auth = loading.config("auth: {secret: 0123456789abcdef}", {name: str(file)}).auth
    assert (auth.secret_file, auth.secret) == (file, None)


def test_a_password_file_is_named_and_not_read(loading: Loading, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("hunter2\n")
    environ = {"ENTREPOT_CLIENTS__PASSWORD_FILE": str(file)}
    clients = loading.config("clients: {username: ann, password: other}", environ).clients
    assert (clients.username, clients.password_file, clients.password) == ("ann", file, None)


def test_every_secret_can_be_kept_in_a_file() -> None:
    paths = dict(leaves())
    secrets = [path for path, hint in paths.items() if hint.kind is Secret]
    assert ("auth", "secret") in secrets
    for *parents, key in secrets:
        assert (*parents, f"{key}_file") in paths


@pytest.mark.parametrize(
    ("first", "second"), [("SECRET", "SECRET_FILE"), ("SECRET_FILE", "ENTREPOT_AUTH__SECRET")]
)
def test_two_variables_for_one_secret(
    loading: Loading, tmp_path: Path, first: str, second: str
) -> None:
    file = tmp_path / "hunter2-and-seven-more"
    file.write_text("hunter2-and-seven-more\n")
    (line,) = loading.errors(None, {first: str(file), second: str(file)})
    assert line.endswith("auth.secret_file: expected one of secret and secret_file")


@pytest.mark.parametrize(
    ("environ", "proxy"),
    [
        ({}, ""),
        ({"HTTPS_PROXY": "http://a:1"}, "http://a:1"),
        ({"https_proxy": "http://a:1", "HTTPS_PROXY": "http://b:1"}, "http://a:1"),
        ({"HTTP_PROXY": "http://a:1"}, "http://a:1"),
        ({"http_proxy": "a:1"}, "http://a:1"),
        ({"HTTP_PROXY": "http://a:1", "HTTPS_PROXY": "http://b:1"}, "http://b:1"),
        ({"HTTPS_PROXY": "http://b:1", "ENTREPOT_UPSTREAM__PROXY": "http://c:1"}, "http://c:1"),
        ({"HTTPS_PROXY": "http://b:1", "ENTREPOT_UPSTREAM__PROXY": "none"}, ""),
        ({"HTTPS_PROXY": ""}, ""),
    ],
)
def test_the_parent_proxy(loading: Loading, environ: Mapping[str, str], proxy: str) -> None:
    assert loading.config(None, environ).upstream.proxy == proxy


@pytest.mark.parametrize("written", ["none", "''", "http://file:1"])
def test_the_file_comes_before_the_machines_proxy(loading: Loading, written: str) -> None:
    environ = {"HTTPS_PROXY": "http://machine:1", "NO_PROXY": "a.lan"}
    upstream = loading.config(f"upstream: {{proxy: {written}}}", environ).upstream
    assert upstream.proxy == {"http://file:1": "http://file:1"}.get(written, "")
    assert upstream.no_proxy == ("a.lan",)


def test_hosts_without_proxy(loading: Loading) -> None:
    config = loading.config(None, {"no_proxy": "localhost,.lan 10.0.0.0/8"})
    assert config.upstream.no_proxy == ("localhost", ".lan", "10.0.0.0/8")


def test_a_proxy_that_cannot_be_used_is_an_error_and_not_passed_by(loading: Loading) -> None:
    (line,) = loading.errors(None, {"HTTPS_PROXY": "socks5://me:hunter2@proxy"})
    assert line.startswith("HTTPS_PROXY: upstream.proxy: expected a proxy such as")
    assert "hunter2" not in line


def test_a_proxys_password_is_not_in_a_repr(loading: Loading) -> None:
    config = loading.config(None, {"HTTPS_PROXY": "http://me:hunter2@proxy:1"})
    assert config.upstream.proxy == "http://me:hunter2@proxy:1"
    assert "hunter2" not in repr(config)


def test_names_are_unique() -> None:
    names = variable_names()
    assert names["ENTREPOT_DATA"] == ("data",)
    assert names["ENTREPOT_AUTH__SECRET_FILE"] == ("auth", "secret_file")
    assert len(names) > 40
