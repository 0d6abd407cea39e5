"""Input that means harm: refused with an OCI error, nothing lost, the proxy alive."""

import asyncio
import base64
import json
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress

import pytest

from tests.integration.conftest import Setting
from tests.support.client import Answer, ProxyClient, RefusedError
from tests.support.pki import TestAuthority
from tests.support.registry import ScriptedRegistry


@pytest.fixture(scope="module")
def shared(authority: TestAuthority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setting]:
    """One proxy for all of it: what one test did must not hurt the next."""
    with ScriptedRegistry(authority) as registry:
        setting = Setting(authority, registry, tmp_path_factory.mktemp("hostile"))
        registry.add_image("app", "1.0")
        setting.start()
        yield setting
        setting.close()


@pytest.fixture
async def client(shared: Setting) -> AsyncIterator[ProxyClient]:
    """Whatever a test did, the next client is served."""
    client = shared.client
    yield client
    assert (await client.pull(shared.url, "app", "1.0")).blobs
    log = shared.proxy.log_tail()
    assert "Traceback" not in log
    assert "crashed" not in log


def is_oci_error(answer: Answer) -> bool:
    (error,) = json.loads(answer.body)["errors"]
    return bool(error["code"] and error["message"])


@pytest.mark.parametrize(
    "path",
    [
        "/v2/../../etc/passwd",
        "/v2/app/manifests/../../../x",
        "/v2/app/manifests/%2e%2e%2f%2e%2e%2fx",
        "/v2/app%2f..%2fother/manifests/1.0",
        "/v2/App/manifests/1.0",
        "/v2/app/manifests/-bad",
        "/v2/app/manifests/sha256:abc",
        "/v2/app/blobs/sha256:../../../../etc/passwd",
        "/v2/app/blobs/sha256:" + "g" * 64,
        "/v2/app/blobs/md5:d41d8cd98f00b204e9800998ecf8427e",
        "/v2/app/blobs/latest",
        "/v2//app/manifests/1.0",
        "/v2/app\\x/manifests/1.0",
        "/v2/app%00/manifests/1.0",
        "/v2/app%0d%0aHost:%20evil/manifests/1.0",
        "/v2/" + "a" * 300 + "/manifests/1.0",
    ],
)
async def test_bogus_names(client: ProxyClient, shared: Setting, path: str) -> None:
    async with await client.connect("registry.test") as connection:
        answer = await connection.request("GET", path)
    assert answer.status == 400
    assert is_oci_error(answer)
    assert not shared.registry.log.find("*..*")


SMUGGLED = b"GET /v2/ HTTP/1.1\r\nHost: registry.test\r\n\r\n"


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /v2/ HTTP/1.1\r\n\r\n",
        b"GET /v2/ HTTP/1.1\r\nHost: registry.test\r\nHost: registry.test\r\n\r\n",
        b"GET /v2/ HTTP/1.1\r\nHost: registry.test\r\nHost: evil.test\r\n\r\n",
        b"POST /v2/ HTTP/1.1\r\nHost: registry.test\r\nContent-Length: 3\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
        b"POST /v2/ HTTP/1.1\r\nHost: registry.test\r\nTransfer-Encoding: xchunked\r\n\r\n"
        + SMUGGLED,
        b"POST /v2/ HTTP/1.1\r\nHost: registry.test\r\n"
        b"Transfer-Encoding: chunked, identity\r\n\r\n" + SMUGGLED,
        b"POST /v2/ HTTP/1.1\r\nHost: registry.test\r\n"
        b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd" + SMUGGLED,
        b"POST /v2/ HTTP/1.1\r\nHost: registry.test\r\nContent-Length: +3\r\n\r\nabc" + SMUGGLED,
        b"POST /v2/ HTTP/1.1\r\nHost: registry.test\r\nContent-Length: -1\r\n\r\n" + SMUGGLED,
        b"POST /v2/ HTTP/1.1\r\nHost: registry.test\r\nContent-Length: " + b"9" * 20 + b"\r\n\r\n",
        b"GET /v2/ HTTP/1.1\r\nHost : registry.test\r\n\r\n",
        b"GET /v2/ HTTP/1.1\r\nHost: registry.test\r\nX: a\r\n folded\r\n\r\n",
        b"GET /v2/ HTTP/1.1\r\nHost: registry.test\r\nX: a\x00b\r\n\r\n",
        b"GET /v2/ HTTP/1.1\nHost: registry.test\n\n",
        b"GET /v2/\x01 HTTP/1.1\r\nHost: registry.test\r\n\r\n",
        b"G\xc3\x84T /v2/ HTTP/1.1\r\nHost: registry.test\r\n\r\n",
        b"GET /v2/ HTTP/9.9\r\nHost: registry.test\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x00\x05hello\r\n\r\n",
        b"GET /v2/ HTTP/1.1\r\nHost: registry.test\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
        b"CONNECT evil.test:443 HTTP/1.1\r\nHost: evil.test:443\r\n\r\n",
    ],
)
async def test_what_could_be_read_in_two_ways(
    client: ProxyClient, shared: Setting, request_: bytes
) -> None:
    """One answer at the most, a refusal, and the connection ends."""
    async with await client.connect("registry.test") as connection:
        await connection.send_raw(request_)
        everything = await asyncio.wait_for(connection.reader.read(), 10)
    assert everything.count(b"HTTP/1.1 ") <= 1
    assert not everything or everything.startswith(b"HTTP/1.1 4"), everything[:200]
    assert not shared.registry.log.find("*evil*")


