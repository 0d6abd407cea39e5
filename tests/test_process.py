"""The process as an operator handles it: signals, and starts that fail."""

import asyncio
import gc
import http.client
import os
import signal
import socket
import ssl
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.integration.waiting import eventually
from tests.support.client import ProxyClient
from tests.support.content import Given
from tests.support.faults import Hold
from tests.support.processes import clean_environment
from tests.support.proxy import ProxyProcess
from tests.support.registry import ScriptedRegistry

with warnings.catch_warnings():
    # mitmproxy calls pyparsing by names that its newer versions warn of, once, when it is imported.
    warnings.simplefilter("ignore", DeprecationWarning)
    from entrepot.process import spare_the_collector

NAME = "https://registry.test"


@pytest.fixture
def registry() -> Iterator[ScriptedRegistry]:
    with ScriptedRegistry() as registry:
        registry.add_image("app", "1.0")
        yield registry


class Operated:
    """A proxy whose configuration the test changes while it runs."""

    def __init__(self, registry: ScriptedRegistry, directory: Path) -> None:
        self.config: dict[str, Any] = {
            "registries": {"registry.test": {"endpoints": [registry.url]}},
            "storage": {"min_free": "1m"},
        }
        self.directory = directory
        self.proxy = ProxyProcess(self.config, directory)

    def start(self) -> ProxyClient:
        self.proxy.configure(self.config)
        self.proxy.start()
        return ProxyClient(
            self.proxy.address, ssl.create_default_context(cadata=self.proxy.ca_pem())
        )

    async def reload(self) -> None:
        self.proxy.configure(self.config)
        await self.signal(signal.SIGHUP, "reloaded")

    async def signal(self, number: int, said: str) -> None:
        """Return when it has said something with this word of it."""
        before = len(self.proxy.log_tail())
        self.proxy.signal(number)
        await self.says(said, after=before)

    async def says(self, words: str, *, after: int = 0) -> None:
        async def log() -> str:
            return self.proxy.log_tail()[after:]

        await eventually(log, lambda text: words in text)


@pytest.fixture
def operated(registry: ScriptedRegistry, tmp_path: Path) -> Iterator[Operated]:
    operated = Operated(registry, tmp_path)
    yield operated
    if operated.proxy.is_running:
        operated.proxy.kill9()


def test_what_is_there_at_the_start_is_not_looked_through_again() -> None:
    before = gc.get_freeze_count()
    spare_the_collector()
    try:
        assert gc.get_freeze_count() > before + 10_000
    finally:
        gc.unfreeze()


async def cache_status(client: ProxyClient) -> str:
    answer = await client.authorized("GET", f"{NAME}/v2/app/manifests/1.0")
    return answer.headers["cache-status"]


