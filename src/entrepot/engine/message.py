"""Requests and responses as the engine sees them."""

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

_READS = frozenset({"GET", "HEAD", "OPTIONS"})


class Headers(Mapping[str, str]):
    """Request headers; names in any case, repeated ones joined (RFC 9110 section 5.2)."""

    __slots__ = ("_values",)

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        self._values: dict[str, str] = {}
        for name, value in pairs:
            key = name.lower()
            known = self._values.get(key)
            self._values[key] = value if known is None else f"{known}, {value}"

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._values

    def __repr__(self) -> str:
        return f"Headers({', '.join(self._values)})"  # values may hold credentials


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    method: str
    path: str  # raw, begins with /
    query: str = ""
    headers: Headers = field(default_factory=Headers)
    host: str = ""  # host[:port] that was asked for, lower case, default port left out
    scheme: str = "https"
    client: str = ""  # address of who asks
    body: AsyncIterator[bytes] | None = None
    content_length: int | None = None

    @property
    def target(self) -> str:
        return f"{self.path}?{self.query}" if self.query else self.path

    @property
    def is_write(self) -> bool:
        return self.method not in _READS


class Body(Protocol):
    """A body that is not in memory. Whoever has it closes it, read or not."""

    async def read(self, size: int) -> bytes:
        """The next bytes, at most `size`; none at the end. Raises where it ends too early."""
        ...

    async def aclose(self) -> None: ...


@dataclass(slots=True)
class Trace:
    """What the log line and the metrics of an exchange say beyond the response."""

    registry: str = ""
    entry: str = ""  # of the configuration, where `registry` is one of a pattern's hosts
    kind: str = "other"
    repository: str = ""
    reference: str = ""
    user: str = ""  # of a local registry
    cache: str = ""  # hit, miss, stale, revalidated, filling, pass, denied…
    upstream_s: float = 0.0
    error: str = ""


@dataclass(slots=True)
class Response:
    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | Body = b""
    length: int | None = None  # of a Body, or to a HEAD; None where it is not known
    trace: Trace = field(default_factory=Trace)

    @property
    def content_length(self) -> int | None:
        if self.length is None and isinstance(self.body, bytes):
            return len(self.body)
        return self.length

    async def aclose(self) -> None:
        if not isinstance(self.body, bytes):
            await self.body.aclose()


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """A request that has been answered, or broke off: what logs and metrics are made of."""

    request: Request
    status: int
    trace: Trace
    sent: int
    seconds: float
    is_whole: bool
