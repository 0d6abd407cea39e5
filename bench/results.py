"""What was measured: values by workload, case, metric and server."""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

OURS = "entrepot"


@dataclass(frozen=True, slots=True)
class Metric:
    """Its name carries the unit: no number is shown without one."""

    name: str
    is_better_when_higher: bool = False


RATE = Metric("MB/s", is_better_when_higher=True)
CPU = Metric("server CPU s/GiB")
CPU_EACH = Metric("server CPU ms/request")
CORES = Metric("server cores in use", is_better_when_higher=True)
MEMORY = Metric("anonymous MB")
REQUESTS = Metric("requests/s", is_better_when_higher=True)
MEDIAN = Metric("p50 ms")
TAIL = Metric("p99 ms")
WORST = Metric("worst ms")
FIRST_BYTE = Metric("first byte ms")
SECONDS = Metric("seconds")
UPSTREAM = Metric("upstream bytes/blob bytes")

METRICS = {
    metric.name: metric
    for metric in (
        RATE,
        CPU,
        CPU_EACH,
        CORES,
        MEMORY,
        REQUESTS,
        MEDIAN,
        TAIL,
        WORST,
        FIRST_BYTE,
        SECONDS,
        UPSTREAM,
    )
}


@dataclass(frozen=True, slots=True)
class Series:
    """The same, measured again and again; never empty."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def low(self) -> float:
        return min(self.values)

    @property
    def high(self) -> float:
        return max(self.values)


@dataclass(frozen=True, slots=True)
class Place:
    workload: str
    case: str
    metric: str
    server: str


class Results:
    """In the order in which things were first measured."""

    def __init__(self) -> None:
        self._values: defaultdict[Place, list[float]] = defaultdict(list)
        self.notes: list[str] = []  # what was left out, and why

    def add(self, place: Place, value: float) -> None:
        self._values[place].append(value)

    def series(self, place: Place) -> Series | None:
        values = self._values.get(place)
        return Series(tuple(values)) if values else None

    def places(self) -> tuple[Place, ...]:
        return tuple(self._values)

    def groups(self) -> dict[tuple[str, str, str], dict[str, Series]]:
        """The servers that were measured, by workload, case and metric."""
        found: dict[tuple[str, str, str], dict[str, Series]] = {}
        for place, values in self._values.items():
            servers = found.setdefault((place.workload, place.case, place.metric), {})
            servers[place.server] = Series(tuple(values))
        return found

    def rows(self) -> list[dict[str, str | list[float]]]:
        """As JSON keeps them."""
        return [
            {
                "workload": place.workload,
                "case": place.case,
                "metric": place.metric,
                "server": place.server,
                "values": list(values),
            }
            for place, values in self._values.items()
        ]


def from_rows(rows: Iterable[Mapping[str, str | list[float]]]) -> Results:
    results = Results()
    for row in rows:
        names = [str(row[key]) for key in ("workload", "case", "metric", "server")]
        values = row["values"]
        assert isinstance(values, list)
        for value in values:
            results.add(Place(*names), value)
    return results


@dataclass(frozen=True, slots=True)
class Sheet:
    """Where a workload writes down what it measures."""

    results: Results
    workload: str

    def add(self, case: str, server: str, metric: Metric, value: float) -> None:
        self.results.add(Place(self.workload, case, metric.name, server), value)

    def leave_out(self, what: str) -> None:
        self.results.notes.append(f"{self.workload}: {what}")
