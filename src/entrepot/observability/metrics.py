"""Prometheus metrics: counted as exchanges end, and read off the components' statistics.

Names and labels are public: docs/metrics.md lists them, and a test compares.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from entrepot.engine.fill import FillStatistics
from entrepot.engine.message import Exchange
from entrepot.passwords.guesses import GuessStatistics
from entrepot.storage.base import Statistics as StoreStatistics
from entrepot.upstream.statistics import UpstreamStatistics

# A label once used is kept for ever, also when the configuration that named it has gone.
_REGISTRIES_MAX = 200
_OTHERS = "(others)"
_SECONDS = (0.001, 0.005, 0.02, 0.1, 0.5, 1, 5, 20, 60, 300)


@dataclass(frozen=True, slots=True)
class Readings:
    """The components' statistics at one moment."""

    store: StoreStatistics
    fills: tuple[FillStatistics, ...]
    upstreams: tuple[UpstreamStatistics, ...]
    guesses: GuessStatistics
    connections: int
    exchanges: int
    ca_days_left: float


@dataclass(frozen=True, slots=True)
class _Counted:
    """What is counted of a request."""

    requests: Counter
    sent: Counter
    seconds: Histogram


class Metrics:
    def __init__(self, read: Callable[[], Readings]) -> None:
        self._registry = CollectorRegistry()
        self._registries: set[str] = set()
        # No more of them than of the labels themselves.
        self._children: dict[tuple[str, str, str, int], _Counted] = {}
        self._registry.register(_Gauges(read))
        self._requests = Counter(
            "entrepot_requests",
            "Requests answered",
            ["registry", "kind", "cache", "status"],
            registry=self._registry,
        )
        self._sent = Counter(
            "entrepot_sent_bytes",
            "Bytes of bodies sent to clients",
            ["registry", "cache"],
            registry=self._registry,
        )
        self._fetched = Counter(
            "entrepot_fetched_bytes",
            "Bytes of content fetched from upstreams",
            ["registry"],
            registry=self._registry,
        )
        self._errors = Counter(
            "entrepot_errors",
            "Answers with a server error, and transfers that broke off",
            ["registry", "kind"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "entrepot_request_seconds",
            "Time from a request to the last byte of its answer",
            ["kind", "cache"],
            buckets=_SECONDS,
            registry=self._registry,
        )

    def observe(self, exchange: Exchange) -> None:
        trace = exchange.trace
        registry = self._label(trace.entry or trace.registry)
        counted = self._counted(registry, trace.kind, trace.cache, exchange.status // 100)
        counted.requests.inc()
        counted.sent.inc(exchange.sent)
        counted.seconds.observe(exchange.seconds)
        if exchange.status >= 500 or not exchange.is_whole:  # noqa: PLR2004
            self._errors.labels(registry, trace.kind).inc()

    def _counted(self, registry: str, kind: str, cache: str, hundreds: int) -> "_Counted":
        """To look three up by their labels costs more than to count."""
        key = registry, kind, cache, hundreds
        counted = self._children.get(key)
        if counted is None:
            counted = self._children[key] = _Counted(
                self._requests.labels(registry, kind, cache, f"{hundreds}xx"),
                self._sent.labels(registry, cache),
                self._seconds.labels(kind, cache),
            )
        return counted

    def fetched(self, entry: str, size: int) -> None:
        self._fetched.labels(self._label(entry)).inc(size)

    def _label(self, registry: str) -> str:
        if len(self._registries) < _REGISTRIES_MAX:
            self._registries.add(registry)
        return registry if registry in self._registries else _OTHERS

    def render(self) -> bytes:
        return generate_latest(self._registry)

    def names(self) -> Iterable[str]:
        return sorted({metric.name for metric in self._registry.collect()})

    def totals(self) -> "Totals":
        """What the front page shows."""
        requests = hits = sent = fetched = 0.0
        for metric in self._registry.collect():
            for sample in metric.samples:
                if sample.name == "entrepot_requests_total" and sample.labels["kind"] != "page":
                    requests += sample.value
                    if sample.labels["cache"] in {"hit", "revalidated", "stale", "collapsed"}:
                        hits += sample.value
                elif sample.name == "entrepot_sent_bytes_total" and sample.labels["registry"]:
                    sent += sample.value
                elif sample.name == "entrepot_fetched_bytes_total":
                    fetched += sample.value
        return Totals(int(requests), int(hits), int(sent), int(fetched))


@dataclass(frozen=True, slots=True)
class Totals:
    requests: int
    hits: int
    sent_bytes: int
    fetched_bytes: int


class _Gauges(Collector):
    def __init__(self, read: Callable[[], Readings]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        readings = self._read()
        yield from _of_store(readings.store)
        yield _gauge("fills", "Downloads that are running", len(readings.fills))
        readers = sum(fill.readers for fill in readings.fills)
        yield _gauge("readers", "Clients attached to running downloads", readers)
        yield _gauge("connections", "Open client connections", readings.connections)
        yield _gauge("exchanges", "Requests being answered", readings.exchanges)
        yield _gauge("ca_days_left", "Days until the CA expires", readings.ca_days_left)
        yield _of_guesses(readings.guesses)
        yield from _of_upstreams(readings.upstreams)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"entrepot_{name}", text, value=value)


def _of_store(store: StoreStatistics) -> Iterator[Metric]:
    yield _gauge("store_bytes", "Size of what is stored", store.size_bytes)
    yield _gauge("store_entries", "Number of blobs and manifests stored", store.entries)
    for name, text, value in (
        ("evictions", "Entries evicted", store.evictions),
        ("evicted_bytes", "Size of what was evicted", store.evicted_bytes),
        ("corrupt", "Entries found corrupt and removed", store.corrupt),
        ("refusals", "What the store had no room for", store.refusals),
    ):
        yield CounterMetricFamily(f"entrepot_store_{name}", text, value=value)


def _of_guesses(guesses: GuessStatistics) -> Metric:
    failures = CounterMetricFamily(
        "entrepot_login_failures",
        "Logins that failed: wrong, or refused unheard after too many wrong ones",
        labels=["reason"],
    )
    failures.add_metric(["wrong"], guesses.wrong)
    failures.add_metric(["refused"], guesses.refused)
    return failures


def _of_upstreams(upstreams: tuple[UpstreamStatistics, ...]) -> Iterator[Metric]:
    label = ["registry"]
    requests = CounterMetricFamily(
        "entrepot_upstream_requests", "Requests to upstreams", labels=["registry", "status"]
    )
    errors = CounterMetricFamily(
        "entrepot_upstream_errors", "Requests to upstreams that got no answer", labels=label
    )
    tokens = CounterMetricFamily(
        "entrepot_upstream_tokens", "Tokens asked for at upstreams", labels=label
    )
    seconds = CounterMetricFamily(
        "entrepot_upstream_seconds", "Time until upstreams began to answer", labels=label
    )
    resting = GaugeMetricFamily(
        "entrepot_upstream_resting", "1 while an upstream is left alone", labels=label
    )
    remaining = GaugeMetricFamily(
        "entrepot_rate_limit_remaining", "Pulls left, as the upstream says", labels=label
    )
    limit = GaugeMetricFamily("entrepot_rate_limit", "Pulls allowed in a window", labels=label)
    up = GaugeMetricFamily(
        "entrepot_upstream_up",
        "1 while an endpoint is asked, 0 while it is left out after a failure",
        labels=["registry", "endpoint"],
    )
    for statistics in upstreams:
        name = [statistics.name]
        for status, count in statistics.requests.items():
            requests.add_metric([*name, status], count)
        errors.add_metric(name, statistics.errors)
        tokens.add_metric(name, statistics.token_requests)
        seconds.add_metric(name, statistics.latency_sum_s)
        resting.add_metric(name, statistics.is_resting)
        for endpoint in statistics.endpoints:
            up.add_metric([*name, endpoint.url], endpoint.is_up)
        if statistics.rate_limit is not None:
            remaining.add_metric(name, statistics.rate_limit.remaining)
            limit.add_metric(name, statistics.rate_limit.limit)
    yield from (requests, errors, tokens, seconds, resting, up, remaining, limit)
