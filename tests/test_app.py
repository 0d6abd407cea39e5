import asyncio
import logging
import os
import stat
import warnings
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from entrepot.config.kinds import Bytes, Secret
from entrepot.config.local import LocalRegistry
from entrepot.config.model import Auth, Clients, Config, Registry, Storage
from entrepot.engine.message import Exchange, Headers, Request, Trace
from entrepot.errors import ConfigError
from entrepot.upstream.fleet import Upstreams
from tests.support.clock import ManualClock

with warnings.catch_warnings():
    # mitmproxy calls pyparsing by names that its newer versions warn of, once, when it is imported.
    warnings.simplefilter("ignore", DeprecationWarning)
    from entrepot.app import Proxy, open_proxy
    from entrepot.interception.http_layer import Entrance
    from entrepot.process import _reload

REGISTRIES = {
    "registry.test": Registry(endpoints=("http://127.0.0.1:9",)),
    "*.example.com": Registry(),
}

HEALTHY = b"process: ok\nstore: ok\nca: ok\nroom: ok\npushes: ok\nupstreams: ok\n"


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(
        data=tmp_path / "data",
        registries=REGISTRIES,
        storage=Storage(min_free=Bytes(0)),
        clients=Clients(allow=("127.0.0.0/8",)),
    )


@pytest.fixture
async def proxy(config: Config, clock: ManualClock) -> AsyncIterator[Proxy]:
    async with open_proxy(config, clock) as proxy:
        yield proxy


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


async def page(proxy: Proxy, path: str) -> tuple[int, bytes]:
    request = Request(method="GET", path=path, headers=Headers())
    response = await proxy._respond(request, Entrance.PAGES)
    assert isinstance(response.body, bytes)
    return response.status, response.body


async def test_what_is_behind_a_local_registry_is_not_tunnelled_to(
    config: Config, clock: ManualClock
) -> None:
    """There nobody is checked, and it is on a port that tunnels may lead to."""
    own = LocalRegistry(upstream=("http://203.0.113.7:5000",), anonymous=("pull",))
    config = replace(config, local_registries={"own.test": own})
    async with open_proxy(config, clock) as proxy:
        hidden = await proxy.front.tunnels._hidden.at(5000)
        assert hidden.includes("203.0.113.7")
        assert not hidden.includes("203.0.113.8")


class TestDataDirectory:
    async def test_is_made_with_all_that_lives_in_it(self, proxy: Proxy, config: Config) -> None:
        assert stat.S_IMODE(config.data.stat().st_mode) == 0o750
        assert {path.name for path in config.data.iterdir()} == {"ca", "cache", "secret"}

    async def test_holds_a_secret_that_is_nobodys_to_read(
        self, proxy: Proxy, config: Config
    ) -> None:
        secret = config.data / "secret"
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600
        assert len(secret.read_text()) >= 32

    async def test_keeps_the_secret(self, config: Config) -> None:
        secrets = []
        for _ in range(2):
            async with open_proxy(config):
                secrets.append((config.data / "secret").read_text())
        assert secrets[0] == secrets[1]

    async def test_holds_none_where_one_is_given(self, config: Config) -> None:
        given = replace(config, auth=Auth(secret=Secret("of the operator's")))
        async with open_proxy(given):
            assert not (config.data / "secret").exists()

    async def test_a_secret_that_cannot_be_read(self, config: Config) -> None:
        (config.data / "secret").mkdir(parents=True)
        with pytest.raises(ExceptionGroup) as caught:
            async with open_proxy(config):
                pass
        assert caught.group_contains(ConfigError, match=r"secret cannot be read: Is a directory")

    async def test_what_a_crash_left_of_a_secret_does_no_harm(self, config: Config) -> None:
        config.data.mkdir()
        (config.data / f"secret.{os.getpid()}").write_text("half")
        async with open_proxy(config):
            assert (config.data / "secret").read_text() != "half"

    async def test_two_processes_may_share_it(self, config: Config) -> None:
        async with open_proxy(config) as one, open_proxy(config) as other:
            for proxy in (one, other):
                assert (await page(proxy, "/ca.crt"))[0] == 200
                assert (await page(proxy, "/readyz"))[0] == 200


class TestFront:
    @pytest.mark.parametrize(
        ("host", "port", "intercepted"),
        [
            ("registry.test", 443, True),
            ("registry.test", 8443, False),
            ("a.example.com", 443, True),
            ("other.test", 443, False),
        ],
    )
    async def test_intercepts_the_configured_registries(
        self, proxy: Proxy, host: str, port: int, *, intercepted: bool
    ) -> None:
        assert proxy.front.intercepts(host, port) is intercepted

    @pytest.mark.parametrize(("peer", "served"), [("127.0.0.1", True), ("192.0.2.1", False)])
    async def test_serves_who_is_allowed(self, proxy: Proxy, peer: str, *, served: bool) -> None:
        assert proxy.front.serves(peer) is served

    async def test_a_registry_that_is_none_any_more(self, proxy: Proxy) -> None:
        request = Request(method="GET", path="/v2/", host="gone.test")
        response = await proxy._respond(request, Entrance.PROXY)
        assert response.status == 421

    async def test_answers_for_a_registry(self, proxy: Proxy) -> None:
        request = Request(method="GET", path="/v2/", host="registry.test")
        response = await proxy._respond(request, Entrance.PROXY)
        assert response.status == 401


