"""`make` on a machine that has just been set up, or only half."""

import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.packaging.checkout import copy_checkout

# Answers as a Python that fits (0), has no venv (3), is too old (4), or is a shim for none (127).
_PYTHON = """#!/bin/sh
case $2 in *'version_info[:2]'*) echo 3.13 && exit ;; esac
[ {status} -eq 0 ] && echo {path}
exit {status}
"""
OLD, WITHOUT_VENV, FITS, SHIM = 4, 3, 0, 127


@dataclass(slots=True)
class Shelf:
    """Pythons that are none, in places where they are looked for."""

    directory: Path
    script: Path

    def add(self, place: str, status: int) -> Path:
        file = self.directory / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(_PYTHON.format(status=status, path=file))
        file.chmod(0o755)
        return file

    def find(self, **env: str) -> subprocess.CompletedProcess[str]:
        home = {"HOME": str(self.directory / "home"), "PATH": f"{self.directory / 'bin'}"}
        return subprocess.run(
            ["/bin/sh", self.script],
            env={**home, **env},
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture
def shelf(tmp_path: Path, repository_root: Path) -> Shelf:
    (tmp_path / "bin").mkdir()
    shelf = Shelf(tmp_path, repository_root / "scripts/find-python.sh")
    (tmp_path / "bin/cat").symlink_to("/bin/cat")
    return shelf


def test_the_newest_on_the_path(shelf: Shelf) -> None:
    shelf.add("bin/python3", FITS)
    newest = shelf.add("bin/python3.13", FITS)
    shelf.add("bin/python3.14", SHIM)
    assert shelf.find().stdout.strip() == str(newest)


def test_the_default_python_is_too_old(shelf: Shelf) -> None:
    shelf.add("bin/python3", OLD)
    shelf.add("bin/python3.13", WITHOUT_VENV)
    found = shelf.add("bin/python", FITS)
    assert shelf.find().stdout.strip() == str(found)


@pytest.mark.parametrize("root", ["home/.pyenv", "elsewhere"])
def test_pyenv_without_an_active_version(shelf: Shelf, root: str) -> None:
    shelf.add("bin/python3.13", SHIM)
    shelf.add(f"{root}/versions/3.11.7/bin/python", OLD)
    shelf.add(f"{root}/versions/3.13.0t/bin/python", FITS)
    shelf.add(f"{root}/versions/3.12.1/bin/python", FITS)
    found = shelf.add(f"{root}/versions/3.13.2/bin/python", FITS)
    env = {} if root.startswith("home") else {"PYENV_ROOT": str(shelf.directory / root)}
    assert shelf.find(**env).stdout.strip() == str(found)


def test_no_python_that_fits(shelf: Shelf) -> None:
    shelf.add("bin/python3", OLD)
    done = shelf.find()
    assert done.returncode == 1
    assert done.stdout == ""
    for word in ("3.12", "apt-get install", "dnf install", "brew install", "pyenv install"):
        assert word in done.stderr


def test_venv_is_missing(shelf: Shelf) -> None:
    shelf.add("bin/python3.13", WITHOUT_VENV)
    done = shelf.find()
    assert done.returncode == 1
    assert "apt-get install python3.13-venv" in done.stderr


def test_an_interpreter_by_name(shelf: Shelf) -> None:
    shelf.add("bin/python3", FITS)
    mine = shelf.add("opt/python", FITS)
    old = shelf.add("opt/old", OLD)
    assert shelf.find(PYTHON=str(mine)).stdout.strip() == str(mine)
    done = shelf.find(PYTHON=str(old))
    assert done.returncode == 1
    assert f"PYTHON={old} is not" in done.stderr


def make(
    checkout: Path, *arguments: str, env: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", *arguments], cwd=checkout, env=env, capture_output=True, text=True, check=False
    )


def test_help_is_the_default(repository_root: Path, quiet_environment: dict[str, str]) -> None:
    done = make(repository_root, env=quiet_environment)
    assert done.returncode == 0
    assert "make run" in done.stdout


def it_runs(checkout: Path, env: Mapping[str, str]) -> None:
    """`make run`, until it is told to stop as by Ctrl-C: with all that make started."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = ["make", "run", f"ARGS=--listen 127.0.0.1:{port}"]
    with subprocess.Popen(
        command,
        cwd=checkout,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        text=True,
    ) as running:
        try:
            said = next(line for line in running.stdout or () if "listening on" in line)
            assert str(port) in said
            with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as proxy:
                proxy.request("GET", "/ca.crt")
                assert proxy.getresponse().read() == (checkout / "ca/ca.crt").read_bytes()
        finally:
            os.killpg(running.pid, signal.SIGINT)
    assert (checkout / ".data").is_dir()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_fresh_clone(
    tmp_path: Path, repository_root: Path, quiet_environment: dict[str, str]
) -> None:
    checkout = copy_checkout(repository_root, tmp_path / "a path with blanks")
    env = quiet_environment
    python = f"PYTHON={os.path.realpath(sys.executable)}"
    done = make(checkout, "setup", python, env=env)
    assert done.returncode == 0, done.stderr
    run = subprocess.run(
        [checkout / ".venv/bin/python", "-c", "import entrepot; print(entrepot.__file__)"],
        capture_output=True, check=True, cwd=tmp_path, text=True,
    )  # fmt: skip
    assert run.stdout.strip() == str(checkout / "src/entrepot/__init__.py")

    # Once: nothing is installed again, until pyproject.toml changes or the checkout moves.
    assert make(checkout, "setup", env=env).stderr == ""
    with (checkout / "pyproject.toml").open("a") as project:
        project.write("\n")
    assert "Installing" in make(checkout, "setup", env=env).stderr

    # What is asked for reaches the command, and its status comes back.
    done = make(checkout, "test", "ARGS=--version", env=env)
    assert done.returncode == 0
    assert "pytest" in done.stdout
    assert make(checkout, "test", "ARGS=no/such/test", env=env).returncode != 0

    it_runs(checkout, env)

    assert make(checkout, "clean", env=env).returncode == 0
    assert (checkout / "ca/ca.crt").exists()
    assert not (checkout / ".venv").exists()
    shutil.rmtree(checkout)
