import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography import x509

from entrepot.ca.issuer import key_pem, make_root, pem
from entrepot.cli.ca import ca_group
from entrepot.clock import SystemClock

type Run = Callable[..., Result]


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    file = tmp_path / "entrepot.yaml"
    file.write_text(f"data: {tmp_path}/data\n")
    return file


@pytest.fixture
def run(settings: Path) -> Run:
    def invoke(verb: str, *arguments: str, answer: str | None = None) -> Result:
        command = [verb, "--config", str(settings), *arguments]
        return CliRunner().invoke(ca_group, command, input=answer)

    return invoke


def _shown(run: Run) -> dict[str, object]:
    result = run("show", "--json")
    assert result.exit_code == 0, result.output
    shown = json.loads(result.stdout)
    assert isinstance(shown, dict)
    return shown


def test_init_tells_where_and_which(run: Run, tmp_path: Path) -> None:
    result = run("init")
    assert result.exit_code == 0
    assert str(tmp_path / "data" / "ca" / "ca.crt") in result.stdout
    assert str(_shown(run)["fingerprint"]) in result.stdout


def test_init_keeps_what_is_there(run: Run) -> None:
    assert run("init").output == run("init").output


def test_the_directory_is_the_settings_or_the_data_option(
    run: Run, settings: Path, tmp_path: Path
) -> None:
    run("init", "--data", str(tmp_path / "other"))
    assert (tmp_path / "other" / "ca" / "ca.key").exists()
    settings.write_text(f"ca: {{directory: {tmp_path}/third}}\n")
    run("init", "--data", str(tmp_path / "other"))
    assert (tmp_path / "third" / "ca.key").exists()


@pytest.mark.parametrize("verb", ["show", "export", "rotate"])
def test_only_init_makes_a_ca(run: Run, tmp_path: Path, verb: str) -> None:
    result = run(verb)
    assert result.exit_code == 1
    assert "`entrepot ca init` makes one" in result.stderr
    assert not (tmp_path / "data").exists()


def test_show_is_for_people_too(run: Run) -> None:
    run("init")
    lines = run("show").stdout.splitlines()
    assert lines[0].startswith("subject             CN=Entrepot CA ")
    assert "permitted           -" in lines


def test_show_tells_the_limits(run: Run, settings: Path) -> None:
    settings.write_text(settings.read_text() + "ca: {name_constraints: true}\n")
    run("init")
    shown = _shown(run)
    permitted = shown["permitted"]
    assert isinstance(permitted, list)
    assert {"docker-registry.local", "docker.io"} <= set(permitted)
    assert shown["excluded"] == ["0.0.0.0/0", "::/0"]
    assert shown["warnings"] == []


def test_warnings_go_to_stderr(run: Run, tmp_path: Path) -> None:
    run("init")
    (tmp_path / "data" / "ca" / "ca.key").chmod(0o644)
    result = run("show", "--json")
    assert "Warning: " in result.stderr
    assert "chmod 600" in json.loads(result.stdout)["warnings"][0]


def test_rotate_announces_a_successor(run: Run) -> None:
    run("init")
    before = _shown(run)
    result = run("rotate", "--overlap", "2d", "--yes")
    assert result.exit_code == 0, result.output
    after = _shown(run)
    assert after["fingerprint_sha256"] == before["fingerprint_sha256"]
    assert str(after["next_fingerprint"]) in result.stdout
    assert str(after["next_signs_from"])[:10] in result.stdout
    assert len(x509.load_pem_x509_certificates(run("export").stdout_bytes)) == 2


def test_rotate_asks_first(run: Run) -> None:
    run("init")
    assert run("rotate", answer="n\n").exit_code == 1
    assert _shown(run)["next_signs_from"] is None
    assert run("rotate", answer="y\n").exit_code == 0
    assert _shown(run)["next_signs_from"] is not None


def test_rotate_once_at_a_time(run: Run) -> None:
    run("init")
    run("rotate", "--yes")
    result = run("rotate", "--yes")
    assert result.exit_code == 1
    assert "a rotation is pending" in result.stderr


def test_rotate_at_once(run: Run) -> None:
    run("init")
    before = _shown(run)["fingerprint_sha256"]
    assert run("rotate", "--overlap", "0s", "--yes").exit_code == 0
    assert _shown(run)["fingerprint_sha256"] != before


def test_an_overlap_that_is_none_is_refused(run: Run) -> None:
    run("init")
    result = run("rotate", "--overlap", "soon", "--yes")
    assert result.exit_code == 1
    assert "--overlap: expected a duration" in result.stderr


def test_export_writes_pem_or_der(run: Run, tmp_path: Path) -> None:
    run("init")
    (certificate,) = x509.load_pem_x509_certificates(run("export").stdout_bytes)
    output = tmp_path / "out.der"
    result = run("export", "--format", "der", "--output", str(output))
    assert (result.exit_code, result.output) == (0, "")
    assert x509.load_der_x509_certificate(output.read_bytes()) == certificate


def test_der_says_what_it_leaves_out(run: Run) -> None:
    run("init")
    run("rotate", "--yes")
    result = run("export", "--format", "der")
    assert "1 left out" in result.stderr
    x509.load_der_x509_certificate(result.stdout_bytes)


def test_export_to_nowhere_is_told(run: Run, tmp_path: Path) -> None:
    run("init")
    result = run("export", "--output", str(tmp_path / "missing" / "ca.crt"))
    assert result.exit_code == 1
    assert "cannot be written" in result.stderr


@pytest.fixture
def brought(settings: Path, tmp_path: Path) -> Path:
    root = make_root(SystemClock().now())
    certificate, key = tmp_path / "corp.pem", tmp_path / "corp.key"
    certificate.write_bytes(pem([root.certificate]))
    key.write_bytes(key_pem(root.key))
    key.chmod(0o600)
    text = f"ca: {{certificate: {certificate}, key: {key}}}\n"
    settings.write_text(settings.read_text() + text)
    return certificate


def test_init_checks_ones_own(run: Run, brought: Path, tmp_path: Path) -> None:
    result = run("init")
    assert result.exit_code == 0
    assert str(brought) in result.stdout
    assert not (tmp_path / "data").exists()
    brought.write_bytes(pem([make_root(SystemClock().now()).certificate]))
    result = run("init")
    assert result.exit_code == 1
    assert "ca.key is not its key" in result.stderr


def test_ones_own_is_rotated_where_it_was_made(run: Run, brought: Path) -> None:
    result = run("rotate", "--yes")
    assert result.exit_code == 1
    assert "make its successor where you made it" in result.stderr
