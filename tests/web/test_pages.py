import asyncio
import json
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from entrepot.engine.message import Headers, Request, Response
from entrepot.errors import StorageError, TooManyGuesses
from entrepot.web.health import Health
from entrepot.web.pages import Figures, Pages, readable_size, trust_scripts
from tests.support.pki import TestAuthority

DEFAULT = "docker-registry.local:3128"
FIGURES = Figures(
    registries=("docker.io", "<b>registry</b>"),
    local_registries=("own.test",),
    requests=100,
    hits=90,
    sent_bytes=5_000_000,
    fetched_bytes=1000,
    store_bytes=10**13,
    store_entries=7,
    ca_days_left=364,
)
FINGERPRINT = "AB:CD"
PEER = "192.0.2.7"
HOSTILE = [
    "'; rm -rf /; '",
    "a b",
    "$(reboot)",
    "`reboot`",
    "<script>alert(1)</script>",
    'evil"onload="x',
    "evil.test/path",
    "evil.test:3128\nX: y",
    "user@evil.test",
    "evil.test:port",
    "evil.test:123456",
    "[::1",
    "[not-an-address]",
    "-evil.test",
    "évil.test",
    "evil.test:٣١٢٨",
    "",
    "a" * 300,
]
SERVED = ["docker-registry.local:3128", "proxy", "10.0.0.1:8080", "[2001:db8::1]:3128", "[::1]"]


class Authority:
    """Whose root is being replaced by another."""

    def __init__(self, *pems: str) -> None:
        self.pems = pems
        self.fingerprints = (FINGERPRINT, "EF:01")

    def bundle_pem(self) -> bytes:
        return "".join(self.pems).encode()


@pytest.fixture
def pems(tmp_path: Path) -> tuple[str, str]:
    return TestAuthority(tmp_path / "old").pem, TestAuthority(tmp_path / "new").pem


@pytest.fixture
def problems() -> list[str]:
    """Of the store, as a health check finds them."""
    return []


@pytest.fixture
def notes() -> list[str]:
    """What is told and does no harm."""
    return []


@dataclass
class Desk:
    """Where clients log in, if they must."""

    right: str | None = None
    is_tired: bool = False
    asked: list[tuple[str, str]] = field(default_factory=list)

    async def check(self, client: str, authorization: str) -> bool:
        self.asked.append((client, authorization))
        if self.is_tired:
            raise TooManyGuesses(8)
        return self.right is None or authorization == self.right


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def pages(pems: tuple[str, str], problems: list[str], notes: list[str], desk: Desk) -> Pages:
    async def check() -> None:
        if problems:
            raise StorageError(problems[0])

    async def well() -> None:
        """Nothing is wrong."""

    return Pages(
        Authority(*pems),
        Health({"process": well, "store": check}, {"room": lambda: "".join(notes)}),
        figures=lambda: FIGURES,
        metrics=lambda: b"entrepot_fills 0.0\n",
        default_host=DEFAULT,
        version="1.2.3",
        check=desk.check,
    )


async def page(
    pages: Pages,
    path: str,
    *,
    method: str = "GET",
    host: str = DEFAULT,
    accept: str = "",
    authorization: str = "",
) -> Response:
    given = {"Host": host, "Accept": accept, "Authorization": authorization}
    headers = Headers([(name, value) for name, value in given.items() if value or name == "Host"])
    path, _, query = path.partition("?")
    request = Request(method=method, path=path, query=query, headers=headers, client=PEER)
    return await pages.respond(request)


def text_of(response: Response) -> str:
    assert isinstance(response.body, bytes)
    return response.body.decode()


ALL = ["/", "/ca.crt", "/healthz", "/readyz", "/metrics", "/setup/systemd"]


@pytest.mark.parametrize("path", ALL)
async def test_each_page_is_there_and_nobodys_to_keep(pages: Pages, path: str) -> None:
    response = await page(pages, path)
    assert response.status == 200
    assert response.body
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]
    assert (response.trace.kind, response.trace.registry) == ("page", "")


@pytest.mark.parametrize("path", ALL)
async def test_a_head_is_the_same_without_its_body(pages: Pages, path: str) -> None:
    got, head = await page(pages, path), await page(pages, path, method="HEAD")
    assert (head.status, head.headers) == (got.status, got.headers)
    assert head.content_length == got.content_length


@pytest.mark.parametrize("path", [*ALL, "/nothing"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "CONNECT"])
async def test_they_are_for_reading(pages: Pages, path: str, method: str) -> None:
    response = await page(pages, path, method=method)
    assert response.status == 405
    assert response.headers["Allow"] == "GET, HEAD"
    assert json.loads(text_of(response))["errors"][0]["code"] == "UNSUPPORTED"


