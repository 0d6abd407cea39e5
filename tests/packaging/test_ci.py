""".ci/run: what it makes of what make says."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

PASSED = "===== 7 passed in 1.20s ====="


@pytest.fixture
def clone(tmp_path: Path, repository_root: Path) -> Path:
    """A checkout whose Makefile says what a test wants, on a machine where nobody is root."""
    clone = tmp_path / "clone"
    (clone / ".ci").mkdir(parents=True)
    shutil.copy(repository_root / ".ci/run", clone / ".ci/run")
    (tmp_path / "bin").mkdir()
    identity = tmp_path / "bin/id"
    identity.write_text("#!/bin/sh\necho 1000\n")
    identity.chmod(0o755)
    return clone


def run(clone: Path, *, test: str, check: str = "true") -> subprocess.CompletedProcess[str]:
    (clone / "Makefile").write_text(f"setup:\ncheck:\n\t@{check}\ntest:\n\t@{test}\n")
    return subprocess.run(
        ["bash", ".ci/run"],
        cwd=clone,
        env=os.environ | {"PATH": f"{clone.parent / 'bin'}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_all_is_well(clone: Path) -> None:
    done = run(clone, test=f"echo '{PASSED}'")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == PASSED
    assert "not root on Debian" in done.stdout


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("===== 6 passed, 1 skipped in 1.20s =====", 0),
        ("===== 1 failed, 6 passed in 125.20s (0:02:05) =====", 1),
        ("===== no tests ran in 0.01s =====", 5),
    ],
)
def test_what_is_no_success(clone: Path, line: str, status: int) -> None:
    done = run(clone, test=f"echo '{line}'; exit {status}")
    assert done.returncode != 0
    assert done.stdout.splitlines()[-1] == line


def test_pytest_did_not_come_to_its_end(clone: Path) -> None:
    done = run(clone, test="echo collected; kill -9 $$$$")
    assert done.returncode != 0
    assert done.stdout.splitlines()[-1] == "pytest did not come to its end"


def test_a_failed_check_does_not_hide_the_tests(clone: Path) -> None:
    done = run(clone, test=f"echo '{PASSED}'", check="false")
    assert done.returncode != 0
    assert done.stdout.splitlines()[-1] == PASSED


def test_skips_are_failures_in_the_suite_too(clone: Path) -> None:
    done = run(clone, test="echo \"CI is $$CI\"; echo '1 passed in 0.1s'")
    assert "CI is true" in done.stdout
