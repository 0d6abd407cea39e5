"""What a server was asked, kept without secrets, for tests to wait for and count."""

import asyncio
import fnmatch
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tests.support.http_server import Request

_SECRET_HEADERS = frozenset({"authorization", "proxy-authorization", "cookie"})
_WAIT_S = 20.0


@dataclass(slots=True)
class Logged:
    method: str
    host: str
    target: str
    headers: Mapping[str, str]
    authorization: str  # the scheme in lower case, or "none"
    user: str | None  # who that was; "" is anonymous, None were wrong or expired credentials
    listener: str
    connection: int
    status: int | None = None  # until it is answered
    sent_bytes: int = 0  # of the body

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]


@dataclass(slots=True)
class RequestLog:
    entries: list[Logged] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def add(self, request: Request, user: str | None) -> Logged:
        entry = Logged(
            method=request.method,
            host=request.headers.get("host", ""),
            target=request.target,
            headers={k: v for k, v in request.headers.items() if k not in _SECRET_HEADERS},
            authorization=request.headers.get("authorization", "none").partition(" ")[0].lower(),
            user=user,
            listener=request.listener,
            connection=request.connection,
        )
        with self._changed:
            self.entries.append(entry)
            self._changed.notify_all()
        return entry

    def answered(self, entry: Logged, status: int) -> None:
        with self._changed:
            entry.status = status
            self._changed.notify_all()

    def sent(self, entry: Logged, size: int) -> None:
        with self._changed:
            entry.sent_bytes += size
            self._changed.notify_all()

    def clear(self) -> None:
        with self._changed:
            self.entries.clear()

    def find(
        self, path: str = "*", *, method: str = "*", listener: str = "*"
    ) -> tuple[Logged, ...]:
        """`path` is a pattern in which * crosses slashes."""
        with self._changed:
            return tuple(
                entry
                for entry in self.entries
                if fnmatch.fnmatchcase(entry.path, path)
                and fnmatch.fnmatchcase(entry.method, method)
                and fnmatch.fnmatchcase(entry.listener, listener)
            )

    def count(self, path: str = "*", *, method: str = "*", listener: str = "*") -> int:
        return len(self.find(path, method=method, listener=listener))

    def wait_until(self, holds: Callable[[], bool], timeout_s: float = _WAIT_S) -> None:
        """Blocks until `holds`, which is asked again whenever something has happened here."""
        # The condition's lock is reentrant: `holds` may call the methods above.
        with self._changed:
            if not self._changed.wait_for(holds, timeout_s):
                said = "\n".join(f"  {e.method} {e.target} -> {e.status}" for e in self.entries)
                raise TimeoutError(f"not within {timeout_s} s; the requests were:\n{said}")

    async def wait_until_async(self, holds: Callable[[], bool], timeout_s: float = _WAIT_S) -> None:
        await asyncio.to_thread(self.wait_until, holds, timeout_s)
