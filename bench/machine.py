"""The machine's cores, and what processes use of it."""

import os
import platform
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_ANONYMOUS = re.compile(r"^Anonymous:\s+(\d+) kB", re.MULTILINE)
_MODEL = re.compile(r"^model name\s*:\s*(.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Cores:
    """Who runs where: the server has a core for itself, upstream and clients share another."""

    server: str
    client: str

    @classmethod
    def of_this_machine(cls) -> "Cores":
        available = sorted(os.sched_getaffinity(0))
        rest = available[1:] or available
        return cls(str(available[0]), ",".join(map(str, rest)))

    def on_server(self) -> list[str]:
        return ["taskset", "-c", self.server]

    def on_client(self) -> list[str]:
        return ["taskset", "-c", self.client]


@dataclass(frozen=True, slots=True)
class Use:
    seconds: float
    cpu_s: float

    @property
    def cores(self) -> float:
        return self.cpu_s / self.seconds


def tree(pid: int) -> list[int]:
    """A process and all below it that run now."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in _read(task / "children").split():
            with suppress(FileNotFoundError):  # it has ended
                found += tree(int(child))
    return found


def cpu_seconds(pid: int) -> float:
    """Of the process, of all below it, and of those below it that have ended."""
    ticks = 0
    for each in tree(pid):
        fields = _read(Path(f"/proc/{each}/stat")).rpartition(")")[2].split()
        ticks += sum(map(int, fields[11:15]))
    return ticks / _TICKS


def anonymous_mb(pid: int) -> float:
    """Memory of its own that it and all below it hold; page cache and mapped files not."""
    kilobytes = 0
    for each in tree(pid):
        match = _ANONYMOUS.search(_read(Path(f"/proc/{each}/smaps_rollup")))
        kilobytes += int(match[1]) if match else 0
    return kilobytes * 1024 / 1e6


def _read(file: Path) -> str:
    """Empty, where the process has ended meanwhile."""
    try:
        return file.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def measured[T](pid: int, work: Callable[[], T]) -> tuple[T, Use]:
    """What the work gave, and what the process used for it."""
    began, before = time.monotonic(), cpu_seconds(pid)
    done = work()
    return done, Use(time.monotonic() - began, cpu_seconds(pid) - before)


def description() -> str:
    """Of what figures depend on."""
    match = _MODEL.search(Path("/proc/cpuinfo").read_text())
    model = match[1] if match else platform.machine()
    count = len(os.sched_getaffinity(0))
    load = os.getloadavg()[0]
    return (
        f"{count} cores of {model}, Linux {platform.release()},"
        f" Python {platform.python_version()}, load {load:.1f} at the start"
    )
