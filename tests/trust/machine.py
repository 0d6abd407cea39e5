"""A machine to set up: a directory as its root, and tools that note how they were called."""

import hashlib
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "ca/trust/systemd.sh"

# Notes the call; succeeds unless a file says that it should not.
_TOOL = """#!/bin/sh
echo "${0##*/} $*" >>"$MACHINE_CALLS"
[ ! -e "$MACHINE_FAILING/${0##*/}" ]
"""

_SYSTEMCTL = """#!/bin/sh
echo "systemctl $*" >>"$MACHINE_CALLS"
case $1 in
    is-active) [ -e "$MACHINE_RUNNING/$3" ] ;;
    show) echo MainPID=4711 ;;
esac
"""


@dataclass(slots=True)
class Machine:
    directory: Path
    tools: tuple[str, ...]
    shell: tuple[str, ...] = ("dash",)
    path: str = "/usr/bin:/bin"
    root: Path = field(init=False)

    def __post_init__(self) -> None:
        self.root = self.directory / "root"
        for name in ("root/etc/systemd/system", "root/run/systemd/system", "root/usr/lib"):
            (self.directory / name).mkdir(parents=True)
        for name in ("bin", "failing", "running"):
            (self.directory / name).mkdir()
        for tool in self.tools:
            self._install(tool, _TOOL)
        self._install("systemctl", _SYSTEMCTL)

    def _install(self, name: str, text: str) -> None:
        file = self.directory / "bin" / name
        file.write_text(text)
        file.chmod(0o755)

    def write(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def read(self, path: str) -> str:
        return (self.root / path).read_text()

    def add_service(self, name: str, *, running: bool = True) -> None:
        self.write(f"usr/lib/systemd/system/{name}.service", "[Service]\nExecStart=/bin/true\n")
        if running:
            (self.directory / "running" / f"{name}.service").touch()

    def let_fail(self, tool: str) -> None:
        (self.directory / "failing" / tool).touch()

    def run(
        self, *options: str, script: bytes | None = None, env: Mapping[str, str]
    ) -> subprocess.CompletedProcess[str]:
        """The script as it comes out of a pipe: on standard input, its options behind -s."""
        text = SCRIPT.read_bytes() if script is None else script
        done = subprocess.run(
            [*self.shell, "-s", "--", *options],
            input=text,
            capture_output=True,
            env={**self._environment(), **env},
            timeout=60,
            check=False,
        )
        return subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
        )

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": f"{self.directory / 'bin'}:{self.path}",
            "TMPDIR": os.fspath(self.directory),
            "ENTREPOT_ROOT": os.fspath(self.root),
            "MACHINE_CALLS": os.fspath(self.directory / "calls"),
            "MACHINE_FAILING": os.fspath(self.directory / "failing"),
            "MACHINE_RUNNING": os.fspath(self.directory / "running"),
        }

    def calls(self) -> list[str]:
        """What the tools were called with since the last time this was asked."""
        file = self.directory / "calls"
        lines = file.read_text().splitlines() if file.exists() else []
        file.unlink(missing_ok=True)
        return [line for line in lines if not line.startswith(("systemctl is-", "systemctl show"))]

    def snapshot(self) -> dict[str, str]:
        return snapshot(self.root)


def snapshot(root: Path) -> dict[str, str]:
    """Every directory, link and file below, with its mode and what it holds."""
    found = {}
    for path in sorted(root.rglob("*")):
        mode = oct(path.lstat().st_mode)
        if path.is_symlink():
            content = os.fspath(path.readlink())
        elif path.is_file():
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            content = ""
        found[os.fspath(path.relative_to(root))] = f"{mode} {content}"
    return found
