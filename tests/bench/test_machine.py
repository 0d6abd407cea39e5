"""What a process and its children use is seen from outside."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from bench.machine import anonymous_mb, cpu_seconds, tree

_PARENT = """
import subprocess, sys
held = bytearray(b"x") * (64 << 20)
code = "n = sum(range(10**7)); print(1, flush=True); input()"
child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
input()
child.communicate(b"\\n")
print("ended", flush=True)
input()
"""


@pytest.fixture
def parent() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", _PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "1\n"
        yield process
        process.kill()


def test_children_count(parent: subprocess.Popen[str]) -> None:
    assert len(tree(parent.pid)) == 2
    used = cpu_seconds(parent.pid)
    assert used > 0.02
    assert anonymous_mb(parent.pid) > 64
    assert anonymous_mb(tree(parent.pid)[1]) < 64


def test_children_that_have_ended_count(parent: subprocess.Popen[str]) -> None:
    before = cpu_seconds(tree(parent.pid)[1])
    assert parent.stdin is not None
    assert parent.stdout is not None
    parent.stdin.write("\n")
    parent.stdin.flush()
    assert parent.stdout.readline() == "ended\n"
    assert tree(parent.pid) == [parent.pid]
    assert cpu_seconds(parent.pid) >= before > 0


def test_this_process_is_its_own_tree() -> None:
    assert tree(os.getpid())[0] == os.getpid()
