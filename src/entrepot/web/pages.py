"""Own pages by path."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from jinja2 import Environment, PackageLoader, StrictUndefined

from entrepot.engine.message import Request, Response, Trace
from entrepot.engine.problem import from_error, problem
from entrepot.errors import TooManyGuesses
from entrepot.oci.error_body import ErrorCode
from entrepot.web.health import Health

# What stands in a script that people pipe into a shell: a host and a port, and nothing else.
_HOST = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9.-]{0,252}|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?\Z")
_TEXT = "text/plain; charset=utf-8"
_HTML = "text/html; charset=utf-8"
_SCRIPTS = {"systemd": "systemd.sh"}

# Whether an Authorization from a client's address is right, or none is asked for; TooManyGuesses.
type Check = Callable[[str, str], Awaitable[bool]]


class CertificateAuthority(Protocol):
    def bundle_pem(self) -> bytes: ...

    @property
    def fingerprints(self) -> tuple[str, ...]:
        """Of all roots that clients should trust: two while one takes over from the other."""
        ...


@dataclass(frozen=True, slots=True)
class Figures:
    """What the front page counts."""

    registries: tuple[str, ...]
    local_registries: tuple[str, ...]
    requests: int
    hits: int
    sent_bytes: int
    fetched_bytes: int
    store_bytes: int
    store_entries: int
    ca_days_left: int


class Pages:
    """What sets a client up, and what a load balancer asks, is open to all; figures and metrics are
    for who can log in where clients must.
    """

    def __init__(  # noqa: PLR0913 - what pages show comes from all over
        self,
        authority: CertificateAuthority,
        health: Health,
        *,
        check: Check,
        figures: Callable[[], Figures],
        metrics: Callable[[], bytes],
        default_host: str,
        version: str,
    ) -> None:
        self._authority = authority
        self._health = health
        self._check = check
        self._figures = figures
        self._metrics = metrics
        self._default_host = default_host
        self._version = version
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
        try:
            is_known = await self._may_see(request)
        except TooManyGuesses as error:
            return from_error(error, None, trace)
        if not is_known and (request.path == "/metrics" or _would_log_in(request)):
            return _unauthorized(trace)
        status, media_type, body = await self._page(request, is_known=is_known)
        headers = {
            "Content-Type": media_type,
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
        }
        return Response(status, headers, body, trace=trace)

    async def _may_see(self, request: Request) -> bool:
        """Figures; nothing is checked for pages that show none."""
        if request.path not in {"/", "/metrics"}:
            return False
        return await self._check(request.client, request.headers.get("authorization", ""))

    async def _page(self, request: Request, *, is_known: bool) -> tuple[int, str, bytes]:
        match request.path:
            case "/":
                return self._front(request, is_known=is_known)
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

    def _front(self, request: Request, *, is_known: bool) -> tuple[int, str, bytes]:
        is_browser = "text/html" in request.headers.get("accept", "")
        name, media_type = ("index.html", _HTML) if is_browser else ("index.txt", _TEXT)
        text = self._templates.get_template(name).render(
            figures=self._figures() if is_known else None,
            version=self._version,
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
        head = (
            "#!/bin/sh\n"
            f"ENTREPOT_URL='http://{host}'\n"
            f"ENTREPOT_CA_SHA256='{' '.join(self._authority.fingerprints)}'\n"
        )
        return head.encode() + (trust_scripts() / script).read_bytes()

    def _host(self, request: Request) -> str:
        """The name by which this client reached us, so that what we tell it works for it."""
        named = request.headers.get("host", "")
        return named if _HOST.match(named) else self._default_host


def _would_log_in(request: Request) -> bool:
    """Credentials that are wrong are said to be, and the link that asks for some does."""
    is_asking = request.query == "login" or "authorization" in request.headers
    return request.path == "/" and is_asking


def _unauthorized(trace: Trace) -> Response:
    message = "this proxy asks for a user name and password"
    response = problem(401, ErrorCode.UNAUTHORIZED, message, trace)
    response.headers["WWW-Authenticate"] = 'Basic realm="Entrepot", charset="UTF-8"'
    return response


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
