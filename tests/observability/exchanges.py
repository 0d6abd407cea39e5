"""Exchanges and readings as components give them."""

from typing import Any

from entrepot.engine.fill import FillStatistics
from entrepot.engine.message import Exchange, Headers, Request, Trace
from entrepot.observability.metrics import Readings
from entrepot.oci.digest import Digest
from entrepot.passwords.guesses import GuessStatistics
from entrepot.storage.base import Statistics
from entrepot.upstream.standing import RateLimit
from entrepot.upstream.statistics import EndpointStatistics, UpstreamStatistics

DIGEST = Digest.of(b"content")


def exchange(
    *,
    path: str = "/v2/app/manifests/1.0",
    query: str = "",
    headers: dict[str, str] | None = None,
    status: int = 200,
    sent: int = 1234,
    is_whole: bool = True,
    **trace: Any,
) -> Exchange:
    usual = {
        "registry": "registry.test",
        "kind": "manifest",
        "repository": "app",
        "reference": "1.0",
        "cache": "hit",
    }
    return Exchange(
        request=Request(
            method="GET",
            path=path,
            query=query,
            headers=Headers((headers or {}).items()),
            host="registry.test",
            client="192.0.2.7",
        ),
        status=status,
        trace=Trace(**(usual | trace)),
        sent=sent,
        seconds=0.25,
        is_whole=is_whole,
    )


def readings(*upstreams: UpstreamStatistics) -> Readings:
    return Readings(
        store=Statistics(
            entries=3, size_bytes=4000, evictions=5, evicted_bytes=600, corrupt=1, refusals=2
        ),
        fills=(FillStatistics(DIGEST, 100, 50, 2), FillStatistics(DIGEST, None, 0, 1)),
        upstreams=upstreams,
        guesses=GuessStatistics(wrong=11, refused=12),
        connections=8,
        exchanges=9,
        ca_days_left=364.5,
    )


def upstream(name: str = "registry.test", *, limited: bool = True) -> UpstreamStatistics:
    limit = RateLimit(limit=100, remaining=42, window_s=21600, source="", seen_at=0)
    return UpstreamStatistics(
        name=name,
        requests={"2xx": 10, "4xx": 2},
        bytes_fetched=5000,
        errors=3,
        token_requests=4,
        latency_sum_s=1.5,
        latency_count=12,
        is_resting=True,
        rate_limit=limit if limited else None,
        endpoints=(EndpointStatistics(f"https://{name}", is_up=limited),),
    )
