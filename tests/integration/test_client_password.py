"""The proxy as what asks for a password, by sockets: who gets in, and what guessing is worth."""

import asyncio
import json
import re
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.integration.conftest import Setting
from tests.integration.waiting import eventually
from tests.passwords.passwords import line, write_htpasswd
from tests.support.client import Answer, Connection, ProxyClient
from tests.support.engine import basic

REGISTRY = "registry.test:443"
GUESSES = 100
FREE, QUEUED = 5, 3


@pytest.fixture
def htpasswd(tmp_path: Path) -> Path:
    return write_htpasswd(tmp_path, ann="of ann's", bob="of bob's")


@pytest.fixture
def client(setting: Setting, htpasswd: Path) -> ProxyClient:
    setting.config["clients"] = {"htpasswd": str(htpasswd)}
    return setting.start()


async def knock(client: ProxyClient, authorization: str = "", target: str = REGISTRY) -> Answer:
    """A CONNECT; a tunnel that opens is closed again."""
    async with await client.plain() as connection:
        headers = {"Proxy-Authorization": authorization} if authorization else {}
        await connection.send("CONNECT", target, headers)
        head = await connection.head()
        if head.status == 200:
            return Answer(200, head.headers, b"")
        body = b"".join([piece async for piece in connection.pieces(head)])
        return Answer(head.status, head.headers, body)


async def page(client: ProxyClient, path: str, authorization: str = "") -> Answer:
    async with await client.plain() as connection:
        headers = {"Authorization": authorization} if authorization else {}
        return await connection.request("GET", path, headers)


def log_of(setting: Setting) -> Callable[[], Awaitable[str]]:
    async def ask() -> str:
        return setting.proxy.log_tail()

    return ask


async def test_each_user_of_the_file_gets_in_and_nobody_else(client: ProxyClient) -> None:
    for user in ("ann", "bob"):
        assert (await knock(client, basic(user, f"of {user}'s"))).status == 200
    for wrong in ("", basic("ann", "of bob's"), basic("carol", "of ann's"), "Bearer x"):
        answer = await knock(client, wrong)
        assert answer.status == 407
        assert answer.headers["proxy-authenticate"] == 'Basic realm="Entrepot"'


async def test_who_got_in_reaches_registries(setting: Setting, client: ProxyClient) -> None:
    setting.registry.add_image("app", "1.0")
    async with await client.plain() as connection:
        right = {"Proxy-Authorization": basic("ann", "of ann's")}
        await connection.send("CONNECT", REGISTRY, right)
        assert (await connection.head()).status == 200
        trust = setting.client._trust
        await connection.writer.start_tls(trust, server_hostname="registry.test")
        answer = await connection.request("GET", "/v2/", {"Host": "registry.test"})
        assert answer.status == 401  # the registry's own challenge


async def test_what_the_file_says_holds_at_once(
    setting: Setting, client: ProxyClient, htpasswd: Path
) -> None:
    """Without a reload; and a version of no use changes nothing."""
    old, new = basic("ann", "of ann's"), basic("ann", "another")
    assert (await knock(client, old)).status == 200
    await asyncio.to_thread(htpasswd.write_text, line("ann", "another"))
    assert (await knock(client, old)).status == 407
    assert (await knock(client, new)).status == 200
    await asyncio.to_thread(htpasswd.write_text, "ann:plain-text-password\n")
    assert (await knock(client, new)).status == 200
    log = setting.proxy.log_tail()
    assert "line 1: expected a bcrypt hash" in log
    assert "plain-text-password" not in log


