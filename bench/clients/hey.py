"""Small requests by hey, over kept connections or with a new one (CONNECT, TLS) for each."""

import csv
import statistics
import subprocess
from dataclasses import dataclass

from bench.peers.server import Server
from tests.support.processes import clean_environment


@dataclass(frozen=True, slots=True)
class Requests:
    per_s: float
    median_ms: float
    tail_ms: float
    count: int


@dataclass(frozen=True, slots=True)
class Load:
    clients: int
    count: int = 0
    keep_alive: bool = True
    # In place of a count: for so long, at a pace far below what the server can.
    seconds: int = 0
    each_per_s: int = 0

    def options(self) -> list[str]:
        options = ["-c", str(self.clients)]
        if self.seconds:
            options += ["-z", f"{self.seconds}s", "-q", str(self.each_per_s)]
        else:
            options += ["-n", str(self.count)]
        return options if self.keep_alive else [*options, "-disable-keepalive"]


def requests(server: Server, path: str, prefix: list[str], load: Load) -> Requests:
    command = [*prefix, "hey", "-cpus", "1", "-disable-compression", "-o", "csv", *load.options()]
    for header in server.headers:
        command += ["-H", header]
    if server.proxy:
        command += ["-x", f"http://{server.proxy}"]
    done = subprocess.run(
        [*command, server.url(path)],
        env=clean_environment(),
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    answered = parse(done.stdout)
    expected = load.count // load.clients * load.clients
    assert load.seconds or answered.count == expected, f"{server.name} left some unanswered"
    return answered


def parse(output: str) -> Requests:
    """Of the CSV: a line for each request, with its seconds, its status, and when it began.

    Raises where one was not answered 200. Those that failed without an answer are not in it.
    """
    lines = list(csv.DictReader(output.splitlines()))
    assert lines, "no request was answered"
    statuses = {line["status-code"] for line in lines}
    assert statuses == {"200"}, f"answers: {statuses}"
    seconds = [float(line["response-time"]) for line in lines]
    ends = [float(line["offset"]) + took for line, took in zip(lines, seconds, strict=True)]
    hundredths = statistics.quantiles(seconds, n=100)
    return Requests(
        len(lines) / max(ends), hundredths[49] * 1000, hundredths[98] * 1000, len(lines)
    )
