"""A registry of one's own behind the proxy, by CONNECT and by its port."""

import asyncio
import http.client
import signal
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import pytest

from tests.integration.conftest import Setting
from tests.integration.identities import basic
from tests.integration.test_push import Pusher
from tests.integration.waiting import eventually
from tests.support.client import ACCEPT, Answer, Connection, ProxyClient, RefusedError
from tests.support.distribution import Distribution, is_installed
from tests.support.images import Manifest, build_image
from tests.support.ports import ReservedPort

pytestmark = pytest.mark.skipif(not is_installed(), reason="needs docker-registry and htpasswd")

NAME, OTHER, HERE = "own.test", "alias.test", "127.0.0.1"
URL = f"https://{NAME}"
OPEN = ["pull", "push", "delete"]


class Direct(ProxyClient):
    """One that uses no proxy: whatever the name, it leads to the registries' own port."""

    def __init__(self, port: int, trust: ssl.SSLContext) -> None:
        super().__init__(None, trust)
        self.port = port

    async def connect(
        self, host: str, port: int = 443, *, sni: str | None = None, tls: bool = True
    ) -> Connection:
        streams = await asyncio.open_connection(HERE, self.port)
        connection = Connection(host if port == 443 else f"{host}:{port}", *streams)
        if tls:
            try:
                await connection.writer.start_tls(self._trust, server_hostname=sni or host)
            except BaseException:
                connection.abort()
                raise
        return connection


class Follower(Pusher):
    """Goes on where it is told to, as clients do, and nowhere else."""

    def _location(self, answer: Answer) -> str:
        location = urljoin(f"{self._base}/blobs/uploads/", answer.headers["location"])
        assert urlsplit(location).netloc == urlsplit(self._base).netloc
        return location


@dataclass(frozen=True, slots=True)
class House:
    setting: Setting
    instances: tuple[Distribution, ...]
    entry: dict[str, Any]
    port: int

    def start(self) -> ProxyClient:
        return self.setting.start()

    def direct(self) -> Direct:
        trust = ssl.create_default_context(cadata=self.setting.proxy.ca_pem())
        return Direct(self.port, trust)

    async def says(self, words: str, *, count: int = 1) -> None:
        async def log() -> str:
            return self.setting.proxy.log_tail()

        await eventually(log, lambda text: text.count(words) == count)

    async def up(self) -> list[float]:
        metrics = await asyncio.to_thread(self.setting.proxy.metrics)
        return [
            metrics.value("entrepot_upstream_up", registry=NAME, endpoint=instance.url)
            for instance in self.instances
        ]


@pytest.fixture
def house(setting: Setting, tmp_path: Path) -> Iterator[House]:
    """Two instances on one storage, and a port of the proxy's for them."""
    instances = tuple(
        Distribution(tmp_path / name, storage=tmp_path / "storage") for name in ("one", "two")
    )
    reserved = ReservedPort(HERE)
    entry: dict[str, Any] = {
        "hosts": [OTHER],
        "upstream": [instance.url for instance in instances],
        "anonymous": OPEN,
        "health_interval": "200ms",
    }
    setting.config |= {
        "registry_listen": f"{HERE}:{reserved.number}",
        "local_registries": {NAME: entry},
    }
    for instance in instances:
        instance.start()
    yield House(setting, instances, entry, reserved.number)
    for instance in instances:
        instance.stop()


def image(seed: int) -> Manifest:
    return build_image([50_000, 20_000], seed=seed)


def error_of(answer: Answer) -> str:
    (error,) = answer.json()["errors"]
    return str(error["message"])


async def test_is_pushed_to_and_pulled_from_by_both_ways(house: House) -> None:
    proxied, direct = house.start(), house.direct()
    by_port = f"{URL}:{house.port}"
    ways = [(client, base) for client in (proxied, direct) for base in (URL, by_port)]
    for seed, (client, base) in enumerate([*ways, (direct, f"https://{OTHER}")]):
        pushed = image(seed)
        await Follower(client, f"{base}/v2/team/app").push(pushed, str(seed))
        for reader, url in ((proxied, URL), (direct, by_port)):
            pulled = await reader.pull(url, "team/app", str(seed))
            assert pulled.digest == pushed.digest


