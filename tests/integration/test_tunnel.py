"""What is no registry passes untouched, within the policy: through the real proxy, to real servers.

Loopback is never tunnelled to, so all of it lives in a network namespace with ordinary addresses,
and a hosts file of its own.
"""

import asyncio
import hashlib
import random
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Setting
from tests.integration.waiting import eventually
from tests.support import netns
from tests.support.client import Connection, ProxyClient, RefusedError
from tests.support.netns import Namespace
from tests.support.pki import TestAuthority
from tests.support.processes import Seat
from tests.support.proxy import ProxyProcess

ALIVE, ALIVE_6, DEAD_6 = "10.77.5.2", "2001:db8:77::2", "2001:db8:77::dead"
NAMES = {
    "tunnelled.test": (ALIVE,),
    "denied.test": (ALIVE,),
    "six.test": (ALIVE_6,),
    "half-dead.test": (DEAD_6, ALIVE),
    "dead.test": (DEAD_6,),
    "rebound.test": ("127.0.0.1",),
    "mixed.test": ("127.0.0.1", ALIVE),
}

type Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Town:
    """Servers, the proxy and its clients, in one namespace."""

    def __init__(self, directory: Path) -> None:
        self.namespace = Namespace(directory, is_pid_isolated=False)
        try:
            self._furnish(directory)
        except BaseException:
            self.namespace.close()
            raise

    def _furnish(self, directory: Path) -> None:
        for command in (
            "ip link add here type veth peer name there",
            f"ip address add {ALIVE}/24 dev here",
            f"ip address add {ALIVE_6}/64 dev here nodad",
            "ip link set here up",
            "ip link set there up",  # nobody answers there: its side is dead
        ):
            self.namespace.check(*command.split())
        hosts = directory / "hosts"
        lines = [f"{ip} {name}" for name, found in NAMES.items() for ip in found]
        hosts.write_text("\n".join(["127.0.0.1 localhost", *lines, ""]))
        self.namespace.mount_over("/etc/hosts", hosts)
        resolver = directory / "resolv.conf"
        resolver.write_text("")
        self.namespace.mount_over("/etc/resolv.conf", resolver)

    def proxy(self, directory: Path, **settings: Any) -> ProxyProcess:
        namespace = self.namespace
        seat = Seat(prefix=namespace.command(), entered=namespace.entered)
        return ProxyProcess({"storage": {"min_free": "1m"}, **settings}, directory, seat=seat)

    @asynccontextmanager
    async def server(
        self,
        serve: Serve,
        port: int = 443,
        *,
        address: str = ALIVE,
        tls: ssl.SSLContext | None = None,
    ) -> AsyncIterator[None]:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with self.namespace.entered():
            sock = socket.create_server((address, port), family=family)
        async with await asyncio.start_server(serve, sock=sock, ssl=tls):
            yield


class TownClient(ProxyClient):
    """Its connections begin in the namespace."""

    def __init__(self, town: Town, proxy: ProxyProcess, trust: ssl.SSLContext) -> None:
        super().__init__(proxy.address, trust)
        self._town = town

    async def plain(self) -> Connection:
        with self._town.namespace.entered():
            return await super().plain()


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    if reason := netns.why_impossible():
        pytest.skip(reason)
    town = Town(tmp_path_factory.mktemp("town"))
    yield town
    town.namespace.close()


@pytest.fixture(scope="module")
def proxy(town: Town, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxyProcess]:
    """One on its defaults, for all tests that change nothing."""
    with town.proxy(tmp_path_factory.mktemp("proxy")) as proxy:
        yield proxy


@pytest.fixture
def client(town: Town, proxy: ProxyProcess, authority: TestAuthority) -> TownClient:
    return TownClient(town, proxy, authority.client_context())


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()
    await writer.wait_closed()


async def status_of_connect(client: ProxyClient, host: str, port: int = 443) -> int:
    try:
        async with await client.connect(host, port, tls=False):
            return 200
    except RefusedError as error:
        return error.answer.status


