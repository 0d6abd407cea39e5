"""`mitmdump -s addons/registry_cache.py` serves as `entrepot serve` does, and never forwards
instead.
"""

import asyncio
import shutil
import socket
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Setting
from tests.integration.waiting import eventually
from tests.support.pki import TestAuthority
from tests.support.processes import NotReadyError, Program
from tests.support.proxy import ProxyProcess
from tests.support.registry import ScriptedRegistry

MITMDUMP = str(Path(sys.executable).with_name("mitmdump"))
_READY_S = 30.0


class MitmdumpProcess(ProxyProcess):
    """The other way to start it: listens where mitmdump is told to, else by its configuration."""

    def __init__(self, config: Mapping[str, Any], directory: Path, *scripts: Path) -> None:
        self._directory = directory
        self._scripts = scripts
        self.options: list[str] = []
        super().__init__(config, directory)

    def configure(self, config: Mapping[str, Any]) -> None:
        super().configure({**config, "data": str(self.data)})

    def start(self) -> None:
        command = [MITMDUMP, "--listen-host", self.seat.address, "-p", str(self.port)]
        command += ["--set", f"confdir={self._directory / 'mitmproxy'}", *self.options]
        for script in self._scripts:
            command += ["-s", str(script)]
        environment = {"ENTREPOT_CONFIG": str(self._config_file), "PYTHONUNBUFFERED": "1"}
        self._program = Program(command, self.log, environment)
        try:
            self._program.wait_ready(self.is_ready, _READY_S)
        except BaseException:
            self.kill9()
            raise


class Listening(MitmdumpProcess):
    """Is ready when it takes connections: of a script that has no pages."""

    def is_ready(self) -> bool:
        with socket.socket() as sock:
            return sock.connect_ex(self.address) == 0


@pytest.fixture
def script(repository_root: Path, tmp_path: Path) -> Path:
    """A copy that may be spoilt."""
    return Path(shutil.copy(repository_root / "addons" / "registry_cache.py", tmp_path))


@pytest.fixture(params=["entrepot serve", "mitmdump"])
def either(
    request: pytest.FixtureRequest,
    authority: TestAuthority,
    registry: ScriptedRegistry,
    script: Path,
    tmp_path: Path,
) -> Iterator[Setting]:
    setting = Setting(authority, registry, tmp_path)
    if request.param == "mitmdump":
        setting.proxy = MitmdumpProcess(setting.config, tmp_path, script)
    yield setting
    setting.close()


@pytest.fixture
def dumped(
    authority: TestAuthority, registry: ScriptedRegistry, script: Path, tmp_path: Path
) -> Iterator[Setting]:
    setting = Setting(authority, registry, tmp_path)
    setting.proxy = MitmdumpProcess(setting.config, tmp_path, script)
    yield setting
    setting.close()


async def test_pulls_cold_warm_and_with_the_upstream_dead(either: Setting) -> None:
    image = either.registry.add_image("app", "1.0", (100_000, 3_000_000))
    client = either.start()
    cold = await client.pull(either.url, "app", "1.0")
    assert cold.digest == image.digest
    either.registry.forget()
    assert await client.pull(either.url, "app", "1.0") == cold
    assert either.registry.blob_bytes == either.registry.manifest_gets() == 0
    either.registry.die()
    assert await client.pull(either.url, "app", "1.0") == cold
    either.proxy.restart()
    assert await either.client.pull(either.url, "app", "1.0") == cold


async def test_own_pages(either: Setting) -> None:
    either.start()
    assert either.proxy.page("/healthz") == (200, b"ok\n")
    assert either.proxy.page("/nowhere")[0] == 404
    assert either.proxy.metrics().value("entrepot_connections") >= 1
    host, port = either.proxy.address
    async with await either.client.plain() as connection:
        answer = await connection.request("GET", f"http://{host}:{port}/healthz")
    assert answer.body == b"ok\n"


async def test_what_is_refused_is_refused(either: Setting) -> None:
    either.start()
    async with await either.client.plain() as connection:
        answer = await connection.request("GET", "http://127.0.0.1:80/", {"Host": "127.0.0.1"})
    assert answer.status == 403
    assert "Traceback" not in either.proxy.log_tail()


async def test_it_ends_when_it_is_asked_to(either: Setting) -> None:
    either.start()
    assert either.proxy.terminate() == 0
    assert "Traceback" not in either.proxy.log_tail()


