"""Precedence of the sources."""

from collections.abc import Mapping

import pytest

from entrepot.config.kinds import Seconds
from entrepot.config.load import load_config
from entrepot.config.model import Config, Registry, docker_hub
from tests.config.loading import Loading


def test_nothing_is_needed(loading: Loading) -> None:
    assert loading.config() == Config()
    assert loading.config("") == Config()


@pytest.mark.parametrize(
    ("text", "environ", "overrides", "listen"),
    [
        (None, {}, {}, "*:3128"),
        ("listen: ':1'", {}, {}, "*:1"),
        ("listen: ':1'", {"ENTREPOT_LISTEN": ":2"}, {}, "*:2"),
        ("listen: ':1'", {"ENTREPOT_LISTEN": ":2"}, {"listen": ":3"}, "*:3"),
        (None, {}, {"listen": ":3"}, "*:3"),
    ],
)
def test_the_later_source_wins(
    loading: Loading,
    text: str | None,
    environ: Mapping[str, str],
    overrides: Mapping[str, str],
    listen: str,
) -> None:
    assert loading.config(text, environ, overrides).listen == listen


def test_flags_have_dotted_keys(loading: Loading) -> None:
    assert loading.config(overrides={"tags.ttl": "5m"}).tags.ttl == Seconds(300)
    assert loading.errors(overrides={"tags.tll": "5m"}) == [
        "--tags.tll: unknown setting; did you mean ttl?"
    ]
    assert loading.errors(overrides={"listen": "x"})[0].startswith("--listen: expected an address")
    (error,) = loading.errors(overrides={"storage.scrub_rate": "fast"})
    assert error.startswith("--rate: expected a size")


def test_errors_of_all_sources_come_together(loading: Loading) -> None:
    errors = loading.errors("listen: x", {"ENTREPOT_TAGS__TTL": "y"}, {"data": ""})
    assert [error.split(": ")[0] for error in errors] == [
        "file:1",
        "ENTREPOT_TAGS__TTL",
        "--data",
    ]


@pytest.mark.parametrize("name", ["docker.io", "registry-1.docker.io", "index.docker.io"])
def test_docker_hub_has_one_name_and_its_defaults(loading: Loading, name: str) -> None:
    config = loading.config(f"registries: {{{name}: {{push: allow}}}}")
    hub = docker_hub()
    assert config.registries == {
        "docker.io": Registry(hosts=hub.hosts, endpoints=hub.endpoints, push="allow")
    }


def test_docker_hub_is_always_there_and_can_be_told_otherwise(loading: Loading) -> None:
    config = loading.config("registries: {quay.io: }")
    assert config.registries == {"quay.io": Registry(), "docker.io": docker_hub()}
    text = "registries: {docker.io: {endpoints: ['https://hub.example.com']}}"
    assert loading.config(text).registries["docker.io"].endpoints == ("https://hub.example.com",)


def test_a_registry_has_one_entry(loading: Loading) -> None:
    text = "registries:\n  docker.io:\n  index.docker.io:\n  Quay.io:\n  quay.io:\n"
    assert loading.errors(text) == [
        "file:3: registries.docker.io: written twice, first in line 2 (names of one registry)",
        "file:5: registries.quay.io: written twice, first in line 4 (names of one registry)",
    ]


def test_a_url_is_no_registry_name(loading: Loading) -> None:
    assert loading.errors("registries:\n  https://ghcr.io/v2/:\n") == [
        (
            "file:2: registries: expected a registry's name without scheme, path or credentials;"
            " write ghcr.io"
        )
    ]


def test_what_follows_from_another_error_is_not_told(loading: Loading) -> None:
    (error,) = loading.errors("registries: {a.io: {username: bob, password: [x]}}")
    assert "registries.a.io.password: expected one value" in error


LOOP = {"HTTPS_PROXY": "http://127.0.0.1:3128"}


def test_who_does_not_serve_needs_no_way_out(loading: Loading) -> None:
    load_config(None, LOOP, {}, serves=False)
    assert loading.config(None, LOOP | {"ENTREPOT_UPSTREAM__PROXY": "none"}).upstream.proxy == ""


def test_what_is_not_there_is_told_beside_the_configuration(loading: Loading) -> None:
    text = "registries:\n  a.io:\n    helper: y\n"
    loaded = loading.load(text, {"PATH": str(loading.path.parent)})
    (obstacle,) = loaded.obstacles
    assert obstacle.startswith(f"{loading.path}:3: registries.a.io.helper: expected docker-cred")
    assert load_config(loading.path, {}, {}, serves=False).obstacles == ()