class TestBytes:
    async def test_the_client_sees_the_server_s_own_certificate(
        self, town: Town, client: TownClient, authority: TestAuthority
    ) -> None:
        certificate = authority.issue("tunnelled.test")
        shown = ssl.PEM_cert_to_DER_cert(certificate.certificate.read_text())
        async with (
            town.server(echo, tls=certificate.context()),
            await client.connect("tunnelled.test") as connection,
        ):
            assert connection.peer_certificate == shown
            await connection.send_raw(b"hello")
            assert await connection.reader.readexactly(5) == b"hello"

    async def test_a_client_that_has_said_all_still_hears_the_answer(
        self, town: Town, client: TownClient
    ) -> None:
        async def answer_all(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked = await reader.read()
            writer.write(b"heard " + asked)
            writer.close()
            await writer.wait_closed()

        async with (
            town.server(answer_all),
            await client.connect("tunnelled.test", tls=False) as connection,
        ):
            await connection.send_raw(b"all")
            connection.writer.write_eof()
            assert await connection.reader.read() == b"heard all"

    async def test_so_does_a_server(self, town: Town, client: TownClient) -> None:
        heard: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        async def say_all(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"all")
            writer.write_eof()
            heard.set_result(await reader.read())
            writer.close()
            await writer.wait_closed()

        async with (
            town.server(say_all),
            await client.connect("tunnelled.test", tls=False) as connection,
        ):
            assert await connection.reader.read() == b"all"
            await connection.send_raw(b"understood")
            connection.writer.write_eof()
            assert await asyncio.wait_for(heard, 10) == b"understood"

    async def test_much_both_ways_at_once(self, town: Town, client: TownClient) -> None:
        up, down = (random.Random(seed).randbytes(32 << 20) for seed in (1, 2))
        received = hashlib.sha256()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_send(writer, down))
                while data := await reader.read(1 << 20):
                    received.update(data)
            writer.close()
            await writer.wait_closed()

        async with (
            town.server(serve),
            await client.connect("tunnelled.test", tls=False) as connection,
            asyncio.TaskGroup() as tasks,
        ):
            tasks.create_task(_send(connection.writer, up))
            got = await connection.reader.read()
        assert hashlib.sha256(got).digest() == hashlib.sha256(down).digest()
        assert received.digest() == hashlib.sha256(up).digest()


async def _send(writer: asyncio.StreamWriter, data: bytes) -> None:
    for start in range(0, len(data), 1 << 18):
        writer.write(data[start : start + (1 << 18)])
        await writer.drain()
    writer.write_eof()


class TestAddresses:
    async def test_ipv6(self, town: Town, client: TownClient) -> None:
        async with town.server(echo, address=ALIVE_6):
            assert await status_of_connect(client, "six.test") == 200
            assert await status_of_connect(client, f"[{ALIVE_6}]") == 200

    async def test_nobody_waits_for_an_address_that_is_dead(
        self, town: Town, client: TownClient
    ) -> None:
        started = time.monotonic()
        async with town.server(echo):
            assert await status_of_connect(client, "half-dead.test") == 200
        assert time.monotonic() - started < 5

    async def test_where_all_are_dead_the_client_hears_so(
        self, town: Town, authority: TestAuthority, tmp_path: Path
    ) -> None:
        settings = {"tunnel": {"connect_timeout": "500ms"}}
        with town.proxy(tmp_path, **settings) as proxy:
            client = TownClient(town, proxy, authority.client_context())
            assert await status_of_connect(client, "dead.test") == 504

    async def test_nobody_listens(self, client: TownClient) -> None:
        assert await status_of_connect(client, "tunnelled.test") == 504

    async def test_unknown_names(self, client: TownClient) -> None:
        assert await status_of_connect(client, "unknown.test") == 502

    async def test_names_that_lead_to_the_proxy_s_machine(self, client: TownClient) -> None:
        assert await status_of_connect(client, "rebound.test") == 403

    async def test_of_a_mix_the_ordinary_address(self, town: Town, client: TownClient) -> None:
        async with town.server(echo):
            assert await status_of_connect(client, "mixed.test") == 200

    async def test_the_proxy_by_another_of_its_machine_s_addresses(
        self, client: TownClient, proxy: ProxyProcess
    ) -> None:
        assert await status_of_connect(client, ALIVE, proxy.port) == 403


class TestPolicy:
    async def test_deny_with_exceptions(
        self, town: Town, authority: TestAuthority, tmp_path: Path
    ) -> None:
        settings = {"tunnel": {"policy": "deny", "hosts": ["tunnelled.test"]}}
        with town.proxy(tmp_path, **settings) as proxy:
            client = TownClient(town, proxy, authority.client_context())
            async with town.server(echo):
                assert await status_of_connect(client, "tunnelled.test") == 200
                assert await status_of_connect(client, "denied.test") == 403
                assert await status_of_connect(client, ALIVE) == 403

    async def test_allow_with_exceptions(
        self, town: Town, authority: TestAuthority, tmp_path: Path
    ) -> None:
        settings = {"tunnel": {"hosts": ["denied.test"], "ports": [4443]}}
        with town.proxy(tmp_path, **settings) as proxy:
            client = TownClient(town, proxy, authority.client_context())
            async with town.server(echo, 4443):
                assert await status_of_connect(client, "tunnelled.test", 4443) == 200
                assert await status_of_connect(client, "denied.test", 4443) == 403
                assert await status_of_connect(client, "tunnelled.test", 443) == 403


