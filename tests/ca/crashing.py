"""A process that dies between two changes to the file system, at each place in turn."""

import os
import sys
import warnings
from collections.abc import Callable

_CHANGES = frozenset({"open", "os.link", "os.mkdir", "os.remove", "os.rename"})
_DIED, _FAILED = 9, 2


def dies_before(step: int, action: Callable[[], object]) -> bool:
    """Runs the action in a child that dies as by SIGKILL before its change number `step`.

    Whether it died: once it does not, every step has had its turn.
    """
    with warnings.catch_warnings():
        # Threads of other tests' fixtures do not live on in the child, which needs none.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        _run_in_child(step, action)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in {0, _DIED}, f"the action failed at step {step}"
    return code == _DIED


def _run_in_child(step: int, action: Callable[[], object]) -> None:
    changes = 0

    def count(event: str, _: object) -> None:
        nonlocal changes
        if event in _CHANGES:
            changes += 1
            if changes > step:
                os._exit(_DIED)

    try:
        sys.addaudithook(count)
        action()
        os._exit(0)
    finally:
        os._exit(_FAILED)