class TestOwnPort:
    async def test_shows_a_certificate_for_the_name(self, house: House) -> None:
        house.start()
        direct = house.direct()
        for name in (NAME, OTHER):
            async with await direct.connect(name) as connection:
                for _ in range(2):  # on one connection
                    assert (await connection.request("GET", "/v2/")).status == 200

    async def test_by_address_it_shows_the_proxys_where_that_is_one_of_them(
        self, house: House
    ) -> None:
        house.setting.config["hostname"] = NAME
        house.start()
        async with await house.direct().connect("x.test", sni=NAME) as connection:
            expected = connection.peer_certificate
        careless = ssl.create_default_context()
        careless.check_hostname, careless.verify_mode = False, ssl.CERT_NONE
        async with await Direct(house.port, careless).connect(HERE) as connection:
            assert connection.peer_certificate == expected
            assert (await connection.request("GET", "/healthz")).body == b"ok\n"

    async def test_has_none_for_others(self, house: House) -> None:
        house.start()
        direct = house.direct()
        for name in ("registry.test", "registry-1.docker.io", HERE):
            with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized.name"):
                await direct.connect(name)
        await house.says(f"client {HERE} asks the local registries' port for registry.test")

    async def test_asks_nothing_of_others(self, house: House) -> None:
        house.start()
        async with await house.direct().connect(NAME) as connection:
            for host in ("registry.test", "registry-1.docker.io"):
                connection.host = host
                answer = await connection.request("GET", "/v2/app/manifests/1.0")
                assert answer.status == http.client.MISDIRECTED_REQUEST
                assert f"{host} is no registry of this port" in error_of(answer)
        assert house.setting.registry.log.entries == []

    async def test_tells_who_comes_without_tls(self, house: House) -> None:
        house.start()
        answer = await house.direct().request("GET", f"http://{NAME}:{house.port}/v2/")
        assert answer.status == http.client.BAD_REQUEST
        assert f"use https://{NAME}:{house.port}" in error_of(answer)

    @pytest.mark.parametrize("tls", [True, False])
    async def test_is_no_proxy(self, house: House, *, tls: bool) -> None:
        house.start()
        async with await house.direct().connect(NAME, tls=tls) as connection:
            await connection.send("CONNECT", "registry.test:443")
            assert (await connection.answer()).status == http.client.BAD_REQUEST
        assert house.setting.registry.log.entries == []

    async def test_asks_for_no_password_of_the_proxys(self, house: House) -> None:
        house.setting.config["clients"] = {"username": "ann", "password": "of the proxy"}
        client = house.start()
        with pytest.raises(RefusedError):
            await client.connect(NAME)
        assert (await house.direct().request("GET", f"{URL}/v2/")).status == 200

    async def test_sends_for_tokens_to_where_it_was_asked(self, house: House) -> None:
        """By the port that the client knows, published or not."""
        del house.entry["anonymous"]
        house.entry.update(username="ann", password="correct horse")
        house.start()
        direct = house.direct()
        for base in (URL, f"{URL}:1234"):
            answer = await direct.request("GET", f"{base}/v2/")
            assert answer.challenge.realm == f"{base}/entrepot/token"
            token = await direct.token(answer.challenge, basic("ann", "correct horse"))
            shown = {"Authorization": f"Bearer {token}"}
            assert (await direct.request("GET", f"{base}/v2/", shown)).status == 200

    async def test_serves_what_a_reload_brings(self, house: House) -> None:
        house.start()
        direct = house.direct()
        with pytest.raises(ssl.SSLError):
            await direct.connect("new.test")
        house.setting.config["local_registries"]["new.test"] = {**house.entry, "hosts": []}
        house.setting.proxy.configure(house.setting.config)
        house.setting.proxy.signal(signal.SIGHUP)
        await house.says("configuration reloaded")
        assert (await direct.request("GET", "https://new.test/v2/")).status == 200

    async def test_ends_with_the_proxy(self, house: House) -> None:
        house.start()
        async with await house.direct().connect(NAME) as connection:
            assert (await connection.request("GET", "/v2/")).status == 200
            assert await asyncio.to_thread(house.setting.proxy.terminate) == 0
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((HERE, house.port), 1)