class TestLocalRegistries:
    @pytest.fixture
    async def proxy(self, config: Config, clock: ManualClock) -> AsyncIterator[Proxy]:
        local = LocalRegistry(upstream=("http://127.0.0.1:9",), anonymous=("pull",))
        changed = replace(
            config, registry_listen="*:8443", local_registries={"own.test:5000": local}
        )
        async with open_proxy(changed, clock) as proxy:
            yield proxy

    @pytest.mark.parametrize(
        ("host", "port", "intercepted"),
        [
            ("own.test", 5000, True),
            ("own.test", 8443, True),
            ("own.test", 443, False),
            ("registry.test", 8443, False),
        ],
    )
    async def test_are_intercepted_at_their_own_port_too(
        self, proxy: Proxy, host: str, port: int, *, intercepted: bool
    ) -> None:
        assert proxy.front.intercepts(host, port) is intercepted
        request = Request(method="GET", path="/x", host=f"{host}:{port}", client="127.0.0.1")
        response = await proxy._respond(request, Entrance.PROXY)
        assert (response.status != 421) is intercepted

    async def test_answer_there_and_nobody_else_does(self, proxy: Proxy) -> None:
        assert proxy.front.registry_name("own.test", "127.0.0.1") == "own.test"
        assert proxy.front.registry_name("registry.test", "127.0.0.1") is None
        for host, status in (("own.test:1234", 502), ("registry.test", 421)):
            request = Request(method="GET", path="/v2/app/tags/list", host=host, client="127.0.0.1")
            response = await proxy._respond(request, Entrance.REGISTRY)
            assert response.status == status

    async def test_are_not_had_from_the_proxy_itself(self, proxy: Proxy) -> None:
        status, body = await page(proxy, "/v2/app/tags/list")
        assert status == 421
        assert b"own.test/NAME:TAG" in body

    async def test_are_looked_after_until_the_end(self, proxy: Proxy) -> None:
        (task,) = proxy.front.engine.upstreams._watching
        assert not task.done()
        await proxy.aclose()
        assert task.done()


class TestPages:
    async def test_readiness(self, proxy: Proxy) -> None:
        assert await page(proxy, "/readyz") == (200, HEALTHY)

    async def test_an_instance_that_is_not_well_is_noted(
        self, proxy: Proxy, config: Config, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Upstreams, "ailments", lambda _: ("own.test: gone", "own.test: lost"))
        status, body = await page(proxy, "/readyz")
        assert (status, body.splitlines()[-1]) == (
            200,
            b"upstreams: own.test: gone; own.test: lost",
        )

    async def test_it_is_stopping(self, proxy: Proxy) -> None:
        proxy.is_draining = True
        status, body = await page(proxy, "/readyz")
        assert (status, body.splitlines()[0]) == (503, b"process: stopping")

    async def test_the_ca_has_expired(self, proxy: Proxy, clock: ManualClock) -> None:
        clock.advance(100 * 365 * 86400)
        status, body = await page(proxy, "/readyz")
        assert status == 503
        assert b"ca: " in body
        assert b"ca: ok" not in body

    async def test_the_store_cannot_be_written(self, proxy: Proxy, config: Config) -> None:
        (config.data / "cache").rename(config.data / "elsewhere")
        status, body = await page(proxy, "/readyz")
        assert status == 503
        assert b"store: ok" not in body
        (config.data / "elsewhere").rename(config.data / "cache")

    async def test_the_front_page_counts(
        self, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("entrepot.app.open_connections", lambda: 0)  # needs a master
        trace = Trace(registry="registry.test", kind="blob", cache="hit")
        request = Request(method="GET", path="/v2/")
        proxy._observe(
            Exchange(
                request=request, status=200, trace=trace, sent=5000, seconds=0.1, is_whole=True
            )
        )
        _, body = await page(proxy, "/")
        assert b"Served 1 requests, 1 of them from the cache; 5.0 kB sent" in body
        status, metrics = await page(proxy, "/metrics")
        assert status == 200
        assert b'entrepot_requests_total{cache="hit",kind="blob"' in metrics


class TestReload:
    async def test_new_requests_see_it_and_the_old_is_closed(
        self, proxy: Proxy, config: Config
    ) -> None:
        old = proxy.front
        proxy.reload(replace(config, registries={"new.test": Registry()}))
        assert proxy.front.intercepts("new.test", 443)
        assert not proxy.front.intercepts("registry.test", 443)
        await asyncio.gather(*proxy._retiring)
        assert proxy._fronts == [proxy.front]
        assert old is not proxy.front

    async def test_what_is_bound_to_the_start_is_said_and_kept(
        self, proxy: Proxy, config: Config, caplog: pytest.LogCaptureFixture
    ) -> None:
        changed = replace(
            config,
            listen="*:8080",
            registry_listen="*:443",
            data=Path("/elsewhere"),
            registries={"new.test": Registry()},
        )
        with caplog.at_level(logging.INFO):
            _reload(proxy, lambda: changed)
        assert proxy.front.config.listen == config.listen
        assert proxy.front.config.data == config.data
        assert proxy.front.intercepts("new.test", 443)
        warned = [record.message for record in caplog.records if record.levelname == "WARNING"]
        assert warned == [
            "listen has changed: this takes a restart",
            "registry_listen has changed: this takes a restart",
            "data has changed: this takes a restart",
        ]
        await asyncio.gather(*proxy._retiring)

    @pytest.mark.parametrize("endpoint", ["", "ftp://x", "https://user:password@x"])
    async def test_what_cannot_be_used_changes_nothing(
        self,
        proxy: Proxy,
        config: Config,
        endpoint: str,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        front = proxy.front
        broken = replace(config, registries={"x": Registry(endpoints=(endpoint,))})
        _reload(proxy, lambda: broken)
        assert proxy.front is front
        assert "not reloaded" in caplog.text
        assert "password" not in caplog.text


async def test_a_failure_inside_closes_everything(config: Config) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        async with open_proxy(config):
            raise ConfigError("it went wrong")
    assert caught.group_contains(ConfigError, match="it went wrong")
    async with open_proxy(config):
        """The store was let go."""
