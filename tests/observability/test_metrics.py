import re
from pathlib import Path

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from entrepot.engine.reply import CacheStatus
from entrepot.observability import metrics as metrics_module
from entrepot.observability.metrics import Metrics, Totals
from tests.observability.exchanges import exchange, readings, upstream


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(lambda: readings(upstream(), upstream("other.test", limited=False)))


def families(metrics: Metrics) -> dict[str, Metric]:
    return {family.name: family for family in text_string_to_metric_families(rendered(metrics))}


def rendered(metrics: Metrics) -> str:
    return metrics.render().decode()


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    for family in families(metrics).values():
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return float(sample.value)
    return None


def test_requests_are_counted_by_what_was_asked_and_how_it_was_answered(metrics: Metrics) -> None:
    metrics.observe(exchange())
    metrics.observe(exchange(status=206, cache="miss", kind="blob", sent=10))
    metrics.observe(exchange(status=404))
    labels = {"registry": "registry.test", "kind": "manifest", "cache": "hit"}
    assert value(metrics, "entrepot_requests_total", status="2xx", **labels) == 1
    assert value(metrics, "entrepot_requests_total", status="4xx", **labels) == 1
    sent = {"registry": "registry.test", "cache": "hit"}
    assert value(metrics, "entrepot_sent_bytes_total", **sent) == 2 * 1234
    assert value(metrics, "entrepot_request_seconds_sum", kind="blob", cache="miss") == 0.25


@pytest.mark.parametrize(
    ("status", "is_whole", "errors"),
    [(200, True, None), (404, True, None), (500, True, 1), (504, True, 1), (200, False, 1)],
)
def test_errors_are_of_ours_or_what_broke_off(
    metrics: Metrics, status: int, errors: int | None, *, is_whole: bool
) -> None:
    metrics.observe(exchange(status=status, is_whole=is_whole))
    labels = {"registry": "registry.test", "kind": "manifest"}
    assert value(metrics, "entrepot_errors_total", **labels) == errors


def test_what_was_fetched_is_counted(metrics: Metrics) -> None:
    metrics.fetched("registry.test", 10)
    metrics.fetched("registry.test", 5)
    assert value(metrics, "entrepot_fetched_bytes_total", registry="registry.test") == 15


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("entrepot_store_bytes", 4000),
        ("entrepot_store_entries", 3),
        ("entrepot_store_evictions_total", 5),
        ("entrepot_store_evicted_bytes_total", 600),
        ("entrepot_store_corrupt_total", 1),
        ("entrepot_store_refusals_total", 2),
        ("entrepot_fills", 2),
        ("entrepot_readers", 3),
        ("entrepot_connections", 8),
        ("entrepot_exchanges", 9),
        ("entrepot_ca_days_left", 364.5),
    ],
)
def test_what_components_say_of_themselves(metrics: Metrics, name: str, expected: float) -> None:
    assert value(metrics, name) == expected


def test_what_upstreams_say_of_themselves(metrics: Metrics) -> None:
    name = {"registry": "registry.test"}
    assert value(metrics, "entrepot_upstream_requests_total", status="4xx", **name) == 2
    assert value(metrics, "entrepot_upstream_errors_total", **name) == 3
    assert value(metrics, "entrepot_upstream_tokens_total", **name) == 4
    assert value(metrics, "entrepot_upstream_seconds_total", **name) == 1.5
    assert value(metrics, "entrepot_upstream_resting", **name) == 1
    assert value(metrics, "entrepot_rate_limit", **name) == 100
    assert value(metrics, "entrepot_rate_limit_remaining", **name) == 42
    assert value(metrics, "entrepot_rate_limit", registry="other.test") is None
    for host, is_up in (("registry.test", 1), ("other.test", 0)):
        labels = {"registry": host, "endpoint": f"https://{host}"}
        assert value(metrics, "entrepot_upstream_up", **labels) == is_up


@pytest.mark.parametrize(("reason", "expected"), [("wrong", 11), ("refused", 12)])
def test_logins_that_failed(metrics: Metrics, reason: str, expected: int) -> None:
    assert value(metrics, "entrepot_login_failures_total", reason=reason) == expected


def test_the_totals_leave_out_our_own_pages(metrics: Metrics) -> None:
    for cache in ("hit", "revalidated", "stale", "collapsed", "miss", "challenge"):
        metrics.observe(exchange(cache=cache, sent=10))
    metrics.observe(exchange(registry="", kind="page", cache="", sent=500))
    metrics.fetched("registry.test", 7)
    assert metrics.totals() == Totals(requests=6, hits=4, sent_bytes=60, fetched_bytes=7)


def test_labels_that_clients_choose_are_bounded(
    metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics_module, "_REGISTRIES_MAX", 2)
    for number in range(5):
        metrics.observe(exchange(registry=f"{number}.example.com"))
        metrics.fetched(f"{number}.example.com", 1)
    found = {s.labels["registry"] for s in families(metrics)["entrepot_requests"].samples}
    assert found == {"0.example.com", "1.example.com", "(others)"}
    assert value(metrics, "entrepot_fetched_bytes_total", registry="(others)") == 3


class TestTheDocumentation:
    @pytest.fixture
    def page(self, repository_root: Path) -> str:
        return (repository_root / "docs" / "metrics.md").read_text()

    def test_lists_each_metric_with_its_type_and_labels(self, metrics: Metrics, page: str) -> None:
        metrics.observe(exchange(status=500))
        metrics.fetched("registry.test", 1)
        rows = re.findall(r"^\| `(entrepot_\w+)` \| (\w+) \| ([\w, ]*)\|", page, re.MULTILINE)
        listed = {name: (kind, set(re.findall(r"\w+", labels))) for name, kind, labels in rows}
        assert listed == {
            f"{name}_total" if family.type == "counter" else name: (
                family.type,
                {label for sample in family.samples for label in sample.labels} - {"le"},
            )
            for name, family in families(metrics).items()
            if not name.endswith("_created")
        }

    def test_names_none_that_is_not_there(self, metrics: Metrics, page: str) -> None:
        names = {name.removesuffix("_total") for name in re.findall(r"entrepot_\w+", page)}
        bases = {name.removesuffix("_bucket") for name in names}
        assert bases == set(metrics.names())

    def test_says_what_each_word_means(self, page: str) -> None:
        words = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
        assert {status.word for status in CacheStatus} <= words
        assert {"negative", "challenge", "page", "other"} <= words


def test_hosts_of_a_pattern_count_under_it(metrics: Metrics) -> None:
    for number in range(3):
        metrics.observe(exchange(registry=f"{number}.example.com", entry="*.example.com"))
    labels = {"kind": "manifest", "cache": "hit", "status": "2xx"}
    assert value(metrics, "entrepot_requests_total", registry="*.example.com", **labels) == 3
    assert b'"0.example.com"' not in metrics.render()