@pytest.mark.parametrize(
    "path",
    ["/nothing", "/v2/", "/setup/", "/setup/docker.sh", "/setup/../ca.crt", "/ca.key", "systemd",
     "/setup/systemd/", "/CA.CRT", "//", ""],
)  # fmt: skip
async def test_what_is_not_there(pages: Pages, path: str) -> None:
    response = await page(pages, path)
    assert response.status == 404
    assert path not in text_of(response) or path in {"", "systemd", "//"}


class TestTheFrontPage:
    @pytest.mark.parametrize(
        ("accept", "is_html"),
        [
            ("", False),
            ("*/*", False),
            ("text/html,application/xhtml+xml;q=0.9,*/*;q=0.8", True),
            ("application/json", False),
        ],
    )
    async def test_browsers_see_html_and_others_text(
        self, pages: Pages, accept: str, *, is_html: bool
    ) -> None:
        response = await page(pages, "/", accept=accept)
        kind = "text/html" if is_html else "text/plain"
        assert response.headers["Content-Type"] == f"{kind}; charset=utf-8"
        assert text_of(response).startswith("<!doctype html>") == is_html

    @pytest.mark.parametrize("accept", ["*/*", "text/html"])
    async def test_shows_what_it_is_and_how_to_use_it(self, pages: Pages, accept: str) -> None:
        text = text_of(await page(pages, "/", accept=accept, host="proxy.lan:3128"))
        for shown in (
            "1.2.3",
            "It works",
            "docker.io",
            "5.0 MB",
            "364 days",
            FINGERPRINT,
            "http://proxy.lan:3128/setup/systemd",
            "http://proxy.lan:3128/ca.crt",
        ):
            assert shown in text

    @pytest.mark.parametrize("accept", ["*/*", "text/html"])
    async def test_the_script_and_its_undo_are_lines_of_their_own(
        self, pages: Pages, accept: str
    ) -> None:
        text = text_of(await page(pages, "/", accept=accept, host="proxy.lan:3128"))
        script = "curl -fsS http://proxy.lan:3128/setup/systemd | sudo sh -s --"
        lines = re.findall(rf"{re.escape(script)}([^<\n]*)", text)
        assert lines == [f" --ca-sha256 {FINGERPRINT} --ca-sha256 EF:01", " --undo"]

    @pytest.mark.parametrize("accept", ["*/*", "text/html"])
    async def test_shows_names_as_names(self, pages: Pages, accept: str) -> None:
        assert "<b>" not in text_of(await page(pages, "/", accept=accept))

    @pytest.mark.parametrize("host", HOSTILE)
    @pytest.mark.parametrize("accept", ["*/*", "text/html"])
    async def test_a_hostile_host_is_not_repeated(
        self, pages: Pages, host: str, accept: str
    ) -> None:
        text = text_of(await page(pages, "/", host=host, accept=accept))
        assert not host or host not in text
        assert f"http://{DEFAULT}/ca.crt" in text


class TestWhereClientsLogIn:
    """What bootstraps a client and what a load balancer asks stays open; what is held does not."""

    RIGHT = "Basic right"

    @pytest.fixture
    def desk(self) -> Desk:
        return Desk(right=self.RIGHT)

    @pytest.mark.parametrize("path", ["/ca.crt", "/healthz", "/readyz", "/setup/systemd"])
    @pytest.mark.parametrize("authorization", ["", "Basic wrong"])
    async def test_open_pages_check_nothing(
        self, pages: Pages, desk: Desk, path: str, authorization: str
    ) -> None:
        assert (await page(pages, path, authorization=authorization)).status == 200
        assert desk.asked == []

    @pytest.mark.parametrize("authorization", ["", "Basic wrong"])
    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    async def test_metrics_ask_for_a_password(
        self, pages: Pages, authorization: str, method: str
    ) -> None:
        response = await page(pages, "/metrics", authorization=authorization, method=method)
        assert response.status == 401
        assert response.headers["WWW-Authenticate"].startswith('Basic realm="Entrepot"')
        assert "entrepot_fills" not in text_of(response)

    async def test_metrics_with_it(self, pages: Pages, desk: Desk) -> None:
        response = await page(pages, "/metrics", authorization=self.RIGHT)
        assert response.body == b"entrepot_fills 0.0\n"
        assert desk.asked == [(PEER, self.RIGHT)]

    @pytest.mark.parametrize("accept", ["*/*", "text/html"])
    async def test_the_front_page_without_it_tells_how_to_use_it_alone(
        self, pages: Pages, accept: str
    ) -> None:
        text = text_of(await page(pages, "/", accept=accept))
        for shown in ("1.2.3", FINGERPRINT, f"http://{DEFAULT}/setup/systemd"):
            assert shown in text
        for hidden in ("docker.io", "5.0 MB", "364", "Registries"):
            assert hidden not in text

    @pytest.mark.parametrize("accept", ["*/*", "text/html"])
    async def test_the_front_page_with_it(self, pages: Pages, accept: str) -> None:
        text = text_of(await page(pages, "/", accept=accept, authorization=self.RIGHT))
        for shown in ("docker.io", "5.0 MB", "364 days"):
            assert shown in text

    @pytest.mark.parametrize(
        ("path", "authorization", "status"),
        [
            ("/?login", "", 401),
            ("/?login", "Basic right", 200),
            ("/?logout", "", 200),
            ("/", "Basic wrong", 401),
        ],
    )
    async def test_who_would_log_in_is_asked_to(
        self, pages: Pages, path: str, authorization: str, status: int
    ) -> None:
        response = await page(pages, path, authorization=authorization)
        assert response.status == status
        assert ("WWW-Authenticate" in response.headers) == (status == 401)

    async def test_the_front_page_leads_there(self, pages: Pages) -> None:
        assert '"/?login"' in text_of(await page(pages, "/", accept="text/html"))

    @pytest.mark.parametrize("path", ["/", "/metrics"])
    async def test_who_guessed_too_often_is_told_when_to_come_again(
        self, pages: Pages, desk: Desk, path: str
    ) -> None:
        desk.is_tired = True
        response = await page(pages, path, authorization="Basic wrong")
        assert (response.status, response.headers["Retry-After"]) == (429, "8")
        assert "5.0 MB" not in text_of(response)


