"""What must be reached, and whether it was."""

from collections.abc import Callable
from dataclasses import dataclass

from bench.results import (
    CPU,
    FIRST_BYTE,
    MEDIAN,
    MEMORY,
    OURS,
    RATE,
    REQUESTS,
    SECONDS,
    TAIL,
    UPSTREAM,
    WORST,
    Metric,
    Place,
    Results,
)

NGINX, FILES, SQUID, DISTRIBUTION, DIRECT = (
    "nginx",
    "nginx files",
    "squid",
    "distribution",
    "direct",
)
UNPINNED = "entrepot, all cores"

# Cases that targets speak of; workloads write under the same names.
STREAM, FILL = "one stream", "a running fill's reader"
FEW_CLIENTS, MANY_CLIENTS = "8 clients", "64 clients"
KEPT, NEW = "kept alive", "new connections"
GIGABIT, UNLIMITED, EACH = "1 Gbit/s", "unlimited", "25 MB/s a connection"
HERD = "50 clients"
IDLE, BUSY = "idle", "beside 8 downloads"
ALONE, CROWD = "alone", "beside slow readers"
START = "start"

type Value = Callable[[Results], float | None]
"""None: not measured in this run."""


@dataclass(frozen=True, slots=True)
class Target:
    workload: str
    says: str
    value: Value
    least: float | None = None
    most: float | None = None

    def is_met_by(self, value: float) -> bool:
        above = self.least is None or value >= self.least
        return above and (self.most is None or value <= self.most)


@dataclass(frozen=True, slots=True)
class Verdict:
    target: Target
    value: float | None

    @property
    def word(self) -> str:
        if self.value is None:
            return "not measured"
        return "met" if self.target.is_met_by(self.value) else "NOT MET"


def verdicts(results: Results) -> list[Verdict]:
    """On the workloads that were run."""
    run = {place.workload for place in results.places()}
    return [Verdict(target, target.value(results)) for target in TARGETS if target.workload in run]


def median(workload: str, case: str, metric: Metric, server: str = OURS) -> Value:
    def value(results: Results) -> float | None:
        series = results.series(Place(workload, case, metric.name, server))
        return None if series is None else series.median

    return value


def quotient(above: Value, below: Value) -> Value:
    def value(results: Results) -> float | None:
        one, other = above(results), below(results)
        return None if one is None or not other else one / other

    return value


def difference(minuend: Value, subtrahend: Value) -> Value:
    def value(results: Results) -> float | None:
        one, other = minuend(results), subtrahend(results)
        return None if one is None or other is None else one - other

    return value


def largest(*values: Value) -> Value:
    """Of those that were measured."""

    def value(results: Results) -> float | None:
        return max((found for one in values if (found := one(results)) is not None), default=None)

    return value


def to_peer(workload: str, case: str, metric: Metric, peer: str) -> Value:
    return quotient(median(workload, case, metric), median(workload, case, metric, peer))


def growth(first: str, last: str, metric: Metric) -> Value:
    return quotient(median("W9", last, metric), median("W9", first, metric))


def objects(count: int) -> str:
    return f"{count:,} objects"


def relayed(peer: str) -> Value:
    return to_peer("tunnel", STREAM, RATE, peer)


