"""A small Debian 13 in a directory, kept as an archive so that only the first run waits for it."""

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SUITE = "trixie"
_PACKAGES = "ca-certificates,curl,openssl,python3,python3-venv"
_CACHES = (Path("/var/cache/entrepot-tests"), Path(tempfile.gettempdir()) / "entrepot-tests")
# Made anew when what is in it changes.
_ARCHIVE = f"{SUITE}-{_PACKAGES.replace(',', '_')}.tar"


def why_not() -> str | None:
    """Why there can be none here."""
    if os.geteuid() != 0:
        return "a chroot needs root"
    if shutil.which("debootstrap") is None:
        return "debootstrap is not installed"
    return None


def archive() -> Path:
    """Builds it if it is not there; two that come at once build it once."""
    directory = next(each for each in _CACHES if _usable(each))
    finished = directory / _ARCHIVE
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not finished.exists():
            _build(finished)
    return finished


def _usable(directory: Path) -> bool:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(directory, os.W_OK)


def _build(finished: Path) -> None:
    with tempfile.TemporaryDirectory(dir=finished.parent) as directory:
        tree = Path(directory) / "tree"
        _run(
            ["debootstrap", "--variant=minbase", f"--include={_PACKAGES}", SUITE, tree],
            attempts=2,
        )
        shutil.rmtree(tree / "var/cache/apt/archives")
        packed = Path(directory) / "packed.tar"
        _run(["tar", "--create", "--file", packed, "--directory", tree, "."])
        packed.rename(finished)


def _run(command: list[str | Path], *, attempts: int = 1) -> None:
    for attempt in range(1, attempts + 1):
        done = subprocess.run(command, capture_output=True, check=False, text=True)
        if done.returncode == 0:
            return
        if attempt == attempts:
            raise RuntimeError(f"{command[0]}: {done.stdout[-2000:]}{done.stderr[-2000:]}")


@dataclass(frozen=True, slots=True)
class Debian:
    root: Path

    @classmethod
    def unpack(cls, root: Path) -> "Debian":
        root.mkdir()
        _run(["tar", "--extract", "--file", archive(), "--directory", root])
        debian = cls(root)
        debian._trust_what_the_machine_trusts()
        for name in ("etc/resolv.conf", "etc/hosts", "etc/pip.conf"):
            if Path("/", name).exists():
                shutil.copy(Path("/", name), root / name)
        return debian

    def _trust_what_the_machine_trusts(self) -> None:
        """Package mirrors may be behind a CA of the site's own."""
        local = Path("/usr/local/share/ca-certificates")
        for certificate in local.glob("*.crt"):
            shutil.copy(certificate, self.root / local.relative_to("/"))
        self.run("update-ca-certificates")

    def write(self, path: str, text: str, *, mode: int = 0o644) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)

    def run(
        self, *command: str, stdin: bytes = b"", env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        # /proc of a new PID namespace, which ends with the command and takes all of it along.
        enter = 'mount -t proc proc "$0/proc" && exec chroot "$0" "$@"'
        done = subprocess.run(
            [
                "unshare", "--mount", "--pid", "--fork", "--kill-child",
                "sh", "-c", enter, self.root, *command,
            ],
            input=stdin,
            capture_output=True,
            check=False,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"} | dict(env or {}),
        )  # fmt: skip
        return subprocess.CompletedProcess(
            command, done.returncode, done.stdout.decode(), done.stderr.decode()
        )


def pip_settings() -> dict[str, str]:
    """What tells pip of this machine where packages are, but for files of this machine alone."""
    return {
        name: value
        for name, value in os.environ.items()
        if name in {"PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST", "PIP_CERT"}
    }