async def mirror(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An HTTP server that answers with the request it was sent."""
    head = await reader.readuntil(b"\r\n\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
    body = await reader.readexactly(int(fields.get(b"content-length", b"0")))
    digest = hashlib.sha256(body).hexdigest().encode()
    writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + head + digest)
    writer.close()
    await writer.wait_closed()


class TestPlainHttp:
    """What package managers and the like send to HTTP_PROXY."""

    async def test_get(self, town: Town, client: TownClient) -> None:
        async with town.server(mirror, 80), await client.plain() as connection:
            headers = {"Host": "tunnelled.test", "Proxy-Authorization": "Basic c2VjcmV0"}
            answer = await connection.request("GET", "http://tunnelled.test/a?b=c", headers)
        assert answer.status == 200
        assert answer.body.startswith(b"GET /a?b=c HTTP/1.1\r\nHost: tunnelled.test\r\n")
        assert b"Proxy" not in answer.body

    @pytest.mark.parametrize("host", ["tunnelled.test", "half-dead.test"])
    async def test_post_of_what_comes_before_the_server_answers(
        self, town: Town, client: TownClient, host: str
    ) -> None:
        body = random.Random(3).randbytes(20 << 20)
        async with town.server(mirror, 80), await client.plain() as connection:
            answer = await connection.request("POST", f"http://{host}/up", {"Host": host}, body)
        assert answer.body.endswith(hashlib.sha256(body).hexdigest().encode())

    async def test_the_next_request_goes_where_it_is_for(
        self, town: Town, client: TownClient
    ) -> None:
        async with town.server(mirror, 80), await client.plain() as connection:
            await connection.send("GET", "http://tunnelled.test/", {"Host": "tunnelled.test"})
            assert (await connection.answer()).status == 200
            assert await connection.reader.read() == b""

    async def test_a_registry_is_asked_for_once_a_connection_too(self, client: TownClient) -> None:
        """Clients keep a proxy's connection for all hosts: the next may be none of ours."""
        async with await client.plain() as connection:
            answer = await connection.request("GET", "http://docker.io/v2/", {"Host": "docker.io"})
        assert answer.headers["connection"] == "close"


class TestPatience:
    async def test_a_tunnel_on_which_nothing_happens_is_closed(
        self, town: Town, authority: TestAuthority, tmp_path: Path
    ) -> None:
        with town.proxy(tmp_path, clients={"idle_timeout": "1s"}) as proxy:
            client = TownClient(town, proxy, authority.client_context())
            async with (
                town.server(echo),
                await client.connect("tunnelled.test", tls=False) as connection,
            ):
                for _ in range(4):  # one that is used lives on
                    await asyncio.sleep(0.5)
                    await connection.send_raw(b"x")
                    assert await connection.reader.readexactly(1) == b"x"
                started = time.monotonic()
                assert await asyncio.wait_for(connection.reader.read(), 10) == b""
            assert 0.5 < time.monotonic() - started < 5

    async def test_an_upload_whose_client_falls_silent_is_ended(self, setting: Setting) -> None:
        setting.config["clients"] = {"idle_timeout": "1s"}
        setting.upstream["push"] = "allow"
        client = setting.start()
        async with await client.connect("registry.test") as connection:
            fields = "Host: registry.test\r\nContent-Length: 1000\r\n"
            path = "/v2/app/blobs/uploads/1"
            await connection.send_raw(f"PATCH {path} HTTP/1.1\r\n{fields}\r\nsome".encode())
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await asyncio.wait_for(connection.head(), 10)

        async def exchanges() -> float:
            metrics = await asyncio.to_thread(setting.proxy.metrics)
            return metrics.value("entrepot_exchanges")

        await eventually(exchanges, lambda count: count <= 1)  # this one
        assert "the client sent nothing for 1 s" in setting.proxy.log_tail()
        assert "Traceback" not in setting.proxy.log_tail()
