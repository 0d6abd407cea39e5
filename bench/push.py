"""A push through the proxy beside the same push without it: `python -m bench.push`.

A layer of random bytes, sent as docker sends it (POST, one chunked PATCH, PUT) by curl, or by
skopeo, over TLS all the way, to CNCF distribution and to a sink that throws everything away.
Rounds alternate; medians are shown with their spread and the CPU seconds of each side. All of it
shares one machine: with two processors the proxy's work is time that client and upstream lack,
which a network between them would hide. `--mb-per-s` lets curl send no faster than that, as a
network does.
"""

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.content import Generated
from tests.support.distribution import Distribution
from tests.support.images import Layer as ImageLayer
from tests.support.images import build_image
from tests.support.pki import TestAuthority
from tests.support.ports import ReservedPort
from tests.support.processes import Program
from tests.support.proxy import ProxyProcess

MIB = 1 << 20
_TICKS = os.sysconf("SC_CLK_TCK")
_NAME = "registry.test"


@dataclass(frozen=True, slots=True)
class Way:
    """How curl and skopeo reach the upstream."""

    name: str
    host: str
    proxy: str
    trust: Path
    pids: dict[str, int]


@dataclass(frozen=True, slots=True)
class Layer:
    file: Path
    directory: Path  # an image of that layer, as skopeo has it
    size: int
    digest: str


@dataclass(frozen=True, slots=True)
class Round:
    rate: float
    cpu_s: dict[str, float]


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def curl(way: Way, *arguments: str) -> dict[str, str]:
    """The answer's headers."""
    command = ["curl", "-sSf", "-o", "/dev/null", "-D", "-", "--cacert", str(way.trust)]
    command += ["-x", way.proxy] if way.proxy else []
    done = subprocess.run([*command, *arguments], check=True, capture_output=True, text=True)
    lines = [line.partition(":") for line in done.stdout.splitlines()]
    return {name.lower(): value.strip() for name, _, value in lines}


def push_with_curl(way: Way, layer: Layer, mb_per_s: float) -> None:
    base = f"https://{way.host}"
    place = curl(way, "-X", "POST", f"{base}/v2/app/blobs/uploads/")["location"]
    sent = ["-X", "PATCH", "-H", "Transfer-Encoding: chunked", "-H", "Expect:"]
    if mb_per_s:
        sent += ["--limit-rate", f"{mb_per_s * 1e6:.0f}"]
    place = curl(way, *sent, "-T", str(layer.file), _absolute(base, place))["location"]
    separator = "&" if "?" in place else "?"
    url = f"{_absolute(base, place)}{separator}digest={layer.digest}"
    curl(way, "-X", "PUT", "-H", "Content-Length: 0", url)


def _absolute(base: str, place: str) -> str:
    path = place if place.startswith("/") else "/" + place.split("/", 3)[3]
    return base + path


def push_with_skopeo(way: Way, layer: Layer, mb_per_s: float) -> None:
    assert not mb_per_s, "skopeo knows no limit"
    target = f"docker://{way.host}/app:{time.monotonic_ns()}"
    certificates = way.trust.parent / f"{way.name}.d"
    certificates.mkdir(exist_ok=True)
    shutil.copy(way.trust, certificates / "ca.crt")
    environment = {"PATH": os.environ["PATH"], "HOME": str(way.trust.parent)}
    if way.proxy:
        environment["HTTPS_PROXY"] = way.proxy
    command = ["skopeo", "copy", "-q", "--insecure-policy", "--preserve-digests"]
    command += ["--dest-cert-dir", str(certificates), f"dir:{layer.directory}", target]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def make_layer(directory: Path, size: int, seed: int) -> Layer:
    """Another one each time: what a registry has is not sent again."""
    content = Generated(seed, size)
    image = build_image([ImageLayer(content, content.digest)])
    place = directory / f"image-{seed}"
    place.mkdir()
    (place / "version").write_text("Directory Transport Version: 1.1\n")
    (place / "manifest.json").write_bytes(image.body)
    for blob in image.blobs:
        with (place / blob.digest.removeprefix("sha256:")).open("wb") as file:
            file.writelines(blob.chunks(0, blob.size))
    file_name = place / content.digest.removeprefix("sha256:")
    return Layer(file_name, place, size, content.digest)


@contextmanager
def sink(directory: Path, authority: TestAuthority) -> Iterator[tuple[str, int]]:
    port = ReservedPort("127.0.0.1").number
    certificate = authority.issue("127.0.0.1")
    files = (str(certificate.certificate), str(certificate.key))
    command = [sys.executable, "-m", "bench.sink", str(port), *files]
    program = Program(command, directory / "sink.log")
    try:
        program.wait_ready(lambda: _listens(port), 20)
        yield f"127.0.0.1:{port}", program.pid
    finally:
        program.kill()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def distribution(directory: Path, authority: TestAuthority) -> Iterator[tuple[str, int]]:
    registry = Distribution(directory / "registry", certificate=authority.issue("127.0.0.1"))
    with registry:
        yield f"127.0.0.1:{registry.port}", registry.pid