async def test_a_hundred_guesses(setting: Setting, client: ProxyClient) -> None:
    """They are held up or refused, and told of; who is known goes in and out meanwhile."""
    right = basic("ann", "of ann's")
    assert (await knock(client, right)).status == 200
    answered: list[Answer] = []

    async def guess(number: int) -> None:
        answered.append(await knock(client, basic("ann", f"guess-{number}")))

    async def count() -> int:
        return len(answered)

    async with asyncio.TaskGroup() as tasks:
        guesses = [tasks.create_task(guess(number)) for number in range(GUESSES)]
        # The last of the queue wait for seconds: they are not waited for here.
        await eventually(count, lambda answers: answers >= GUESSES - QUEUED)
        assert (await knock(client, right)).status == 200
        assert any(not each.done() for each in guesses)
        for each in guesses:
            each.cancel()
    refused = [answer for answer in answered if answer.status == 429]
    assert len(refused) == GUESSES - FREE - QUEUED
    assert {answer.status for answer in answered} == {407, 429}
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
    assert refused[0].json()["errors"][0]["code"] == "TOOMANYREQUESTS"


async def test_they_are_counted_and_told_of(setting: Setting, client: ProxyClient) -> None:
    right = basic("ann", "of ann's")
    for number in range(FREE):
        assert (await knock(client, basic("ann\n\x1b", f"guess-{number}"))).status == 407
    text = (await page(client, "/metrics", right)).body.decode()
    assert f'entrepot_login_failures_total{{reason="wrong"}} {FREE}.0' in text
    log = setting.proxy.log_tail()
    lines = [found for found in log.splitlines() if "login failed" in found]
    assert len(lines) == FREE
    told = json.loads(lines[-1])
    assert told["level"] == "warning"
    assert re.search(r"client 127\.0\.0\.1, user 'ann\\n\\x1b': wrong", told["message"])
    for secret in ("guess-", "of ann's", right.removeprefix("Basic "), "$2y$"):
        assert secret not in log


async def test_a_reload_forgets_no_guess(setting: Setting, client: ProxyClient) -> None:
    """And takes the users of the new configuration."""
    for number in range(FREE):
        assert (await knock(client, basic("ann", f"guess-{number}"))).status == 407
    setting.config["clients"] = {"username": "carol", "password": "of carol's"}
    setting.proxy.configure(setting.config)
    setting.proxy.signal(signal.SIGHUP)
    carol = basic("carol", "of carol's")
    await eventually(log_of(setting), lambda log: "configuration reloaded" in log)
    assert (await knock(client, carol)).status == 200
    assert (await knock(client, basic("ann", "of ann's"))).status == 407
    text = (await page(client, "/metrics", carol)).body.decode()
    assert f'entrepot_login_failures_total{{reason="wrong"}} {FREE + 1}.0' in text


async def test_the_pages_that_set_a_client_up_stay_open(client: ProxyClient) -> None:
    for path in ("/ca.crt", "/setup/systemd", "/healthz", "/readyz"):
        assert (await page(client, path)).status == 200


async def test_what_the_proxy_holds_is_shown_to_users_alone(client: ProxyClient) -> None:
    right, wrong = basic("ann", "of ann's"), basic("ann", "wrong")
    for path, authorization, status, is_shown in (
        ("/", "", 200, False),
        ("/", right, 200, True),
        ("/", wrong, 401, False),
        ("/?login", "", 401, False),
        ("/metrics", "", 401, False),
        ("/metrics", wrong, 401, False),
    ):
        answer = await page(client, path, authorization)
        assert answer.status == status, path
        assert (b"registry.test" in answer.body) is is_shown
    assert b"entrepot_requests_total" in (await page(client, "/metrics", right)).body


async def test_a_password_for_own_pages_opens_no_tunnel(client: ProxyClient) -> None:
    """Authorization is for pages, Proxy-Authorization for what leads elsewhere."""
    async with await client.plain() as connection:
        await connection.send("CONNECT", REGISTRY, {"Authorization": basic("ann", "of ann's")})
        assert (await connection.head()).status == 407
    assert (await page(client, "/metrics")).status == 401


async def test_the_page_of_a_kept_connection_is_no_way_in(
    setting: Setting, client: ProxyClient
) -> None:
    async with await client.plain() as connection:
        assert (await connection.request("GET", "/healthz")).status == 200
        assert (await _through(connection)).status == 421


async def _through(connection: Connection) -> Answer:
    return await connection.request("GET", "http://registry.test:443/v2/")