@pytest.mark.parametrize(
    ("name", "value", "status"),
    [
        ("X-Large", "x" * 100_000, 431),
        ("Range", "bytes=" + ",".join(f"{i}-{i}" for i in range(5000)), 401),
        ("Range", "bytes=99999999999999999999999999-", 401),
        ("Authorization", "Bearer " + "x" * 30_000, 401),
        ("Authorization", "Bearer entrepot.AAAA", 401),
        ("Authorization", "Basic \x80", 401),
        ("If-None-Match", '"' * 9000, 401),
        ("Accept", ", " * 20_000, 401),
    ],
)
async def test_absurd_headers(client: ProxyClient, name: str, value: str, status: int) -> None:
    async with await client.connect("registry.test") as connection:
        answer = await connection.request("GET", "/v2/", {name: value})
    assert answer.status in {status, 200}
    assert answer.status == 200 or is_oci_error(answer)


async def test_too_many_headers(client: ProxyClient) -> None:
    headers = {f"X-{number}": "x" for number in range(1000)}
    async with await client.connect("registry.test") as connection:
        assert (await connection.request("GET", "/v2/", headers)).status == 431


async def test_a_long_target(client: ProxyClient) -> None:
    async with await client.connect("registry.test") as connection:
        assert (await connection.request("GET", "/v2/" + "a/" * 10_000)).status == 414


async def test_a_request_for_another_host_than_the_tunnel_leads_to(client: ProxyClient) -> None:
    async with await client.connect("registry.test") as connection:
        answer = await connection.request("GET", "/v2/", {"Host": "docker.io"})
    assert answer.status == 421
    assert is_oci_error(answer)


FORBIDDEN = [
    "127.0.0.1:443", "127.0.0.1:5000", "127.1:443", "2130706433:443", "0x7f000001:443",
    "0177.0.0.1:443", "[::1]:443", "[::ffff:127.0.0.1]:443", "[::]:443", "0.0.0.0:443",
    "169.254.169.254:80", "169.254.169.254:443", "[fd00:ec2::254]:80", "[fe80::1]:443",
    "[::ffff:169.254.169.254]:80", "100.100.100.200:80", "224.0.0.1:443", "localhost:443",
    "localhost.:443", "LOCALHOST:443",
]  # fmt: skip


@pytest.mark.parametrize("target", FORBIDDEN)
async def test_addresses_that_are_never_tunnelled_to(client: ProxyClient, target: str) -> None:
    async with await client.plain() as connection:
        answer = await connection.request("CONNECT", target, {"Host": target})
    assert answer.status in {403, 502}, answer.body
    assert is_oci_error(answer)


@pytest.mark.parametrize("target", FORBIDDEN)
async def test_nor_forwarded_to(client: ProxyClient, target: str) -> None:
    async with await client.plain() as connection:
        answer = await connection.request("GET", f"http://{target}/x", {"Host": target})
    assert answer.status in {403, 502}, answer.body
    assert is_oci_error(answer)


async def test_the_proxy_is_not_led_back_to_itself(client: ProxyClient, shared: Setting) -> None:
    _, port = shared.proxy.address
    for host in ("127.0.0.1", "localhost", "docker-registry.local", "[::1]", "127.1"):
        async with await client.plain() as connection:
            authority = f"{host}:{port}"
            answer = await connection.request("CONNECT", authority, {"Host": authority})
            assert answer.status == 403
            assert is_oci_error(answer)


async def test_its_own_pages_are_served_however_they_are_asked_for(
    client: ProxyClient, shared: Setting
) -> None:
    _, port = shared.proxy.address
    for host in ("127.0.0.1", "docker-registry.local", "localhost"):
        async with await client.plain() as connection:
            url = f"http://{host}:{port}/healthz"
            answer = await connection.request("GET", url, {"Host": f"{host}:{port}"})
            assert (answer.status, answer.body) == (200, b"ok\n")


