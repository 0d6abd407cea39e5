"""The proxy beside nginx, in one run on one machine: `make bench`.

Warm 1 GiB blob, one stream: MB/s and the server's CPU seconds per GiB. Cached manifest: requests
a second, kept alive and with a new connection (CONNECT, TLS, request) each. The server has core 0,
the client core 1; rounds alternate, medians are shown with their spread. Everything is on loopback.

Ratios carry over to other machines; figures do not.
"""

import argparse
import asyncio
import json
import os
import re
import shutil
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.client import ProxyClient
from tests.support.content import Generated
from tests.support.pki import TestAuthority
from tests.support.ports import ReservedPort
from tests.support.processes import Seat
from tests.support.proxy import ProxyProcess
from tests.support.registry import ScriptedRegistry

GIB = 1 << 30
_TICKS = os.sysconf("SC_CLK_TCK")
_REGISTRY = "registry.test"


@dataclass(frozen=True, slots=True)
class Server:
    """What is measured: how curl and hey reach it, and whose CPU time counts."""

    name: str
    blob_url: str
    manifest_url: str
    via: tuple[str, ...]  # curl and hey call it the same
    headers: tuple[str, ...]
    pids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Round:
    rate: float
    cpu_s: float


def cpu_seconds(pids: tuple[int, ...]) -> float:
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / _TICKS


def measured(server: Server, work: Callable[[], float]) -> Round:
    before = cpu_seconds(server.pids)
    rate = work()
    return Round(rate, cpu_seconds(server.pids) - before)


def download(server: Server, ca_file: Path) -> float:
    """MB/s of the whole blob."""
    command = ["taskset", "-c", "1", "curl", "-sf", "-o", "/dev/null", "--cacert", str(ca_file)]
    for header in server.headers:
        command += ["-H", header]
    command += [*server.via, "-w", "%{size_download} %{time_total}", server.blob_url]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    size, seconds = done.stdout.split()
    assert int(size) == GIB, f"{server.name} sent {size} bytes"
    return int(size) / float(seconds) / 1e6


def requests(server: Server, count: int, *, keep_alive: bool) -> float:
    """Requests a second for the manifest, 16 at a time."""
    command = ["taskset", "-c", "1", "hey", "-cpus", "1", "-n", str(count), "-c", "16"]
    for header in server.headers:
        command += ["-H", header]
    command += [*([] if keep_alive else ["-disable-keepalive"]), *server.via, server.manifest_url]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    answered = re.search(r"\[200\]\s+(\d+) responses", output)
    assert answered, output
    assert int(answered[1]) == count // 16 * 16, output
    match = re.search(r"Requests/sec:\s+([0-9.]+)", output)
    assert match, output
    return float(match[1])


@contextmanager
def nginx(
    directory: Path, authority: TestAuthority, blob: Path, manifest: bytes
) -> Iterator[Server]:
    certificate = authority.issue("127.0.0.1", "localhost")
    reserved = ReservedPort("127.0.0.1")
    port = reserved.number
    root = directory / "nginx"
    root.mkdir()
    (root / "manifest").write_bytes(manifest)
    os.link(blob, root / "blob")
    (root / "nginx.conf").write_text(f"""
        daemon off; worker_processes 1; pid {root}/pid; error_log {root}/error.log; user root;
        events {{ worker_connections 1024; }}
        http {{ access_log off; sendfile on; keepalive_requests 1000000;
          client_body_temp_path {root}/b; proxy_temp_path {root}/p; fastcgi_temp_path {root}/f;
          uwsgi_temp_path {root}/u; scgi_temp_path {root}/s;
          server {{ listen 127.0.0.1:{port} ssl; root {root};
            ssl_certificate {certificate.certificate}; ssl_certificate_key {certificate.key}; }} }}
    """)
    process = subprocess.Popen(["taskset", "-c", "0", "nginx", "-c", str(root / "nginx.conf")])
    try:
        while not (root / "pid").exists() or not (root / "pid").read_text().strip():
            assert process.poll() is None, (root / "error.log").read_text()
            time.sleep(0.02)
        master = int((root / "pid").read_text())
        children = Path(f"/proc/{master}/task/{master}/children").read_text().split()
        base = f"https://127.0.0.1:{port}"
        pids = (master, *map(int, children))
        yield Server("nginx", f"{base}/blob", f"{base}/manifest", (), (), pids)
    finally:
        process.terminate()
        process.wait()