class TestThroughTheProxy:
    async def test_the_own_port_is_no_way_round(self, house: House) -> None:
        """Nor is the proxy's own name, where it is the registry's too."""
        house.setting.config["hostname"] = NAME
        house.setting.config["tunnel"] = {"ports": [443, house.port]}
        client = house.start()
        for port in (443, house.port):
            async with await client.connect(NAME, port) as connection:
                assert (await connection.request("GET", "/v2/")).status == 200
        for host in (HERE, "localhost"):
            with pytest.raises(RefusedError) as refused:
                await client.connect(host, house.port)
            assert refused.value.answer.status == http.client.FORBIDDEN

    async def test_its_own_pages_stay(self, house: House) -> None:
        house.setting.config["hostname"] = NAME
        client = house.start()
        async with await client.plain() as connection:
            url = f"http://{NAME}:{house.setting.proxy.port}/healthz"
            assert (await connection.request("GET", url)).body == b"ok\n"

    async def test_who_asks_the_proxy_itself_is_told_the_way(self, house: House) -> None:
        client = house.start()
        async with await client.plain() as connection:
            answer = await connection.request("GET", "/v2/team/app/manifests/1.0")
        assert answer.status == http.client.MISDIRECTED_REQUEST
        assert "HTTPS_PROXY=http://" in error_of(answer)


class TestInstances:
    async def test_one_that_dies_fails_no_request(self, house: House) -> None:
        client = house.start()
        for number in range(24):
            if number in {6, 18}:
                house.instances[number == 18].stop()
            elif number == 12:
                house.instances[0].start()
                await eventually(house.up, lambda up: up == [1, 1])
            pushed, repository = image(number), f"app{number % 3}"
            await Follower(client, f"{URL}/v2/{repository}").push(pushed, str(number))
            pulled = await client.pull(URL, repository, str(number))
            assert pulled.digest == pushed.digest

    async def test_an_upload_goes_on_at_the_other(self, house: House) -> None:
        client = house.start()
        base = f"{URL}/v2/app"
        begun = await client.request("POST", f"{base}/blobs/uploads/")
        assert begun.status == 202
        house.instances[0].stop()
        (blob, *_) = image(1).blobs
        body = b"".join(blob.chunks(0, blob.size))
        location = urljoin(base, begun.headers["location"])
        ended = await client.request("PUT", f"{location}&digest={blob.digest}", {}, body)
        assert ended.status == 201

    async def test_a_change_is_seen_and_told_once(self, house: House) -> None:
        house.start()
        first = house.instances[0]
        assert await eventually(house.up, lambda up: up == [1, 1])
        first.stop()
        await eventually(house.up, lambda up: up == [0, 1])
        status, body = await asyncio.to_thread(house.setting.proxy.page, "/readyz")
        assert status == 200
        note = f"upstreams: {NAME}: {HERE}:{first.port}: it cannot be reached: Connection refused"
        assert note in body.decode().splitlines()
        first.start()
        await eventually(house.up, lambda up: up == [1, 1])
        status, body = await asyncio.to_thread(house.setting.proxy.page, "/readyz")
        assert "upstreams: ok" in body.decode().splitlines()
        await house.says(f"{NAME} cannot be asked")
        await house.says(f"{NAME} answers again")

    async def test_while_all_are_down_the_cache_serves_and_writes_are_refused(
        self, house: House
    ) -> None:
        client = house.start()
        pushed = image(1)
        await Follower(client, f"{URL}/v2/app").push(pushed, "1.0")
        await client.pull(URL, "app", "1.0")
        for instance in house.instances:
            instance.stop()
        await eventually(house.up, lambda up: up == [0, 0])
        assert (await client.pull(URL, "app", "1.0")).digest == pushed.digest
        answer = await client.request("POST", f"{URL}/v2/app/blobs/uploads/")
        assert answer.status == http.client.SERVICE_UNAVAILABLE
        assert int(answer.headers["retry-after"]) >= 1
        assert f"{NAME} takes no writes: nothing behind it is well" in error_of(answer)
        assert (await asyncio.to_thread(house.setting.proxy.page, "/readyz"))[0] == 200
        house.instances[1].start()
        await Follower(client, f"{URL}/v2/app").push(image(2), "2.0")  # at once

    async def test_a_tag_is_believed_by_nobody_unasked(self, house: House) -> None:
        client = house.start()
        url = f"{URL}/v2/app/manifests/1.0"
        for seed in (1, 2):
            house.instances[1].push("app", "1.0", image(seed))  # past the proxy
            answer = await client.request("GET", url, {"Accept": ACCEPT})
            assert answer.headers["docker-content-digest"] == image(seed).digest
