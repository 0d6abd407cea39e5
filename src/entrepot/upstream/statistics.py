"""What an upstream has done so far."""

from collections import Counter
from dataclasses import dataclass, field

from entrepot.upstream.standing import RateLimit


@dataclass(frozen=True, slots=True)
class EndpointStatistics:
    url: str  # which holds no credentials: the configuration refuses them
    is_up: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamStatistics:
    name: str
    requests: dict[str, int]  # answers by class of status: "2xx"
    bytes_fetched: int
    errors: int  # no answer, or one that broke off
    token_requests: int
    latency_sum_s: float  # until answers began
    latency_count: int
    is_resting: bool
    rate_limit: RateLimit | None
    endpoints: tuple[EndpointStatistics, ...] = ()  # none of patterns, whose hosts come and go


@dataclass(slots=True, eq=False)
class Counters:
    requests: Counter[str] = field(default_factory=Counter)
    bytes_fetched: int = 0
    errors: int = 0
    token_requests: int = 0
    latency_sum_s: float = 0.0
    latency_count: int = 0

    def answered(self, status: int, seconds: float) -> None:
        self.requests[f"{status // 100}xx"] += 1
        self.latency_sum_s += seconds
        self.latency_count += 1

    def received(self, size: int) -> None:
        self.bytes_fetched += size

    def failed(self) -> None:
        self.errors += 1

    def snapshot(
        self,
        name: str,
        *,
        is_resting: bool,
        rate_limit: RateLimit | None,
        endpoints: tuple[EndpointStatistics, ...] = (),
    ) -> UpstreamStatistics:
        return UpstreamStatistics(
            name=name,
            requests=dict(self.requests),
            bytes_fetched=self.bytes_fetched,
            errors=self.errors,
            token_requests=self.token_requests,
            latency_sum_s=self.latency_sum_s,
            latency_count=self.latency_count,
            is_resting=is_resting,
            rate_limit=rate_limit,
            endpoints=endpoints,
        )
