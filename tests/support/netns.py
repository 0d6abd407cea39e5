"""Namespaces in which clients can reach the proxy and nothing else.

    client ── 10.77.1.0/24 ── proxy ── 10.77.2.0/24 ── upstream

Nothing is forwarded: a client that does not use the proxy reaches nobody. The namespaces have no
names, only processes that hold them, which die with the test's process; what was mounted, linked
or started within goes with them, also after a crash. They are entered by nsenter: `ip netns exec`
would replace /sys and hide the cgroups that dockerd needs.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support.closing import Closing
from tests.support.processes import clean_environment, dying_with_parent

PROXY_TO_CLIENT = "10.77.1.1"
CLIENT = "10.77.1.2"
PROXY_TO_UPSTREAM = "10.77.2.1"
# One address for each upstream, so that all of them have port 443.
UPSTREAMS = tuple(f"10.77.2.{number}" for number in range(2, 8))

_HOLD = "ip link set lo up && echo held && exec sleep infinity"
_TOOLS = ("nsenter", "unshare", "setpriv", "ip", "mount")


def why_impossible() -> str:
    """Why there can be no namespaces here; empty if there can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    tried = subprocess.run(
        ["unshare", "--net", "--mount", "--pid", "--fork", "true"], capture_output=True, check=False
    )
    return tried.stderr.decode().strip() if tried.returncode else ""


class Namespace:
    """A network and mounts of its own, and with `is_pid_isolated` processes that end with it."""

    def __init__(self, directory: Path, *, is_pid_isolated: bool) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._kinds = ["--net", "--mount", *(["--pid"] if is_pid_isolated else [])]
        isolation = ["--fork", "--kill-child", "--mount-proc"] if is_pid_isolated else []
        self._holder = subprocess.Popen(
            dying_with_parent(["unshare", *self._kinds, *isolation, "sh", "-c", _HOLD]),
            stdout=subprocess.PIPE,
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == b"held\n"
        self.pid = self._holder.pid
        if is_pid_isolated:
            children = Path(f"/proc/{self.pid}/task/{self.pid}/children")
            self.pid = int(children.read_text().split()[0])

    def close(self) -> None:
        self._holder.kill()
        self._holder.wait()
        assert self._holder.stdout is not None
        self._holder.stdout.close()

    def command(self, *command: str) -> list[str]:
        """The command line that runs `command` within, and not longer than the test runs."""
        enter = ["nsenter", f"--target={self.pid}", *self._kinds, "--"]
        # Where nsenter has to fork, its child must end with it as it does with us.
        return dying_with_parent([*enter, *dying_with_parent(command)])

    def run(
        self,
        *command: str,
        environment: Mapping[str, str] | None = None,
        timeout_s: float = 60,
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*command),
            env=clean_environment(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )

    def check(self, *command: str) -> str:
        done = self.run(*command)
        if done.returncode:
            raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
        return done.stdout

    @contextmanager
    def entered(self) -> Iterator[None]:
        """New sockets of the thread are the namespace's, and stay so."""
        with (
            Path("/proc/thread-self/ns/net").open("rb") as own,
            Path(f"/proc/{self.pid}/ns/net").open("rb") as target,
        ):
            os.setns(target, os.CLONE_NEWNET)
            try:
                yield
            finally:
                os.setns(own, os.CLONE_NEWNET)

    def resolve(self, addresses: Mapping[str, str]) -> None:
        """Names are known by /etc/hosts; there is no other resolver to wait for."""
        hosts = self._directory / "hosts"
        lines = ["127.0.0.1 localhost", *(f"{ip} {name}" for name, ip in addresses.items())]
        hosts.write_text("\n".join(lines) + "\n")
        resolver = self._directory / "resolv.conf"
        resolver.write_text("")
        self.mount_over("/etc/hosts", hosts)
        self.mount_over("/etc/resolv.conf", resolver)

    def trust(self, *pems: str) -> None:
        """The system's trust store holds these and no other."""
        store = self._directory / "certs"
        store.mkdir(exist_ok=True)
        (store / "ca-certificates.crt").write_text("".join(pems))
        self.mount_over("/etc/ssl/certs", store)

    def mount_over(self, target: str, source: Path) -> None:
        self.check("mount", "--bind", str(source), target)


class Topology(Closing):
    """The three namespaces of the module's drawing."""

    def __init__(self, directory: Path) -> None:
        self._made: list[Namespace] = []
        try:
            self.client = self._make(directory / "client", is_pid_isolated=True)
            # The proxy is watched and killed by the test: its PID must mean the same to both.
            self.proxy = self._make(directory / "proxy", is_pid_isolated=False)
            self.upstream = self._make(directory / "upstream", is_pid_isolated=False)
            _link(self.client, (CLIENT,), self.proxy, (PROXY_TO_CLIENT,))
            _link(self.proxy, (PROXY_TO_UPSTREAM,), self.upstream, UPSTREAMS)
            self.proxy.check("sysctl", "-qw", "net.ipv4.ip_forward=0")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        for namespace in reversed(self._made):
            namespace.close()
        self._made.clear()

    def _make(self, directory: Path, *, is_pid_isolated: bool) -> Namespace:
        namespace = Namespace(directory, is_pid_isolated=is_pid_isolated)
        self._made.append(namespace)
        return namespace


def _link(
    one: Namespace, one_addresses: Sequence[str], other: Namespace, other_addresses: Sequence[str]
) -> None:
    # Each name is used once in a namespace: what leads to the next, and what to the one before.
    ends = ((one, "next", one_addresses), (other, "before", other_addresses))
    pair = ("ip", "link", "add", "next", "type", "veth", "peer", "name", "before")
    subprocess.run(
        ["nsenter", f"--target={one.pid}", "--net", *pair, "netns", str(other.pid)], check=True
    )
    for namespace, interface, addresses in ends:
        for address in addresses:
            namespace.check("ip", "address", "add", f"{address}/24", "dev", interface)
        namespace.check("ip", "link", "set", interface, "up")