def token_of(proxy: ProxyProcess) -> str:
    trust = ssl.create_default_context(cadata=proxy.ca_pem())
    client = ProxyClient(proxy.address, trust)

    async def ask() -> str:
        challenge = (await client.request("GET", f"https://{_REGISTRY}/v2/")).challenge
        return await client.token(challenge)

    return asyncio.run(ask())


@contextmanager
def entrepot(directory: Path, registry: ScriptedRegistry, bundle: Path) -> Iterator[ProxyProcess]:
    config = {
        "registries": {_REGISTRY: {"endpoints": [registry.url], "ca_bundle": str(bundle)}},
        "tags": {"ttl": "1h"},
        "log": {"level": "warning"},
    }
    seat = Seat(prefix=("taskset", "-c", "0"))
    with ProxyProcess(config, directory / "entrepot", seat=seat) as proxy:
        yield proxy


def summary(rounds: list[Round]) -> dict[str, float]:
    rates = [one.rate for one in rounds]
    return {
        "median": statistics.median(rates),
        "low": min(rates),
        "high": max(rates),
        "cpu_s": statistics.median(one.cpu_s for one in rounds),
    }


def run(rounds: int, directory: Path) -> dict[str, dict[str, dict[str, float]]]:
    authority = TestAuthority(directory)
    blob = Generated(1, GIB)
    with ScriptedRegistry(authority) as registry:
        image = registry.add_image("app", "1.0", (1000,))
        registry.add_blob("app", blob)
        with entrepot(directory, registry, authority.ca_file) as proxy:
            trust = directory / "trust.pem"
            trust.write_text(proxy.ca_pem() + authority.pem)
            base = f"https://{_REGISTRY}/v2/app"
            address = f"{proxy.address[0]}:{proxy.address[1]}"
            ours = Server(
                "entrepot",
                f"{base}/blobs/{blob.digest}",
                f"{base}/manifests/1.0",
                ("-x", f"http://{address}"),
                (f"Authorization: Bearer {token_of(proxy)}", f"Accept: {image.media_type}"),
                (proxy.pid,),
            )
            download(ours, trust)  # fills the cache
            stored = next(
                p for p in proxy.data.rglob("*") if p.is_file() and p.stat().st_size == GIB
            )
            with nginx(directory, authority, stored, image.body) as peer:
                results = compare((ours, peer), rounds, trust)
            results["memory"] = {"entrepot": {"anonymous_mb": proxy.anonymous_memory() / 1e6}}
    return results


def compare(
    servers: tuple[Server, ...], rounds: int, trust: Path
) -> dict[str, dict[str, dict[str, float]]]:
    works: dict[str, Callable[[Server], float]] = {
        "blob_mb_s": lambda server: download(server, trust),
        "keep_alive_per_s": lambda server: requests(server, 16_000, keep_alive=True),
        "connections_per_s": lambda server: requests(server, 1_600, keep_alive=False),
    }
    results = {}
    for name, work in works.items():
        taken: dict[str, list[Round]] = {server.name: [] for server in servers}
        for _ in range(rounds):
            for server in servers:
                taken[server.name].append(measured(server, lambda: work(server)))  # noqa: B023
        results[name] = {server: summary(rounds) for server, rounds in taken.items()}
    return results


def show(results: dict[str, dict[str, dict[str, float]]]) -> None:
    for name, servers in results.items():
        for server, values in servers.items():
            shown = "  ".join(f"{key} {value:,.2f}" for key, value in values.items())
            print(f"{name:20} {server:10} {shown}")
        if "nginx" in servers:
            ratio = servers["entrepot"]["median"] / servers["nginx"]["median"]
            cpu = servers["entrepot"]["cpu_s"] / max(servers["nginx"]["cpu_s"], 0.01)
            print(f"{name:20} {'ratio':10} rate {ratio:.2f}  cpu {cpu:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the results there too")
    arguments = parser.parse_args()
    for tool in ("curl", "hey", "nginx", "taskset"):
        if shutil.which(tool) is None:
            sys.exit(f"{tool} is needed (Debian: nginx-light hey curl util-linux)")
    with tempfile.TemporaryDirectory(prefix="entrepot-bench-") as directory:
        results = run(arguments.rounds, Path(directory))
    show(results)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


main()