@contextmanager
def entrepot(
    directory: Path, authority: TestAuthority, host: str, *, keep: bool
) -> Iterator[ProxyProcess]:
    config = {
        "registries": {
            _NAME: {
                "endpoints": [f"https://{host}"],
                "ca_bundle": str(authority.ca_file),
                "push": "allow",
            }
        },
        "log": {"level": "warning"},
        "storage": {"keep_pushes": keep, "min_free": "1GiB"},
    }
    with ProxyProcess(config, directory / f"entrepot-{keep}") as proxy:
        yield proxy


def timed(way: Way, layer: Layer, push: Callable[[], None]) -> Round:
    before = {name: cpu_seconds(pid) for name, pid in way.pids.items()}
    began = time.monotonic()
    push()
    rate = layer.size / (time.monotonic() - began) / 1e6
    spent = {name: cpu_seconds(pid) - before[name] for name, pid in way.pids.items()}
    return Round(rate, spent)


def compare(
    ways: tuple[Way, ...],
    push: Callable[[Way, Layer, float], None],
    arguments: argparse.Namespace,
    directory: Path,
) -> dict[str, object]:
    taken: dict[str, list[Round]] = {way.name: [] for way in ways}
    for number in range(arguments.rounds):
        for index, way in enumerate(ways):
            seed = time.monotonic_ns() + number * len(ways) + index
            layer = make_layer(directory, arguments.mib * MIB, seed)
            done = timed(way, layer, lambda: push(way, layer, arguments.mb_per_s))  # noqa: B023 - called now
            taken[way.name].append(done)
            shutil.rmtree(layer.directory)
    return {name: summary(rounds) for name, rounds in taken.items()}


def summary(rounds: list[Round]) -> dict[str, float]:
    rates = [one.rate for one in rounds]
    cpu = {
        f"{name}_cpu_s": statistics.median(one.cpu_s[name] for one in rounds)
        for name in rounds[0].cpu_s
    }
    return {"mb_s": statistics.median(rates), "low": min(rates), "high": max(rates), **cpu}


_UPSTREAMS = {"distribution": distribution, "sink": sink}
_CLIENTS = {"curl": push_with_curl, "skopeo": push_with_skopeo}


def run(arguments: argparse.Namespace, directory: Path) -> dict[str, object]:
    authority = TestAuthority(directory)
    results: dict[str, object] = {}
    for upstream in arguments.upstreams:
        with (
            _UPSTREAMS[upstream](directory, authority) as (host, pid),
            entrepot(directory / upstream, authority, host, keep=True) as keeping,
            entrepot(directory / upstream, authority, host, keep=False) as passing,
        ):
            trust = directory / "trust.pem"
            pems = {proxy.ca_pem() for proxy in (keeping, passing)}
            trust.write_text("".join(pems) + authority.pem)
            ways = (
                Way("direct", host, "", trust, {"upstream": pid}),
                *(
                    Way(name, _NAME, proxy.url, trust, {"upstream": pid, "proxy": proxy.pid})
                    for name, proxy in (("keeping", keeping), ("passing", passing))
                ),
            )
            for client in arguments.clients:
                if (client, upstream) == ("skopeo", "sink"):
                    continue  # which takes layers, and knows of no manifest
                name = f"{client} to {upstream}"
                results[name] = compare(ways, _CLIENTS[client], arguments, directory)
                show(name, results[name])  # type: ignore[arg-type] # what compare returns
    return results


def show(name: str, ways: dict[str, dict[str, float]]) -> None:
    for way, values in ways.items():
        shown = "  ".join(f"{key} {value:,.2f}" for key, value in values.items())
        ratio = values["mb_s"] / ways["direct"]["mb_s"]
        print(f"{name:24} {way:8} ratio {ratio:.2f}  {shown}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--mib", type=int, default=1024, help="size of the layer")
    parser.add_argument("--mb-per-s", type=float, default=0, help="what the network carries")
    parser.add_argument("--upstreams", nargs="+", default=list(_UPSTREAMS), choices=_UPSTREAMS)
    parser.add_argument("--clients", nargs="+", default=list(_CLIENTS), choices=_CLIENTS)
    parser.add_argument("--json", type=Path, help="write the results there too")
    arguments = parser.parse_args()
    for tool in ("curl", "skopeo", "docker-registry"):
        if shutil.which(tool) is None:
            sys.exit(f"{tool} is needed (Debian: curl skopeo docker-registry)")
    with tempfile.TemporaryDirectory(prefix="entrepot-bench-") as directory:
        results = run(arguments, Path(directory))
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


main()
