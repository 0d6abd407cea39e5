"""How an upstream stands: reachable or resting, and how much of its quota is left."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

_FIRST_PAUSE_S = 2.0
# A quota header with more digits is no number of requests; int() would take long on them.
_LIMIT = re.compile(r"\s*(\d{1,12})(?:\s*;\s*w=(\d{1,12}))?\s*(?:[;,].*)?\Z", re.ASCII)
_DIGITS = re.compile(r"\d{1,9}\Z", re.ASCII)


class Rest:
    """After a failure an endpoint is left alone for a while, twice as long after each further one.
    Then one request probes it, and the others go on treating it as resting until that one is back.
    """

    def __init__(self, longest_s: float) -> None:
        self._longest_s = longest_s
        self._failures = 0
        self._until = 0.0
        self._probe_until = 0.0

    @property
    def has_failed(self) -> bool:
        return self._failures > 0

    def is_resting(self, now: float) -> bool:
        return self.has_failed and now < max(self._until, self._probe_until)

    def begin(self, now: float, longest_s: float) -> None:
        """A request is on its way. Its answer is awaited no longer than this: it may be cancelled
        and never report back.
        """
        if self.has_failed and not self.is_resting(now):
            self._probe_until = now + longest_s

    def failed(self, now: float) -> None:
        # A herd that fails together has failed once.
        if now >= self._until:
            # The exponent is bounded because a float is: 2.0 ** 1024 raises.
            pause = _FIRST_PAUSE_S * 2.0 ** min(self._failures, 30)
            self._failures += 1
            self._until = now + min(pause, self._longest_s)
        self._probe_until = 0.0

    def answered(self) -> None:
        self._failures, self._until, self._probe_until = 0, 0.0, 0.0


@dataclass(frozen=True, slots=True)
class RateLimit:
    limit: int
    remaining: int
    window_s: int
    source: str  # whose quota: an address or an account, as the registry names it
    seen_at: float


def parse_rate_limit(headers: Mapping[str, str], now: float) -> RateLimit | None:
    """Docker Hub's `ratelimit-limit: 100;w=21600` and company; None where there is no limit."""
    limit = _LIMIT.match(headers.get("ratelimit-limit", ""))
    remaining = _LIMIT.match(headers.get("ratelimit-remaining", ""))
    if limit is None or remaining is None:
        return None
    return RateLimit(
        limit=int(limit[1]),
        remaining=int(remaining[1]),
        window_s=int(limit[2] or remaining[2] or 0),
        source=headers.get("docker-ratelimit-source", "")[:100],
        seen_at=now,
    )


def parse_retry_after(header: str | None, now: float) -> float | None:
    """Seconds from now; RFC 9110 section 10.2.3 allows a number and a date."""
    text = (header or "").strip()
    if _DIGITS.match(text):
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, OverflowError):
        return None
