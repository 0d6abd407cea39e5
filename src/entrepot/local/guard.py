"""Runs a command for as long as somebody says that it may go on: `python -m entrepot.local.guard`.

    guard PATIENCE COMMAND...    a byte on stdin each now and then; the end of stdin ends it

A collection must not outlive the hold under which it runs. The job that renews the hold may be
killed with -9, stopped, or stand still with its machine: then no byte comes, and the command and
what it has started are killed. Should this process be killed itself, the kernel kills the command.
It knows the standard library only: it is to be there at once, and to be small.
"""

import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress

KILLED, NOT_STARTED = 125, 127
_LOOK_S = 0.1
_GRACE_S = 2.0  # between SIGTERM and SIGKILL
_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> int:
    patience_s, command = float(arguments[0]), arguments[1:]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(KILLED))
    try:
        child = subprocess.Popen(  # noqa: S603 - the operator's command, and no shell
            command,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - this process has one thread
        )
    except (OSError, subprocess.SubprocessError) as error:
        reason = getattr(error, "strerror", None) or error
        sys.stderr.write(f"{command[0]} cannot be started: {reason}\n")
        return NOT_STARTED
    try:
        return _watch(child, patience_s)
    finally:
        _kill(child)


def _watch(child: subprocess.Popen[bytes], patience_s: float) -> int:
    heard_at = _now()
    while not _has_ended(child):
        ready, _, _ = select.select([sys.stdin], [], [], _LOOK_S)
        if ready:
            if not os.read(sys.stdin.fileno(), 4096):
                return KILLED
            heard_at = _now()
        elif _now() - heard_at > patience_s:
            return KILLED
    _kill(child)  # what it left behind
    return child.returncode


def _has_ended(child: subprocess.Popen[bytes]) -> bool:
    """Without reaping it: until then its process group cannot become another's."""
    return os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _kill(child: subprocess.Popen[bytes]) -> None:
    """The command and its process group. Nothing where it has been reaped."""
    if child.returncode is not None:
        return
    if not _has_ended(child):
        _signal_group(child, signal.SIGTERM)
        deadline = _now() + _GRACE_S
        while not _has_ended(child) and _now() < deadline:
            time.sleep(_LOOK_S)
    _signal_group(child, signal.SIGKILL)
    child.wait()


def _signal_group(child: subprocess.Popen[bytes], number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, number)


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _now() -> float:
    """Goes on while the machine sleeps, as the life of a hold does."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
