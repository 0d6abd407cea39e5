"""Users and their passwords, of the proxy and of local registries alike."""

from pathlib import Path

import pytest

from tests.config.loading import Loading


@pytest.fixture(params=["clients", "local_registries.a.lan"])
def section(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def written(section: str, settings: str) -> str:
    if section == "clients":
        return f"clients: {{{settings}}}"
    return f"local_registries: {{a.lan: {{upstream: 'http://b:1', {settings}}}}}"


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ("username: ann", "username: expected password or password_file beside username"),
        ("password: hunter2", "password: expected username beside password"),
        ("password_file: FILE", "password_file: expected username beside password_file"),
        (
            "username: ann, password: hunter2, password_file: FILE",
            "password_file: expected one of password and password_file",
        ),
        ("username: 'a:b', password: hunter2", "username: expected a name without a colon"),
        (
            "htpasswd: FILE, username: ann, password: hunter2",
            "htpasswd: expected htpasswd, or username with its password, not both",
        ),
        (
            "htpasswd: FILE, password_file: FILE",
            "htpasswd: expected htpasswd, or username with its password, not both",
        ),
        (
            "htpasswd: /no/such",
            "htpasswd: expected a file that can be read; /no/such: No such file or directory",
        ),
    ],
)
def test_who_has_a_password_is_said_in_one_way(
    loading: Loading, tmp_path: Path, section: str, settings: str, error: str
) -> None:
    file = tmp_path / "password"
    file.write_text("hunter2")
    text = written(section, settings.replace("FILE", str(file)))
    assert loading.errors(text) == [f"file:1: {section}.{error}"]


@pytest.mark.parametrize(
    "settings",
    ["username: ann, password: x", "username: ann, password_file: FILE", "htpasswd: FILE"],
)
def test_each_way_is_right_alone(
    loading: Loading, tmp_path: Path, section: str, settings: str
) -> None:
    file = tmp_path / "password"
    file.touch()
    loading.config(written(section, settings.replace("FILE", str(file))))
