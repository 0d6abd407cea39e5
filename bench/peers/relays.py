"""Relays of TCP written in C, as peers of tunnels; and the namespace in which tunnels are measured.

The proxy tunnels to no loopback address, and only to ports that are usual, so that all of it lives
in a network of its own that has another address.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.peers.server import Server
from bench.upstream import Upstream
from tests.support.netns import Namespace
from tests.support.pki import TestAuthority
from tests.support.processes import Program

ADDRESS = "10.77.9.1"
_START_S = 20.0
_SOCAT_PORT, _HAPROXY_PORT = 7001, 7002
_SOCAT_BUFFER = 256 << 10  # its own 8 KiB would make it slow


@contextmanager
def network(directory: Path) -> Iterator[Namespace]:
    namespace = Namespace(directory, is_pid_isolated=False)
    try:
        namespace.check("ip", "address", "add", f"{ADDRESS}/32", "dev", "lo")
        yield namespace
    finally:
        namespace.close()


@contextmanager
def socat(
    directory: Path, upstream: Upstream, authority: TestAuthority, prefix: list[str]
) -> Iterator[Server]:
    listens_at = f"TCP-LISTEN:{_SOCAT_PORT},bind={ADDRESS},fork,reuseaddr"
    command = ["socat", "-b", str(_SOCAT_BUFFER), listens_at, f"TCP:{upstream.authority}"]
    with _relay("socat", _SOCAT_PORT, directory, authority, [*prefix, *command]) as server:
        yield server


@contextmanager
def haproxy(
    directory: Path, upstream: Upstream, authority: TestAuthority, prefix: list[str]
) -> Iterator[Server]:
    directory.mkdir()
    file = directory / "haproxy.cfg"
    file.write_text(f"""
global
  nbthread 1
  maxconn 1000
defaults
  mode tcp
  timeout connect 5s
  timeout client 1m
  timeout server 1m
listen relay
  bind {ADDRESS}:{_HAPROXY_PORT}
  server upstream {upstream.authority}
""")
    command = ["haproxy", "-db", "-f", str(file)]
    with _relay("haproxy", _HAPROXY_PORT, directory, authority, [*prefix, *command]) as server:
        yield server


@contextmanager
def _relay(
    name: str, port: int, directory: Path, authority: TestAuthority, command: list[str]
) -> Iterator[Server]:
    directory.mkdir(exist_ok=True)
    program = Program(command, directory / "log")
    try:
        program.wait_ready(lambda: _is_up(program.pid, port), _START_S)
        yield Server(name, f"{ADDRESS}:{port}", authority.ca_file, program.pid)
    finally:
        program.terminate()


def _is_up(pid: int, port: int) -> bool:
    """Looked up in its own network: a connection from here would not reach it."""
    table = Path(f"/proc/{pid}/net/tcp").read_text()
    return f":{port:04X} 00000000:0000 0A" in table
