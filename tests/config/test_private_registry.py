"""PRIVATE_REGISTRY and the variables that go with it."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from entrepot.config.kinds import Secret
from entrepot.config.local import LocalRegistry
from tests.config.loading import Loading

UPSTREAM = {"PRIVATE_REGISTRY": "http://registry:5000"}
LOGIN = {"USERNAME": "ann", "PASSWORD": "hunter2"}
NAME = "docker-registry.local"
ONE = "local_registries: {a.lan: {upstream: 'http://b:1', username: bob, password: x}}"
TWO = """
local_registries:
  a.lan: {upstream: 'http://b:1', username: bob, password: x}
  c.lan: {upstream: 'http://d:1', anonymous: pull}
"""


def test_a_registry_under_the_proxys_name(loading: Loading) -> None:
    config = loading.config(None, UPSTREAM | LOGIN)
    assert config.local_registries == {
        NAME: LocalRegistry(
            upstream=("http://registry:5000",), username="ann", password=Secret("hunter2")
        )
    }


def test_the_proxys_name_may_be_another(loading: Loading) -> None:
    environ = UPSTREAM | LOGIN
    assert list(loading.config("hostname: Hub.lan", environ).local_registries) == ["hub.lan"]
    environ["ENTREPOT_HOSTNAME"] = "images.lan"
    assert list(loading.config("hostname: hub.lan", environ).local_registries) == ["images.lan"]
    environ["ENTREPOT_HOSTNAME"] = "a b"
    assert loading.errors(None, environ)[0].startswith("ENTREPOT_HOSTNAME: hostname: expected a")


def test_several_upstreams(loading: Loading) -> None:
    environ = {"PRIVATE_REGISTRY": '"http://one:5000\n http://two:5000/"'} | LOGIN
    local = loading.config(None, environ).local_registries[NAME]
    assert local.upstream == ("http://one:5000", "http://two:5000")


def test_all_that_can_be_said(loading: Loading, tmp_path: Path) -> None:
    password, users = tmp_path / "password", tmp_path / "users"
    password.touch()
    users.touch()
    environ = UPSTREAM | {
        "USERNAME": "ann",
        "PASSWORD_FILE": str(password),
        "READ_ONLY": "true",
        "REGISTRY_LISTEN": ":443",
    }
    config = loading.config(None, environ)
    local = config.local_registries[NAME]
    assert (local.username, local.password_file, local.read_only) == ("ann", password, True)
    assert config.registry_listen == "*:443"
    # Many a desktop sets USERNAME.
    config = loading.config(None, UPSTREAM | {"HTPASSWD_FILE": str(users), "USERNAME": "ann"})
    assert config.local_registries[NAME] == LocalRegistry(
        upstream=("http://registry:5000",), htpasswd=users
    )


def test_everybody_lets_in_who_brings_no_password(loading: Loading) -> None:
    local = loading.config(None, UPSTREAM | {"ANONYMOUS": "pull push"}).local_registries[NAME]
    assert (local.anonymous, local.username) == (("pull", "push"), "")
    environ = UPSTREAM | {"ANONYMOUS": "pull"}
    desktop = loading.config(None, environ | {"USERNAME": "ann"}).local_registries[NAME]
    assert (desktop.anonymous, desktop.username) == (("pull",), "")
    both = loading.config(None, environ | LOGIN).local_registries[NAME]
    assert (both.anonymous, both.username) == (("pull",), "ann")


def test_a_setting_of_its_own_comes_before_the_short_name(loading: Loading) -> None:
    environ = UPSTREAM | LOGIN | {"REGISTRY_LISTEN": ":443"}
    environ["ENTREPOT_REGISTRY_LISTEN"] = ":8443"
    assert loading.config(None, environ).registry_listen == "*:8443"


def test_the_file_says_the_rest(loading: Loading) -> None:
    text = f"local_registries: {{{NAME}: {{upstream: 'http://b:1', anonymous: pull}}}}"
    local = loading.config(text, UPSTREAM).local_registries[NAME]
    assert local == LocalRegistry(upstream=("http://registry:5000",), anonymous=("pull",))


def test_the_only_one_of_the_file_is_meant(loading: Loading, tmp_path: Path) -> None:
    users = tmp_path / "users"
    users.touch()
    local = loading.config(ONE, LOGIN | {"READ_ONLY": "yes"}).local_registries["a.lan"]
    assert (local.username, local.password) == ("ann", Secret("hunter2"))
    assert local.read_only
    local = loading.config(ONE, {"HTPASSWD_FILE": str(users)}).local_registries["a.lan"]
    assert (local.htpasswd, local.username, local.password) == (users, "", None)
    local = loading.config(ONE, {"PASSWORD_FILE": str(users)}).local_registries["a.lan"]
    assert (local.username, local.password_file, local.password) == ("bob", users, None)


@pytest.mark.parametrize("text", [None, ONE, TWO])
def test_a_shells_username_changes_nobody(loading: Loading, text: str | None) -> None:
    environ = {"USERNAME": "ann", "READ_ONLY": "false"}
    assert loading.config(text, environ) == loading.config(text)


@pytest.mark.parametrize(
    ("text", "environ", "warning"),
    [
        (
            None,
            LOGIN,
            (
                "PASSWORD, USERNAME have no effect: there is no private registry;"
                " PRIVATE_REGISTRY=http://registry:5000 or local_registries in the file names one"
            ),
        ),
        (
            TWO,
            {"READ_ONLY": "true"},
            (
                "READ_ONLY has no effect: there are several local registries; their users are said"
                " in the file"
            ),
        ),
    ],
)
def test_what_cannot_be_meant_is_a_warning(
    loading: Loading, text: str | None, environ: Mapping[str, str], warning: str
) -> None:
    assert loading.load(text, environ).warnings == (warning,)


@pytest.mark.parametrize(
    ("environ", "error"),
    [
        (
            {"PRIVATE_REGISTRY": "registry:5000"} | LOGIN,
            (
                "PRIVATE_REGISTRY: local_registries.{}.upstream[0]: expected an http:// or https://"
                " URL without query; begin with http:// or https://"
            ),
        ),
        (
            {"PRIVATE_REGISTRY": "http://me:hunter2@registry"} | LOGIN,
            (
                "PRIVATE_REGISTRY: local_registries.{}.upstream[0]: expected a URL without"
                " credentials (which are settings beside it)"
            ),
        ),
        (
            UPSTREAM,
            (
                "PRIVATE_REGISTRY: local_registries.{}: nobody may use it; expected username and"
                " password_file for one user, htpasswd for several, or anonymous: [pull] for"
                " everybody without a password; as variables: USERNAME and PASSWORD, HTPASSWD_FILE,"
                " ANONYMOUS=pull"
            ),
        ),
        (
            UPSTREAM | {"USERNAME": "ann"},
            (
                "USERNAME: local_registries.{}.username: expected password or password_file beside"
                " username"
            ),
        ),
        (
            UPSTREAM | {"PASSWORD": "hunter2"},
            "PASSWORD: local_registries.{}.password: expected username beside password",
        ),
        (
            UPSTREAM | LOGIN | {"PASSWORD_FILE": "/no/hunter"},
            (
                "PASSWORD_FILE: local_registries.{}.password_file: expected a file that can be"
                " read; /no/hunter: No such file or directory"
            ),
        ),
        (
            UPSTREAM | LOGIN | {"READ_ONLY": "perhaps"},
            "READ_ONLY: local_registries.{}.read_only: expected true or false; got 'perhaps'",
        ),
        (
            UPSTREAM | LOGIN | {"REGISTRIES": NAME},
            (
                "PRIVATE_REGISTRY: local_registries.{}: expected a name that is not among"
                " registries, too"
            ),
        ),
        (
            {"ENTREPOT_LOCAL_REGISTRIES__A": "x"},
            (
                "ENTREPOT_LOCAL_REGISTRIES__A: names no setting; local registries are set by"
                " PRIVATE_REGISTRY or the file"
            ),
        ),
    ],
)
def test_errors_name_the_variable(loading: Loading, environ: Mapping[str, str], error: str) -> None:
    errors = loading.errors(None, environ)
    assert errors == [error.format(NAME)]
    assert "hunter2" not in errors[0]


def test_password_and_users_at_once(loading: Loading, tmp_path: Path) -> None:
    users = tmp_path / "users"
    users.touch()
    (error,) = loading.errors(None, UPSTREAM | LOGIN | {"HTPASSWD_FILE": str(users)})
    assert error.endswith("expected htpasswd, or username with its password, not both")


@pytest.mark.parametrize("text", ["local_registries: 5", "local_registries: {a.lan: 5}"])
def test_what_the_file_has_wrong_stays_an_error(loading: Loading, text: str) -> None:
    assert "file:1: local_registries" in loading.errors(text, LOGIN)[0]
