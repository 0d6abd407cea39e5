"""Own pages by path."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from jinja2 import Environment, PackageLoader, StrictUndefined

from entrepot.engine.message import Request, Response, Trace
from entrepot.engine.problem import problem
from entrepot.oci.error_body import ErrorCode
from entrepot.web.health import Health

# What stands in a script that people pipe into a shell: a host and a port, and nothing else.
_HOST = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9.-]{0,252}|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?\Z")
_TEXT = "text/plain; charset=utf-8"
_HTML = "text/html; charset=utf-8"
_SCRIPTS = {"systemd": "systemd.sh"}


class CertificateAuthority(Protocol):
    def bundle_pem(self) -> bytes: ...

    @property
    def fingerprints(self) -> tuple[str, ...]:
        """Of all roots that clients should trust: two while one takes over from the other."""
        ...


@dataclass(frozen=True, slots=True)
class Figures:
    """What the front page counts."""

    version: str
    registries: tuple[str, ...]
    requests: int
    hits: int
    sent_bytes: int
    fetched_bytes: int
    store_bytes: int
    store_entries: int
    ca_days_left: int


class Pages:
    def __init__(
        self,
        authority: CertificateAuthority,
        health: Health,
        *,
        figures: Callable[[], Figures],
        metrics: Callable[[], bytes],
        default_host: str,
    ) -> None:
        self._authority = authority
        self._health = health
        self._figures = figures
        self._metrics = metrics
        self._default_host = default_host
        self._templates = Environment(
            loader=PackageLoader("entrepot.web"), autoescape=True, undefined=StrictUndefined
        )
        self._templates.filters["size"] = readable_size

    async def respond(self, request: Request) -> Response:
        trace = Trace(kind="page", reference=request.path)
        if request.method not in {"GET", "HEAD"}:
            refusal = problem(405, ErrorCode.UNSUPPORTED, "these pages are for reading", trace)
            refusal.headers["Allow"] = "GET, HEAD"
            return refusal
        status, media_type, body = await self._page(request)
        headers = {
            "Content-Type": media_type,
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
        }
        return Response(status, headers, body, trace=trace)

    async def _page(self, request: Request) -> tuple[int, str, bytes]:
        match request.path:
            case "/":
                return self._front(request)
            case "/ca.crt":
                return 200, "application/x-pem-file", self._authority.bundle_pem()
            case "/healthz":
                return 200, _TEXT, b"ok\n"
            case "/readyz":
                return await self._ready()
            case "/metrics":
                return 200, "text/plain; version=0.0.4; charset=utf-8", self._metrics()
        script = _SCRIPTS.get(request.path.removeprefix("/setup/"))
        if script is not None and request.path.startswith("/setup/"):
            return 200, "text/x-shellscript; charset=utf-8", self._setup(request, script)
        return 404, _TEXT, b"There is no such page. What there is: see /\n"

    def _front(self, request: Request) -> tuple[int, str, bytes]:
        is_browser = "text/html" in request.headers.get("accept", "")
        name, media_type = ("index.html", _HTML) if is_browser else ("index.txt", _TEXT)
        text = self._templates.get_template(name).render(
            figures=self._figures(),
            host=self._host(request),
            fingerprints=self._authority.fingerprints,
        )
        return 200, media_type, text.encode()

    async def _ready(self) -> tuple[int, str, bytes]:
        findings = await self._health.findings()
        lines = [f"{finding.name}: {finding.problem or 'ok'}\n" for finding in findings]
        is_ready = not any(finding.problem and finding.is_serious for finding in findings)
        return (200 if is_ready else 503), _TEXT, "".join(lines).encode()

    def _setup(self, request: Request, script: str) -> bytes:
        host = self._host(request)
        name = host.rpartition(":")[0] if re.search(r":\d+\Z", host) else host
        head = (
            "#!/bin/sh\n"
            f"ENTREPOT_URL='http://{host}'\n"
            f"ENTREPOT_HOST='{name}'\n"
            f"ENTREPOT_CA_SHA256='{' '.join(self._authority.fingerprints)}'\n"
        )
        return head.encode() + (trust_scripts() / script).read_bytes()

    def _host(self, request: Request) -> str:
        """The name by which this client reached us, so that what we tell it works for it."""
        named = request.headers.get("host", "")
        return named if _HOST.match(named) else self._default_host


def trust_scripts() -> Path:
    """In the installed package, or in the checkout that the package runs from."""
    package = Path(__file__).parents[1]
    installed = package / "trust"
    return installed if installed.is_dir() else package.parents[1] / "ca" / "trust"


def readable_size(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000:  # noqa: PLR2004 - as the units say
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} PB"
