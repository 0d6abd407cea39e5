"""What verbs share."""

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from entrepot.cli import options
from entrepot.cli.options import config_option, load_for_cli


@click.command()
@config_option
def verb(config_path: Path | None) -> None:
    click.echo(repr(config_path))


@pytest.fixture
def default_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "default.yaml"
    monkeypatch.setattr(options, "DEFAULT_FILE", path)
    return path


def test_without_file(default_file: Path) -> None:
    assert CliRunner().invoke(verb).stdout == "None\n"


def test_the_default_file_is_used_where_it_exists(default_file: Path) -> None:
    default_file.touch()
    assert CliRunner().invoke(verb).stdout == f"{default_file!r}\n"


def test_the_variable_comes_before_the_default_and_the_flag_before_both(
    default_file: Path,
) -> None:
    default_file.touch()
    environ = {"ENTREPOT_CONFIG": "/variable.yaml"}
    assert "'/variable.yaml'" in CliRunner().invoke(verb, env=environ).stdout
    result = CliRunner().invoke(verb, ["--config", "/flag.yaml"], env=environ)
    assert "'/flag.yaml'" in result.stdout


def test_flags_override_and_warnings_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "entrepot.yaml"
    path.write_text("listen: ':1'\n")
    monkeypatch.setenv("CA_SRL_FILE", "/ca/ca.srl")
    assert load_for_cli(path, {"listen": ":2"}).listen == "*:2"
    assert capsys.readouterr().err.startswith("Warning: CA_SRL_FILE has no effect")


def test_a_bad_configuration_ends_the_command_with_1(tmp_path: Path) -> None:
    with pytest.raises(click.ClickException, match="cannot be read") as caught:
        load_for_cli(tmp_path / "none.yaml")
    assert caught.value.exit_code == 1
