"""What is measured, whichever it is."""

from dataclasses import dataclass, replace
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Server:
    """How clients reach it, whom they trust, and whose CPU time and memory count."""

    name: str
    authority: str  # of its URLs: host[:port]
    trust: Path
    pid: int
    proxy: str = ""  # host:port for who is reached by CONNECT
    headers: tuple[str, ...] = ()

    def url(self, path: str) -> str:
        return f"https://{self.authority}{path}"

    def to(self, authority: str, trust: Path) -> "Server":
        """The same, on the way to somebody else."""
        return replace(self, authority=authority, trust=trust, headers=())

    def with_header(self, header: str) -> "Server":
        return replace(self, headers=(*self.headers, header))