@pytest.mark.parametrize(
    "target",
    ["", ":443", "registry.test", "registry.test:", "registry.test:x", "a:70000", "a@b:443",
     "registry.test:443/x", "http://registry.test:443", "[::1:443", "\x80:443"],
)  # fmt: skip
async def test_bogus_connect_targets(client: ProxyClient, target: str) -> None:
    async with await client.plain() as connection:
        await connection.send_raw(f"CONNECT {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode("latin-1"))
        answer = await connection.answer()
    assert answer.status in {400, 403, 502}
    assert is_oci_error(answer)


async def test_a_port_that_is_not_on_the_list(client: ProxyClient) -> None:
    with pytest.raises(RefusedError) as refused:
        await client.connect("registry.example", 22)
    assert refused.value.answer.status == 403
    assert b"port 22" in refused.value.answer.body


async def test_heads_that_never_end(setting: Setting) -> None:
    setting.config["clients"] = {"header_timeout": "500ms"}
    setting.registry.add_image("app", "1.0")
    client = setting.start()
    async with await client.plain() as connection:
        await connection.send_raw(b"GET / HTTP/1.1\r\nHost: x\r\n")
        assert (await connection.answer()).status == 408
    async with await client.connect("registry.test") as connection:
        await connection.send_raw(b"GET /v2/ HTTP/1.1\r\nHost: registry.test\r\n")
        assert (await connection.answer()).status == 408


async def test_endless_heads(client: ProxyClient) -> None:
    async with await client.plain() as connection:
        await connection.send_raw(b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20_000)
        assert (await connection.answer()).status == 431


async def test_clients_that_are_not_served(setting: Setting) -> None:
    setting.start()
    setting.config["clients"] = {"allow": ["192.0.2.0/24"]}
    setting.proxy.configure(setting.config)
    setting.proxy.signal(signal.SIGHUP)
    deadline = time.monotonic() + 10
    while (answer := setting.proxy.page("/healthz"))[0] != 403:
        assert time.monotonic() < deadline
    assert b"not among the clients" in answer[1]


async def test_a_proxy_that_asks_for_a_password(setting: Setting) -> None:
    setting.registry.add_image("app", "1.0")
    setting.config["clients"] = {"username": "ann", "password": "correct horse"}
    client = setting.start()
    _, port = setting.proxy.address
    right = base64.b64encode(b"ann:correct horse").decode()
    for header, status in (("", 407), ("Basic AAAA", 407), (f"Bearer {right}", 407), (right, 407)):
        async with await client.plain() as connection:
            headers = {"Host": "registry.test:443"}
            headers |= {"Proxy-Authorization": header} if header else {}
            answer = await connection.request("CONNECT", "registry.test:443", headers)
            assert answer.status == status
            assert answer.headers["proxy-authenticate"] == 'Basic realm="Entrepot"'
    async with await client.plain() as connection:
        answer = await connection.request("GET", f"http://registry.test:{port}/v2/")
        assert answer.status == 407
    async with await client.plain() as connection:
        headers = {"Host": "registry.test:443", "Proxy-Authorization": f"basic {right}"}
        await connection.send("CONNECT", "registry.test:443", headers)
        assert (await connection.head()).status == 200
    assert setting.proxy.page("/ca.crt")[0] == 200
    assert "correct horse" not in setting.proxy.log_tail()
    assert right not in setting.proxy.log_tail()


async def test_clients_that_go_away_at_any_moment(client: ProxyClient, shared: Setting) -> None:
    host, port = shared.proxy.address
    whole = b"CONNECT registry.test:443 HTTP/1.1\r\nHost: registry.test:443\r\n\r\n\x16\x03\x01\x02"
    for length in range(0, len(whole), 3):
        with socket.create_connection((host, port)) as sock:
            sock.sendall(whole[:length])
    async with await client.connect("registry.test") as connection:
        await connection.send_raw(b"GET /v2/app/manifests/1.0 HTTP/1.1\r\nHost: regis")
        connection.abort()


async def test_pipelined_requests_are_answered_in_order(client: ProxyClient) -> None:
    async with await client.connect("registry.test") as connection:
        await connection.send_raw(SMUGGLED * 3)
        for _ in range(3):
            assert (await connection.answer()).status == 401


async def test_a_flood_of_pipelined_requests_is_cut_off(client: ProxyClient) -> None:
    async with await client.connect("registry.test") as connection:
        await connection.send_raw(SMUGGLED * 5000)
        received = 0
        with suppress(ConnectionResetError):
            while data := await asyncio.wait_for(connection.reader.read(1 << 16), 10):
                received += data.count(b"HTTP/1.1 ")
    assert received < 5000