class TestReload:
    async def test_new_settings_take_effect(self, operated: Operated) -> None:
        operated.config["tags"] = {"ttl": "1h"}
        client = operated.start()
        assert "stored" in await cache_status(client)
        assert await cache_status(client) == "Entrepot; hit"
        operated.config["tags"] = {"ttl": 0}
        await operated.reload()
        assert "revalidated" in await cache_status(client)

    async def test_registries_come_and_go(self, operated: Operated) -> None:
        client = operated.start()
        entry = operated.config["registries"].pop("registry.test")
        operated.config["registries"]["other.test"] = entry
        await operated.reload()
        answer = await client.authorized("GET", "https://other.test/v2/app/manifests/1.0")
        assert answer.status == 200

    async def test_what_takes_a_restart_is_said_and_left(self, operated: Operated) -> None:
        client = operated.start()
        operated.config["storage"] = {"min_free": "2m"}
        operated.config["ca"] = {"directory": str(operated.directory / "elsewhere")}
        await operated.reload()
        log = operated.proxy.log_tail()
        assert "storage has changed: this takes a restart" in log
        assert "ca has changed: this takes a restart" in log
        assert "stored" in await cache_status(client)
        assert not (operated.directory / "elsewhere").exists()

    @pytest.mark.parametrize(
        ("broken", "said"),
        [
            ({"listn": "x"}, "listn: unknown setting"),
            ({"tags": {"ttl": "soon"}}, "tags.ttl"),
            ({"registries": {"registry.test": {"ca_bundle": "/nowhere"}}}, "ca_bundle"),
        ],
    )
    async def test_a_broken_file_leaves_the_old_in_force(
        self, operated: Operated, broken: dict[str, Any], said: str
    ) -> None:
        client = operated.start()
        await cache_status(client)
        operated.proxy.configure(operated.config | broken)
        await operated.signal(signal.SIGHUP, "not reloaded")
        log = operated.proxy.log_tail()
        assert said in log
        assert "Traceback" not in log
        assert await cache_status(client) == "Entrepot; hit"

    async def test_running_transfers_end_under_the_old(
        self, operated: Operated, registry: ScriptedRegistry
    ) -> None:
        content = registry.add_blob("app", Given(bytes(2_000_000)))
        gate = registry.gate()
        registry.fault(Hold(1_000_000, gate), path="/v2/app/blobs/*")
        client = operated.start()
        url = f"{NAME}/v2/app/blobs/{content.digest}"
        async with client.stream("GET", url) as (connection, head):
            begun = await connection.reader.readexactly(900_000)
            await operated.reload()
            gate.open()
            assert head.length is not None
            rest = await connection.reader.readexactly(head.length - len(begun))
        assert begun + rest == bytes(2_000_000)


class TestStop:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    async def test_idle(self, operated: Operated, number: int) -> None:
        operated.start()
        program = operated.proxy._running
        operated.proxy.signal(number)
        assert await asyncio.to_thread(program._process.wait, 20) == 0
        operated.proxy._program = None
        assert "stopping: 0 requests" in operated.proxy.log_tail()
        assert "Traceback" not in operated.proxy.log_tail()

    async def test_patience_ends(self, operated: Operated, registry: ScriptedRegistry) -> None:
        content = registry.add_blob("app", Given(bytes(2_000_000)))
        registry.fault(Hold(1_000_000), path="/v2/app/blobs/*")
        operated.config["clients"] = {"drain": "100ms"}
        client = operated.start()
        url = f"{NAME}/v2/app/blobs/{content.digest}"
        async with client.stream("GET", url) as (connection, head):
            await connection.reader.readexactly(900_000)
            assert await asyncio.to_thread(operated.proxy.terminate) == 0
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError, ssl.SSLError)):
                await connection.reader.readexactly(head.length or 0)
        assert "1 transfers are broken off" in operated.proxy.log_tail()

    async def test_readiness_goes_first(
        self, operated: Operated, registry: ScriptedRegistry
    ) -> None:
        """On connections that are there already, for who balances load over several."""
        content = registry.add_blob("app", Given(bytes(2_000_000)))
        gate = registry.gate()
        registry.fault(Hold(1_000_000, gate), path="/v2/app/blobs/*")
        client = operated.start()
        async with (
            await client.plain() as kept,
            client.stream("GET", f"{NAME}/v2/app/blobs/{content.digest}") as (connection, _),
        ):
            assert (await kept.request("GET", "/readyz")).status == 200
            await connection.reader.readexactly(900_000)
            await operated.signal(signal.SIGTERM, "stopping: 1 requests")
            answer = await kept.request("GET", "/readyz")
            assert answer.status == http.client.SERVICE_UNAVAILABLE
            assert b"process: stopping" in answer.body
            assert answer.headers["connection"] == "close"
            gate.open()
            await connection.reader.readexactly(1_000_000)


# Root may write everywhere, by a capability.
WITHOUT_CAPABILITIES = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")


