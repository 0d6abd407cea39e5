"""The systemd units."""

import subprocess
from pathlib import Path

import pytest

UNITS = ("entrepot.service", "entrepot-announce.service")
# Laid over units, one of Debian's among them.
DROP_INS = {
    "registry.conf": "docker-registry.service",
    "entrepot-registry.conf": "entrepot.service",
}


def assignments(unit: Path) -> list[tuple[str, str]]:
    lines = (line for line in unit.read_text().splitlines() if "=" in line and line[0] != "#")
    return [(name, value) for name, _, value in (line.partition("=") for line in lines)]


@pytest.fixture
def installed(tmp_path: Path, repository_root: Path) -> Path:
    """The units beside programs that exist: verify asks for each ExecStart."""
    for name in UNITS:
        text = (repository_root / "packaging" / name).read_text()
        text = text.replace("/opt/entrepot/.venv/bin/entrepot", "/bin/true")
        text = text.replace("/usr/bin/avahi-publish", "/bin/true")
        (tmp_path / name).write_text(text)
    (tmp_path / "avahi-daemon.service").write_text("[Service]\nExecStart=/bin/true\n")
    return tmp_path


@pytest.mark.parametrize("name", UNITS)
def test_systemd_understands_every_line(installed: Path, name: str) -> None:
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", installed / name],
        capture_output=True,
        check=False,
        text=True,
    )
    # It looks at the units of the machine too: only what it says of ours counts.
    said = [line for line in done.stderr.splitlines() if name in line]
    assert said == []


@pytest.mark.parametrize("name", DROP_INS)
def test_systemd_understands_what_is_laid_over(
    installed: Path, repository_root: Path, name: str
) -> None:
    unit = installed / DROP_INS[name]
    if not unit.exists():
        unit.write_text("[Service]\nExecStart=/bin/true\n")
    unit.write_text(unit.read_text() + (repository_root / "packaging" / name).read_text())
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", unit],
        capture_output=True,
        check=False,
        text=True,
    )
    assert [line for line in done.stderr.splitlines() if unit.name in line] == []


@pytest.mark.parametrize(
    ("name", "score"), [("entrepot.service", 16), ("entrepot-announce.service", 35)]
)
def test_exposure(installed: Path, name: str, score: int) -> None:
    """Ten times what systemd-analyze says; 96 is a service that is not hardened at all."""
    subprocess.run(
        [
            "systemd-analyze", "security", "--offline=true", "--no-pager",
            f"--threshold={score}", installed / name,
        ],
        check=True,
        capture_output=True,
    )  # fmt: skip


def test_the_proxy(repository_root: Path) -> None:
    found = dict(assignments(repository_root / "packaging/entrepot.service"))
    assert found["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert found["KillSignal"] == "SIGTERM"
    # More than clients.drain, or running pulls would be cut off.
    assert int(found["TimeoutStopSec"]) > 30
    assert found["LimitNOFILE"] == "65536"
    assert found["StateDirectory"] == "entrepot"
    # cffi's callbacks need memory that is written and run: see the unit.
    assert "MemoryDenyWriteExecute" not in found
