"""Crowds of readers, started and awaited."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bench.clients.drain import Specification
from bench.modules import module_command, module_environment
from bench.peers.server import Server
from tests.support.processes import dying_with_parent

# A record of TLS brings 16 KiB and 22 bytes; the head and the handshake's rest come on top. Records
# of a kilobyte, as a server begins with, cost 2 %.
_OVERHEAD_MOST, _HEAD_MOST = 1.05, 64 << 10


@dataclass(frozen=True, slots=True)
class Drained:
    seconds: tuple[float, ...]  # from the common start, of each
    body_bytes: int  # of all

    @property
    def last_s(self) -> float:
        return max(self.seconds)

    @property
    def mb_s(self) -> float:
        return self.body_bytes / self.last_s / 1e6


def drain(server: Server, path: str, size: int, count: int, prefix: list[str]) -> Drained:
    """Each takes the whole body of that size, or this raises."""
    spec = _specification(server, path, count, rate=0, is_endless=False)
    with _started(spec, prefix) as process:
        output = process.communicate()[0].splitlines()
    assert process.returncode == 0, f"readers of {server.name} failed"
    taken = json.loads(output[-1])
    for number in taken["bytes"]:
        most = size * _OVERHEAD_MOST + _HEAD_MOST
        assert size < number < most, f"{server.name} sent {number} bytes for a body of {size}"
    return Drained(tuple(taken["seconds"]), size * count)


@contextmanager
def crowd(
    server: Server, path: str, count: int, prefix: list[str], *, rate: float = 0
) -> Iterator[None]:
    """Readers that never have enough; when this is entered each has got something."""
    spec = _specification(server, path, count, rate=rate, is_endless=True)
    # What is measured beside them comes first where both want the core; those that keep a pace have
    # to keep it.
    yielding = [] if rate else ["nice", "-n", "19"]
    with _started(spec, [*prefix, *yielding]) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "flowing\n", f"readers of {server.name} failed"
        yield


def _specification(
    server: Server, path: str, count: int, *, rate: float, is_endless: bool
) -> Specification:
    return Specification(
        authority=server.authority,
        trust=str(server.trust),
        proxy=server.proxy,
        path=path,
        headers=server.headers,
        count=count,
        rate=rate,
        is_endless=is_endless,
    )


@contextmanager
def _started(spec: Specification, prefix: list[str]) -> Iterator[subprocess.Popen[str]]:
    command = [*prefix, *module_command("clients.drain", spec.json())]
    with subprocess.Popen(
        dying_with_parent(command), env=module_environment(), stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()
