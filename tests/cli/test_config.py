"""`entrepot config` as people and scripts call it."""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from entrepot.cli.config import config_group
from entrepot.config.template import render_documented, shipped


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "entrepot.yaml"
    path.write_text("tags: {ttl: 5m}\nauth: {secret: hunter2-and-seven-more}\n")
    return path


def run(*arguments: str | Path, **environ: str) -> Result:
    # Nothing of the machine's own proxy settings may come in.
    empty = dict.fromkeys(("HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy"), "")
    words = [str(argument) for argument in arguments]
    return CliRunner().invoke(config_group, words, env={**empty, **environ})


def test_show_prints_what_is_in_force(file: Path) -> None:
    result = run("show", "--config", file, ENTREPOT_TAGS__LIST_TTL="7s")
    assert result.exit_code == 0
    assert "  ttl: 5m\n" in result.stdout
    assert "  list_ttl: 7s\n" in result.stdout
    assert "secret: (hidden)\n" in result.stdout
    assert "hunter2" not in result.output


def test_show_prints_json_for_scripts(file: Path) -> None:
    result = run("show", "--json", "--config", file)
    settings = json.loads(result.stdout)
    assert settings["tags"]["ttl"] == "5m"
    assert settings["auth"]["secret"] == "(hidden)"
    assert settings["tunnel"]["ports"] == [443, 80, 5000, 8443]


def test_check_says_that_all_is_right(file: Path) -> None:
    result = run("check", "--config", file)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "right" in result.stdout


def test_check_says_all_that_is_wrong(file: Path) -> None:
    file.write_text("tags: {ttl: soon}\nlisten: x\n")
    result = run("check", "--config", file)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert f"{file}:1: tags.ttl: expected a duration" in result.stderr
    assert f"{file}:2: listen: expected an address" in result.stderr


def test_warnings_go_to_stderr(file: Path) -> None:
    result = run("show", "--json", "--config", file, DEBUG="true")
    assert result.exit_code == 0
    assert result.stderr.startswith("Warning: DEBUG has no effect: ")
    json.loads(result.stdout)


def test_check_says_what_is_not_there(file: Path) -> None:
    file.write_text("registries:\n  a.io: {exec: /nowhere/give}\n")
    result = run("check", "--config", file)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        f"Error: {file}:2: registries.a.io.exec:"
        " expected a program that can be started; /nowhere/give is none\n"
    )
    assert run("show", "--config", file).exit_code == 0


def test_check_reads_the_files_that_serve_reads(file: Path, tmp_path: Path) -> None:
    for name, content in {"users": "ann:hunter2\n", "empty": "\n", "secrets": "hunter2\n"}.items():
        (tmp_path / name).write_text(content)
    file.write_text(
        "clients: {username: ann, password_file: empty}\n"
        "auth: {secret_file: secrets}\n"
        "local_registries: {a.lan: {upstream: 'http://b:1', htpasswd: users}}\n"
    )
    result = run("check", "--config", file)
    assert (result.exit_code, result.stdout) == (1, "")
    password, users, secret = result.stderr.splitlines()
    assert secret.startswith(f"auth.secret_file: {tmp_path}/secrets, line 1: expected")
    assert password.startswith(f"Error: clients.password_file: {tmp_path}/empty: ")
    assert users.startswith(f"local_registries.a.lan.htpasswd: {tmp_path}/users: line 1: expected")
    assert "hunter2" not in result.stderr


def test_check_makes_nothing(file: Path, tmp_path: Path) -> None:
    file.write_text("data: data\n")
    assert run("check", "--config", file).exit_code == 0
    assert list(tmp_path.iterdir()) == [file]


def test_only_who_serves_minds_a_proxy_that_leads_back(file: Path) -> None:
    loop = "http://localhost:3128"
    assert run("show", "--config", file, HTTPS_PROXY=loop).exit_code == 0
    result = run("check", "--config", file, HTTPS_PROXY=loop)
    assert result.exit_code == 1
    assert "ENTREPOT_UPSTREAM__PROXY=none" in result.stderr
    right = run("check", "--config", file, HTTPS_PROXY=loop, ENTREPOT_UPSTREAM__PROXY="none")
    assert right.exit_code == 0


def test_an_unreadable_file_is_a_bad_configuration(
    file: Path, nobody: Callable[[], AbstractContextManager[None]]
) -> None:
    file.chmod(0o600)
    with nobody():
        result = run("check", "--config", file)
    assert result.exit_code == 1
    assert result.stderr == f"Error: {file}: cannot be read: Permission denied for user nobody\n"


def test_a_missing_file_is_a_bad_configuration(tmp_path: Path) -> None:
    result = run("check", "--config", tmp_path / "none.yaml")
    assert result.exit_code == 1
    assert "none.yaml: cannot be read" in result.stderr


def test_a_wrong_option_is_a_usage_error() -> None:
    assert run("check", "--nonsense").exit_code == 2


def test_the_file_comes_from_a_variable(file: Path) -> None:
    assert "ttl: 5m" in run("show", ENTREPOT_CONFIG=str(file)).stdout


def test_template_prints_the_shipped_file() -> None:
    result = run("template")
    assert result.stdout == render_documented(shipped())
