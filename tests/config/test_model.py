"""Defaults are right by themselves, and secrets hide."""

import pytest

from entrepot.config.checks import findings
from entrepot.config.kinds import Secret
from entrepot.config.local import LocalRegistry
from entrepot.config.model import Config, Registry


def test_the_defaults_contradict_nothing() -> None:
    assert list(findings(Config())) == []


@pytest.mark.parametrize("show", [repr, str, "{}".format, "{!r}".format])
def test_a_secret_shows_itself_only_by_name(show: type[str]) -> None:
    secret = Secret("hunter2")
    assert "hunter2" not in show(secret)
    assert "hunter2" not in show(Config(registries={"a.io": Registry(password=secret)}))
    assert secret.reveal() == "hunter2"


def test_secrets_are_equal_by_what_they_hold() -> None:
    assert Secret("a") == Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2


def test_each_configuration_has_registries_of_its_own() -> None:
    assert Config().registries is not Config().registries


def test_a_local_registry_is_served_with_the_proxys_own_rights() -> None:
    secret = Secret("hunter2")
    local = LocalRegistry(
        hosts=("images.lan",),
        upstream=("http://registry:5000",),
        upstream_username="proxy",
        upstream_password=secret,
        username="ann",
        password=Secret("another"),
    )
    served = Config(local_registries={"a.lan": local}).served
    assert set(served) == {"docker.io", "a.lan"}
    assert served["a.lan"] == Registry(
        hosts=("images.lan",),
        endpoints=("http://registry:5000",),
        username="proxy",
        password=secret,
        push="allow",
        push_as="operator",
        proxy="none",
    )