TARGETS = (
    Target("W1", "rate >= 1.1 x nginx", to_peer("W1", STREAM, RATE, NGINX), least=1.1),
    Target("W1", "CPU a GiB <= 0.75 x nginx", to_peer("W1", STREAM, CPU, NGINX), most=0.75),
    Target("W1", "rate >= 3 x Squid", to_peer("W1", STREAM, RATE, SQUID), least=3),
    Target(
        "W1",
        "readers of a running fill >= 0.8 x hits",
        quotient(median("W1", FILL, RATE), median("W1", STREAM, RATE)),
        least=0.8,
    ),
    Target("W2", "8 clients >= 1.1 x nginx", to_peer("W2", FEW_CLIENTS, RATE, NGINX), least=1.1),
    Target("W2", "64 clients >= 1.1 x nginx", to_peer("W2", MANY_CLIENTS, RATE, NGINX), least=1.1),
    Target(
        "W2",
        "all cores >= 1.5 x one core",
        quotient(median("W2", FEW_CLIENTS, RATE, UNPINNED), median("W2", FEW_CLIENTS, RATE)),
        least=1.5,
    ),
    Target("W3", "kept alive >= 15,000/s", median("W3", KEPT, REQUESTS), least=15_000),
    Target("W3", "new connections >= 1,500/s", median("W3", NEW, REQUESTS), least=1_500),
    Target(
        "W4", "1 Gbit/s: time <= 1.03 x direct", to_peer("W4", GIGABIT, SECONDS, DIRECT), most=1.03
    ),
    Target(
        "W4", "unlimited: time < nginx's miss", to_peer("W4", UNLIMITED, SECONDS, NGINX), most=1.0
    ),
    Target(
        "W4",
        "first byte within 10 ms of direct's",
        difference(
            median("W4", UNLIMITED, FIRST_BYTE), median("W4", UNLIMITED, FIRST_BYTE, DIRECT)
        ),
        most=10,
    ),
    Target(
        "W4",
        "25 MB/s a connection: time <= 1/3 of direct",
        to_peer("W4", EACH, SECONDS, DIRECT),
        most=1 / 3,
    ),
    Target("W5", "upstream bytes = 1.00 x the blob", median("W5", HERD, UPSTREAM), most=1.005),
    Target(
        "W5",
        "last client <= 1.1 x one direct download",
        to_peer("W5", HERD, SECONDS, DIRECT),
        most=1.1,
    ),
    Target("W6", "skopeo warm <= nginx", to_peer("W6", "skopeo, warm", SECONDS, NGINX), most=1.0),
    Target("W6", "skopeo cold <= direct", to_peer("W6", "skopeo, cold", SECONDS, DIRECT), most=1.0),
    Target("W6", "docker warm <= nginx", to_peer("W6", "docker, warm", SECONDS, NGINX), most=1.0),
    Target("W6", "docker cold <= direct", to_peer("W6", "docker, cold", SECONDS, DIRECT), most=1.0),
    Target("W7", "p99 <= 20 ms beside downloads", median("W7", BUSY, TAIL), most=20),
    Target(
        "W7",
        "p99 <= 3 x its idle value",
        quotient(median("W7", BUSY, TAIL), median("W7", IDLE, TAIL)),
        most=3,
    ),
    Target("W8", "anonymous memory <= 300 MB", median("W8", CROWD, MEMORY), most=300),
    Target(
        "W8",
        "a fast client >= 0.8 x its speed alone",
        quotient(median("W8", CROWD, RATE), median("W8", ALONE, RATE)),
        least=0.8,
    ),
    Target(
        "W9",
        "look-up <= 1.5 x from 1k to the most",
        largest(
            growth(objects(1_000), objects(100_000), MEDIAN),
            growth(objects(1_000), objects(1_000_000), MEDIAN),
        ),
        most=1.5,
    ),
    Target(
        "W9",
        "start <= 3 s with the most objects",
        largest(
            *(median("W9", f"{objects(count)}, {START}", SECONDS) for count in (100_000, 1_000_000))
        ),
        most=3,
    ),
    Target(
        "W9",
        "eviction stalls nobody by more than 50 ms",
        largest(
            *(
                median("W9", f"{objects(count)}, evicting", WORST)
                for count in (1_000, 100_000, 1_000_000)
            )
        ),
        most=50,
    ),
    Target("tunnel", "rate >= 0.8 x socat", relayed("socat"), least=0.8),
    Target("tunnel", "rate >= 0.8 x HAProxy", relayed("haproxy"), least=0.8),
    Target(
        "push", "rate >= 0.8 x direct", to_peer("push", "curl to sink", RATE, DIRECT), least=0.8
    ),
)