def serve(*arguments: str, prefix: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    """To its end, which is to come by itself."""
    return subprocess.run(
        [*prefix, sys.executable, "-m", "entrepot", "serve", *arguments],
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def with_a_registry(directory: Path) -> Path:
    file = directory / "entrepot.yaml"
    file.write_text(
        "listen: 127.0.0.1:0\n"
        f"data: {directory}/data\n"
        "local_registries:\n"
        "  own.test: {upstream: 'http://127.0.0.1:9', anonymous: [pull]}\n"
    )
    return file


class TestStartsThatFail:
    """One line that says why, and status 1."""

    def test_the_port_is_taken(self, operated: Operated, tmp_path: Path) -> None:
        operated.start()
        address = f"127.0.0.1:{operated.proxy.port}"
        ended = serve("--listen", address, "--data", str(tmp_path / "other"))
        assert ended.returncode == 1
        assert ended.stderr == (
            f"Error: cannot listen on {address} (--listen, or the setting listen):"
            " Address already in use\n"
        )
        assert operated.proxy.is_ready()

    def test_the_address_is_not_ours(self, tmp_path: Path) -> None:
        ended = serve("--listen", "192.0.2.1:3128", "--data", str(tmp_path / "data"))
        assert ended.returncode == 1
        assert ended.stderr == (
            "Error: cannot listen on 192.0.2.1:3128 (--listen, or the setting listen):"
            " this machine has no such address\n"
        )
        assert len(ended.stderr.splitlines()) == 1

    def test_the_port_of_the_registries_is_taken(self, tmp_path: Path) -> None:
        file = with_a_registry(tmp_path)
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            ended = serve("--config", str(file), "--registry-listen", address)
        assert ended.returncode == 1
        assert ended.stderr.splitlines()[-1] == (
            f"Error: cannot listen on {address} (--registry-listen, or the setting"
            " registry_listen): Address already in use"
        )

    def test_the_port_of_the_registries_is_a_privileged_one(self, tmp_path: Path) -> None:
        prefix = ("unshare", "--net", *WITHOUT_CAPABILITIES)
        if os.geteuid() != 0:
            pytest.skip("to have a network of one's own takes root")
        ended = serve(
            "--config", str(with_a_registry(tmp_path)), "--registry-listen", "*:443", prefix=prefix
        )
        assert ended.returncode == 1
        assert ended.stderr.splitlines()[-1] == (
            "Error: cannot listen on *:443 (--registry-listen, or the setting registry_listen):"
            " Permission denied for user root; ports below 1024 take the capability"
            " CAP_NET_BIND_SERVICE"
        )

    @pytest.mark.parametrize(
        "make",
        [
            pytest.param(lambda path: path.write_text("a file"), id="a file"),
            pytest.param(lambda path: path.symlink_to("/proc/self"), id="read-only"),
            pytest.param(lambda path: path.symlink_to("/proc/nothing/there"), id="nowhere"),
        ],
    )
    def test_the_data_directory_cannot_be_used(
        self, tmp_path: Path, make: Callable[[Path], object]
    ) -> None:
        data = tmp_path / "data"
        make(data)
        ended = serve("--listen", "127.0.0.1:0", "--data", str(data))
        assert ended.returncode == 1
        assert ended.stderr.startswith("Error: ")
        assert str(data) in ended.stderr
        assert len(ended.stderr.splitlines()) == 1

    def test_the_data_directory_may_not_be_written(self, tmp_path: Path) -> None:
        data = tmp_path / "data"
        data.mkdir(mode=0o500)
        prefix = WITHOUT_CAPABILITIES if os.geteuid() == 0 else ()
        ended = serve("--listen", "127.0.0.1:0", "--data", str(data), prefix=prefix)
        assert ended.returncode == 1
        assert ended.stderr.startswith(
            f"Error: the CA's directory {data}/ca cannot be used: Permission denied for user "
        )

    def test_the_configuration_is_broken(self, tmp_path: Path) -> None:
        file = tmp_path / "entrepot.yaml"
        file.write_text("listn: x\n")
        ended = serve("--config", str(file), "--data", str(tmp_path / "data"))
        assert ended.returncode == 1
        assert "listn: unknown setting" in ended.stderr
        assert "Traceback" not in ended.stderr