@pytest.mark.parametrize("accept", ["*/*", "text/html"])
async def test_the_front_page_says_how_to_use_a_local_registry(pages: Pages, accept: str) -> None:
    text = text_of(await page(pages, "/", accept=accept))
    assert "docker login own.test" in text


class TestTheScript:
    @pytest.mark.parametrize("host", SERVED)
    async def test_begins_with_how_the_client_reached_us(self, pages: Pages, host: str) -> None:
        text = text_of(await page(pages, "/setup/systemd", host=host))
        assert text.startswith("#!/bin/sh\n")
        assert f"ENTREPOT_URL='http://{host}'\n" in text
        assert f"ENTREPOT_CA_SHA256='{FINGERPRINT} EF:01'\n" in text
        assert text.endswith((trust_scripts() / "systemd.sh").read_text())

    @pytest.mark.parametrize("host", HOSTILE)
    async def test_a_hostile_host_is_no_part_of_it(self, pages: Pages, host: str) -> None:
        text = text_of(await page(pages, "/setup/systemd", host=host))
        head = text[: text.index((trust_scripts() / "systemd.sh").read_text())]
        assert head == (
            "#!/bin/sh\n"
            f"ENTREPOT_URL='http://{DEFAULT}'\n"
            f"ENTREPOT_CA_SHA256='{FINGERPRINT} EF:01'\n"
        )

    @pytest.mark.parametrize("host", [*SERVED, *HOSTILE])
    async def test_is_a_script(self, pages: Pages, host: str) -> None:
        script = text_of(await page(pages, "/setup/systemd", host=host))
        checked = await asyncio.to_thread(
            subprocess.run, ["sh", "-n"], input=script.encode(), check=False
        )
        assert checked.returncode == 0


async def test_the_ca_is_all_that_clients_should_trust(pages: Pages, pems: tuple[str, str]) -> None:
    response = await page(pages, "/ca.crt")
    assert response.headers["Content-Type"] == "application/x-pem-file"
    assert text_of(response) == "".join(pems)
    assert text_of(response).count("-----BEGIN CERTIFICATE-----") == 2
    assert "PRIVATE" not in text_of(response)


class TestHealth:
    async def test_ready(self, pages: Pages) -> None:
        response = await page(pages, "/readyz")
        assert text_of(response) == "process: ok\nstore: ok\nroom: ok\n"

    async def test_not_ready_and_why(self, pages: Pages, problems: list[str]) -> None:
        problems.append("the disk is full")
        response = await page(pages, "/readyz")
        assert response.status == 503
        assert text_of(response) == "process: ok\nstore: the disk is full\nroom: ok\n"

    async def test_ready_with_a_note(self, pages: Pages, notes: list[str]) -> None:
        notes.append("the cache cannot grow")
        response = await page(pages, "/readyz")
        assert response.status == 200
        assert text_of(response) == "process: ok\nstore: ok\nroom: the cache cannot grow\n"

    async def test_alive_all_the_same(self, pages: Pages, problems: list[str]) -> None:
        problems.append("the disk is full")
        response = await page(pages, "/healthz")
        assert (response.status, response.body) == (200, b"ok\n")


async def test_metrics_are_what_prometheus_reads(pages: Pages) -> None:
    response = await page(pages, "/metrics")
    assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert response.body == b"entrepot_fills 0.0\n"


@pytest.mark.parametrize(
    ("size", "shown"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (10**9, "1.0 GB"), (10**16, "10.0 PB")],
)
def test_sizes_are_for_people(size: int, shown: str) -> None:
    assert readable_size(size) == shown


def test_scripts_are_found_in_a_checkout(repository_root: Path) -> None:
    assert trust_scripts() == repository_root / "ca" / "trust"
