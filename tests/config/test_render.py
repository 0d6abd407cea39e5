"""What is written out can be read again, and shows no secret."""

import pytest
import yaml
from hypothesis import given

from entrepot.config.kinds import ProxyUrl, Secret
from entrepot.config.local import LocalRegistry
from entrepot.config.model import (
    Auth,
    Clients,
    Config,
    Registry,
    RepositoryRule,
    Upstream,
    docker_hub,
)
from entrepot.config.render import plain, render
from entrepot.config.template import render_documented
from tests.config.configurations import CONFIGS, load_text
from tests.config.loading import Loading


@given(config=CONFIGS)
def test_what_is_rendered_loads_as_the_same(
    tmp_path_factory: pytest.TempPathFactory, config: Config
) -> None:
    assert load_text(tmp_path_factory.mktemp("round"), render(config, reveal=True)) == config


def secretive() -> Config:
    secret = Secret("hunter2")
    registry = Registry(username="me", password=secret, proxy=ProxyUrl("http://me:hunter2@p:1"))
    local = LocalRegistry(
        upstream=("http://b:1",),
        upstream_username="me",
        upstream_password=secret,
        username="ann",
        password=secret,
    )
    return Config(
        registries={"docker.io": docker_hub(), "quay.io": registry},
        local_registries={"a.lan": local},
        clients=Clients(username="ann", password=secret),
        auth=Auth(secret=secret, former_secrets=(secret, secret)),
        upstream=Upstream(proxy=ProxyUrl("http://me:hunter2@proxy:1")),
    )


def test_secrets_are_hidden() -> None:
    text = render(secretive())
    assert "hunter2" not in text
    loaded = yaml.safe_load(text)
    assert loaded["registries"]["quay.io"]["password"] == "(hidden)"
    assert loaded["local_registries"]["a.lan"]["upstream_password"] == "(hidden)"
    assert loaded["auth"]["former_secrets"] == ["(hidden)", "(hidden)"]
    assert loaded["upstream"]["proxy"] == "http://(hidden)@proxy:1"
    assert "hunter2" not in render_documented(secretive())
    assert "hunter2" not in str(plain(secretive()))
    assert "hunter2" not in repr(secretive())
    assert render(secretive(), reveal=True).count("hunter2") == 9


def test_an_address_in_a_name_or_a_message_is_shown() -> None:
    rule = RepositoryRule(pull="deny", message="write to me@example.com")
    registry = Registry(username="me@example.com", password=Secret("x"), rules=(rule,))
    text = render(Config(registries={"a.io": registry}))
    assert "username: me@example.com\n" in text
    assert "message: write to me@example.com\n" in text
    command = Registry(exec=("get", "hunter2@host", "http://hunter2@host", "me:hunter2@host"))
    assert "hunter2" not in render(Config(registries={"a.io": command}))
    message = RepositoryRule(message="http://hunter2@host or me:hunter2@host")
    assert "hunter2" not in render(Config(registries={"a.io": Registry(rules=(message,))}))


def test_what_is_hidden_does_not_load(loading: Loading) -> None:
    errors = loading.errors(render(secretive()))
    assert len(errors) == 9
    assert all(
        "expected a secret, not the (hidden)" in line for line in errors if "proxy" not in line
    )
