"""Programs started by tests: their output in a file, their end certain."""

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from tests.support.ports import ReservedPort

_POLL_S = 0.02
_STOP_S = 40.0  # longer than what a draining proxy may take
# What a program needs to be found and to find its home; nothing that would change how it behaves
# (proxies, trust stores). Coverage measures subprocesses when it is told to by these.
_PASSED_ON = ("PATH", "HOME", "LANG", "COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG")


@dataclass(frozen=True, slots=True)
class Seat:
    """Where a program runs and listens."""

    address: str = "127.0.0.1"
    port: int = 0  # one that is free
    prefix: Sequence[str] = ()  # of its command line: what enters a namespace
    # How this process reaches it: sockets made within are the namespace's.
    entered: Callable[[], AbstractContextManager[None]] = nullcontext

    def reserve_port(self) -> ReservedPort | None:
        """None where the port is given."""
        if self.port:
            return None
        with self.entered():
            return ReservedPort(self.address)


def dying_with_parent(command: Sequence[str]) -> list[str]:
    """The same, killed when the thread that starts it ends: a test run that crashes leaves nothing.

    Threads come and go, so only what the main one starts is bound to it.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or shutil.which("setpriv") is None:
        return list(command)
    return ["setpriv", "--pdeathsig", "KILL", "--", *command]


class NotReadyError(Exception):
    """A program ended, or did not do in time what it was started for; carries its log's end."""


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    kept = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return kept | dict(extra or {})


class Program:
    """A running program whose output is appended to `log`."""

    def __init__(
        self, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                dying_with_parent(command),
                env=clean_environment(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def wait_ready(self, is_ready: Callable[[], bool], timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while not is_ready():
            if not self.is_running:
                raise NotReadyError(f"ended with {self._process.returncode}\n{self.log_tail()}")
            if time.monotonic() > deadline:
                raise NotReadyError(f"not ready after {timeout_s} s\n{self.log_tail()}")
            time.sleep(_POLL_S)

    def log_tail(self, lines: int = 60) -> str:
        text = self.log.read_text(errors="replace").splitlines()
        return "\n".join([f"--- {self.log}", *text[-lines:]])

    def terminate(self, timeout_s: float = _STOP_S) -> int:
        """Ask it to end; returns its exit status. One that does not in time is killed."""
        self._process.terminate()
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise NotReadyError(f"did not end in {timeout_s} s\n{self.log_tail()}") from None

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
