"""What can go wrong with an upstream, as values, and the script that says when it does.

A fault changes the reply that would have been right. Those whose rules match are applied in the
order they were scripted, so that one can stall a body that another has made chunked.
"""

import fnmatch
import gzip
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from tests.support.http_server import Gate, Reply, Request


class Fault(Protocol):
    def apply(self, request: Request, reply: Reply) -> None: ...


@dataclass(frozen=True, slots=True)
class Truncate:
    """The connection ends after so many bytes, or this fraction of what is asked for."""

    after: int | None = None
    fraction: float = 0.0
    resets: bool = False

    def apply(self, request: Request, reply: Reply) -> None:
        reply.cut_at = int(reply.length * self.fraction) if self.after is None else self.after
        reply.cut_resets = self.resets


@dataclass(frozen=True, slots=True)
class Corrupt:
    """One byte of the content is another, wherever the request starts to read."""

    at: int = 0

    def apply(self, request: Request, reply: Reply) -> None:
        reply.corrupt_at = self.at


@dataclass(frozen=True, slots=True)
class Hold:
    """Nothing more after so many bytes of the body until the gate opens; without one, ever.

    `after=-1` holds back the status line.
    """

    after: int = -1
    gate: Gate | None = None

    def apply(self, request: Request, reply: Reply) -> None:
        reply.hold_at, reply.hold_gate = self.after, self.gate


@dataclass(frozen=True, slots=True)
class Slow:
    bytes_per_s: float

    def apply(self, request: Request, reply: Reply) -> None:
        reply.bytes_per_s = self.bytes_per_s


@dataclass(frozen=True, slots=True)
class WrongLength:
    """Content-Length is off by so much: longer than what comes, or shorter."""

    by: int

    def apply(self, request: Request, reply: Reply) -> None:
        reply.length_error = self.by


@dataclass(frozen=True, slots=True)
class Chunked:
    """The length is not told."""

    def apply(self, request: Request, reply: Reply) -> None:
        reply.chunked = True


@dataclass(frozen=True, slots=True)
class HeadWithoutLength:
    def apply(self, request: Request, reply: Reply) -> None:
        reply.headless = True


@dataclass(frozen=True, slots=True)
class IgnoreRange:
    """All of it with 200, whatever part was asked for."""

    def apply(self, request: Request, reply: Reply) -> None:
        if reply.status == 206:
            reply.status, reply.start, reply.stop = 200, 0, reply.content.size
            del reply.headers["Content-Range"]


@dataclass(frozen=True, slots=True)
class WrongContentRange:
    """The bytes are those that were asked for; the header says they lie elsewhere."""

    shift: int = 1

    def apply(self, request: Request, reply: Reply) -> None:
        if reply.status == 206:
            first, last = reply.start + self.shift, reply.stop - 1 + self.shift
            reply.headers["Content-Range"] = f"bytes {first}-{last}/{reply.content.size}"


@dataclass(frozen=True, slots=True)
class Header:
    """Sets a header, or takes it away: a wrong Docker-Content-Digest, a missing one."""

    name: str
    value: str | None

    def apply(self, request: Request, reply: Reply) -> None:
        if self.value is None:
            reply.headers.pop(self.name, None)
        else:
            reply.headers[self.name] = self.value


@dataclass(frozen=True, slots=True)
class GzipIfAsked:
    """What some CDNs do to any content when the request accepts it."""

    def apply(self, request: Request, reply: Reply) -> None:
        if "gzip" not in request.headers.get("accept-encoding", "") or reply.status != 200:
            return
        plain = b"".join(reply.content.chunks(0, reply.content.size))
        headers = reply.headers | {"Content-Encoding": "gzip"}
        reply.replace(200, headers, gzip.compress(plain, mtime=0))


@dataclass(frozen=True, slots=True)
class AnswerWith:
    """Another answer in place of the right one."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()

    def apply(self, request: Request, reply: Reply) -> None:
        reply.replace(self.status, {"Content-Type": "text/plain", **dict(self.headers)}, self.body)


@dataclass(frozen=True, slots=True)
class Redirect:
    """To the same path elsewhere, as registry.k8s.io does with everything."""

    base_url: str
    status: int = 307

    def apply(self, request: Request, reply: Reply) -> None:
        location = self.base_url.rstrip("/") + request.target
        reply.replace(self.status, {"Location": location}, b"")


@dataclass(slots=True)
class RateLimit:
    """Docker Hub's countdown: each GET of a manifest costs one, a HEAD none; then 429."""

    limit: int
    remaining: int
    window_s: int = 21600

    def apply(self, request: Request, reply: Reply) -> None:
        if request.method == "GET" and self.remaining == 0:
            pull_limit_reached().apply(request, reply)
        elif request.method == "GET":
            self.remaining -= 1
        reply.headers |= {
            "ratelimit-limit": f"{self.limit};w={self.window_s}",
            "ratelimit-remaining": f"{self.remaining};w={self.window_s}",
            "docker-ratelimit-source": "192.0.2.1",
        }


def pull_limit_reached(retry_after_s: int | None = None) -> AnswerWith:
    """Docker Hub's 429 for those who have pulled too much."""
    message = (
        "You have reached your unauthenticated pull rate limit."
        " https://www.docker.com/increase-rate-limit"
    )
    body = json.dumps({"errors": [{"code": "TOOMANYREQUESTS", "message": message}]})
    headers = [("Content-Type", "application/json")]
    if retry_after_s is not None:
        headers.append(("Retry-After", str(retry_after_s)))
    return AnswerWith(429, body.encode(), tuple(headers))


def abuse_limit_reached(retry_after_s: int | None = None) -> AnswerWith:
    """Docker Hub's 429 for those who have asked too often, whatever they asked."""
    headers = () if retry_after_s is None else (("Retry-After", str(retry_after_s)),)
    return AnswerWith(429, b"Too Many Requests\n", headers)


@dataclass(slots=True)
class Rule:
    fault: Fault
    path: str  # pattern with * and ?, also across slashes
    method: str
    skip: int  # so many matching requests pass before
    times: int | None  # so many are hit; None: all

    def hits(self, request: Request) -> bool:
        if not fnmatch.fnmatchcase(request.path, self.path):
            return False
        if not fnmatch.fnmatchcase(request.method, self.method):
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        if self.times is None:
            return True
        self.times -= 1
        return self.times >= 0


@dataclass(slots=True)
class Script:
    """Rules in order; written by the test's thread, read by the server's."""

    _rules: list[Rule] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(
        self,
        fault: Fault,
        *,
        path: str = "*",
        method: str = "*",
        skip: int = 0,
        times: int | None = None,
    ) -> Callable[[], None]:
        """Returns what takes the rule back."""
        rule = Rule(fault, path, method, skip, times)
        with self._lock:
            self._rules.append(rule)
        return lambda: self._remove(rule)

    def clear(self) -> None:
        with self._lock:
            self._rules.clear()

    def apply(self, request: Request, reply: Reply) -> None:
        with self._lock:
            hit = [rule.fault for rule in self._rules if rule.hits(request)]
        for fault in hit:
            fault.apply(request, reply)

    def _remove(self, rule: Rule) -> None:
        with self._lock:
            self._rules = [known for known in self._rules if known is not rule]