async def test_idle_connections_are_closed(either: Setting) -> None:
    either.config["clients"] = {"idle_timeout": "1s"}
    client = either.start()
    async with await client.plain() as connection:
        await connection.request("GET", "/healthz")
        assert await asyncio.wait_for(connection.reader.read(), 10) == b""


@asynccontextmanager
async def somebody() -> AsyncIterator[tuple[int, list[bytes]]]:
    """A server on loopback, and what it was asked."""
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readline())
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1], heard


async def ask_through(proxy: ProxyProcess, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(*proxy.address)
    try:
        writer.write(request)
        return await asyncio.wait_for(reader.read(), 10)
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


NEVER_READY = """
import asyncio
from contextlib import asynccontextmanager

from entrepot.interception.late_addon import LateAddon


@asynccontextmanager
async def opened():
    await asyncio.Event().wait()
    yield


addons = [LateAddon(opened)]
"""


@pytest.mark.parametrize("is_ours", [True, False], ids=["with it", "without it"])
async def test_nothing_is_forwarded_while_it_is_not_ready(tmp_path: Path, *, is_ours: bool) -> None:
    """Without it, everything would be: that is what mitmproxy does."""
    script = tmp_path / "never_ready.py"
    script.write_text(NEVER_READY if is_ours else "")
    with Listening({}, tmp_path, script) as proxy:
        async with somebody() as (port, heard):
            request = f"http://127.0.0.1:{port}/ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
            answer = await ask_through(proxy, b"GET " + request)
            assert (answer == b"", heard == []) == (is_ours, is_ours)
            await ask_through(proxy, b"CONNECT " + request.removeprefix(b"http://"))


def spoil(script: Path, how: str) -> str:
    """Returns what mitmproxy says when it has noticed."""
    if how == "edited":
        script.write_text(script.read_text() + "\nraise SystemError\n")
        return "Loading script"
    script.unlink()
    return "Removing script"


class TestScript:
    """mitmproxy watches the file and goes on without it when it is gone."""

    @pytest.mark.parametrize("how", ["edited", "deleted"])
    async def test_what_becomes_of_it_does_not_matter_to_who_runs(
        self, dumped: Setting, script: Path, how: str
    ) -> None:
        dumped.start()
        said = dumped.proxy.log_tail()
        noticed = spoil(script, how)

        async def news() -> str:
            return dumped.proxy.log_tail().removeprefix(said)

        await eventually(news, lambda text: noticed in text)
        async with somebody() as (port, heard):
            request = f"GET http://127.0.0.1:{port}/ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
            assert (await ask_through(dumped.proxy, request.encode())).startswith(b"HTTP/1.1 403 ")
            assert heard == []
        assert dumped.proxy.page("/healthz")[0] == 200


class TestBrokenStart:
    @pytest.mark.parametrize(
        ("config", "options", "said"),
        [
            ({"listem": "*:3128"}, [], "listem: unknown setting"),
            ({"data": "/dev/null/data"}, [], "/dev/null/data"),
            ({}, ["--proxyauth", "ann:secret"], "proxyauth"),
        ],
        ids=["configuration", "directory", "options"],
    )
    def test_it_ends_and_says_why(
        self, script: Path, tmp_path: Path, config: dict[str, Any], options: list[str], said: str
    ) -> None:
        class Broken(MitmdumpProcess):
            def configure(self, config: Mapping[str, Any]) -> None:
                super(MitmdumpProcess, self).configure({"data": str(self.data), **config})

        proxy = Broken(config, tmp_path, script)
        proxy.options = options
        with pytest.raises(NotReadyError, match="ended with 1"):
            proxy.start()
        assert said in proxy.log_tail()
        assert "Traceback" not in proxy.log_tail()


WATCHER = """
import logging


def request(flow):
    logging.warning("seen: %s", flow.request.pretty_url)


def client_connected(client):
    logging.warning("connected: %s", client.peername[0])
"""


async def test_beside_other_addons_our_requests_are_none_of_their_flows(
    dumped: Setting, script: Path, tmp_path: Path
) -> None:
    watcher = tmp_path / "watcher.py"
    watcher.write_text(WATCHER)
    dumped.proxy = MitmdumpProcess(dumped.config, tmp_path, watcher, script)
    dumped.registry.add_image("app", "1.0")
    client = dumped.start()
    assert (await client.pull(dumped.url, "app", "1.0")).blobs
    assert "connected: 127.0.0.1" in dumped.proxy.log_tail()
    assert "seen: " not in dumped.proxy.log_tail()
