"""How upstreams are reached: trust, addresses, parent proxies, fail-over, limits."""

import asyncio
import ssl
from pathlib import Path

import pytest

from tests.integration.conftest import Setting
from tests.integration.tagged import Tagged
from tests.integration.waiting import eventually
from tests.support.client import Answer, ProxyClient
from tests.support.faults import AnswerWith, Hold, RateLimit
from tests.support.pki import TestAuthority
from tests.support.proxy import ProxyProcess
from tests.support.registry import Place, ScriptedRegistry


async def manifest_of(setting: Setting, tagged: Tagged) -> Answer:
    """The first one, asked of a proxy that is started for it."""
    return await setting.start().authorized("GET", tagged.url)


def assert_refused(answer: Answer, *reasons: str) -> None:
    """As clients can show it to people."""
    assert answer.status in {502, 504}
    (error,) = answer.json()["errors"]
    assert error["code"] == "UNAVAILABLE"
    for reason in reasons:
        assert reason in error["message"]


class TestTrust:
    async def test_a_certificate_of_an_unknown_authority(self, setting: Setting) -> None:
        del setting.upstream["ca_bundle"]
        answer = await manifest_of(setting, Tagged(setting))
        assert_refused(answer, f"{setting.registry.port}: its certificate is not trusted")

    async def test_a_certificate_for_another_host(
        self, setting: Setting, authority: TestAuthority
    ) -> None:
        with ScriptedRegistry(authority, place=Place("0.0.0.0")) as everywhere:
            setting.upstream["endpoints"] = [f"https://127.0.0.1:{everywhere.port}"]
            answer = await manifest_of(setting, Tagged(setting))
        assert_refused(answer, "its certificate is not trusted", "not valid for '127.0.0.1'")

    async def test_is_not_checked_where_that_is_said(self, setting: Setting) -> None:
        del setting.upstream["ca_bundle"]
        setting.upstream["verify"] = False
        assert (await manifest_of(setting, Tagged(setting))).status == 200

    async def test_is_of_one_registry_and_no_other(
        self, setting: Setting, authority: TestAuthority
    ) -> None:
        with ScriptedRegistry(authority) as other:
            setting.config["registries"]["other.test"] = {"endpoints": [other.url]}
            tagged = Tagged(setting)
            client = setting.start()
            assert (await tagged.get(client)).status == 200
            url = f"https://other.test{tagged.path}"
            answer = await client.authorized("GET", url)
            assert_refused(answer, "its certificate is not trusted")

    async def test_that_the_system_has_from_a_variable(
        self, setting: Setting, tmp_path: Path
    ) -> None:
        del setting.upstream["ca_bundle"]
        environment = {"SSL_CERT_FILE": str(tmp_path / "upstream-ca.pem")}
        setting.proxy = ProxyProcess(setting.config, tmp_path / "second", environment=environment)
        assert (await manifest_of(setting, Tagged(setting))).status == 200


class TestAddress:
    async def test_without_tls(self, setting: Setting) -> None:
        with ScriptedRegistry() as plain:
            image = plain.add_image("app", "1.0", (10_000,))
            setting.upstream["endpoints"] = [plain.url]
            client = setting.start()
            for scheme in ("https", "http"):  # of the client, who may speak either
                pulled = await client.pull(f"{scheme}://registry.test", "app", "1.0")
                assert pulled.digest == image.digest

    async def test_on_an_odd_port(self, setting: Setting) -> None:
        image = setting.registry.add_image("app", "1.0", (10_000,))
        setting.config["registries"] = {"registry.test:5443": setting.upstream}
        client = setting.start()
        pulled = await client.pull("https://registry.test:5443", "app", "1.0")
        assert pulled.digest == image.digest

    async def test_that_nobody_listens_on(self, setting: Setting) -> None:
        tagged = Tagged(setting)
        setting.registry.die()
        assert_refused(await manifest_of(setting, tagged), "it cannot be reached", "refused")

    async def test_that_has_no_name(self, setting: Setting) -> None:
        setting.upstream["endpoints"] = ["https://registry.invalid"]
        answer = await manifest_of(setting, Tagged(setting))
        assert_refused(answer, "registry.invalid", "its name cannot be resolved")

    async def test_that_does_not_answer_in_time(self, setting: Setting) -> None:
        setting.config["upstream"] = {"header_timeout": "500ms"}
        setting.registry.fault(Hold(-1), path="*/manifests/*")
        assert_refused(await manifest_of(setting, Tagged(setting)))


class TestParentProxy:
    async def test_that_is_another_of_our_kind(self, setting: Setting, tmp_path: Path) -> None:
        """A cache before a cache: the child trusts the parent's authority."""
        image = setting.registry.add_image("app", "1.0", (100_000,))
        setting.start()
        bundle = tmp_path / "parent-ca.pem"
        bundle.write_text(setting.proxy.ca_pem())
        registry = {"proxy": setting.proxy.url, "ca_bundle": str(bundle)}
        config = {**setting.config, "registries": {"registry.test": registry}}
        with ProxyProcess(config, tmp_path / "child") as child:
            trust = ssl.create_default_context(cadata=child.ca_pem())
            client = ProxyClient(child.address, trust)
            pulled = await client.pull(setting.url, "app", "1.0")
            assert pulled.digest == image.digest
            setting.proxy.kill9()
            assert await client.pull(setting.url, "app", "1.0") == pulled

    async def test_that_is_not_there(self, setting: Setting) -> None:
        setting.upstream["proxy"] = "http://user:parent-password@127.0.0.1:9"
        answer = await manifest_of(setting, Tagged(setting))
        assert_refused(answer, "the parent proxy cannot be reached")
        assert b"parent-password" not in answer.body


class TestEndpoints:
    @pytest.mark.parametrize("fails", ["refuses", "503", "not trusted"])
    async def test_the_second_is_asked_when_the_first_fails(
        self, setting: Setting, authority: TestAuthority, tmp_path: Path, fails: str
    ) -> None:
        strangers = TestAuthority(tmp_path / "strangers")
        with ScriptedRegistry(strangers if fails == "not trusted" else authority) as first:
            tagged = Tagged(setting)
            first.add("app", "1.0", tagged.image)
            setting.upstream["endpoints"].insert(0, first.url)
            if fails == "refuses":
                first.die()
            elif fails == "503":
                first.fault(AnswerWith(503))
            client = setting.start()
            pulled = await client.pull(setting.url, tagged.repository, tagged.tag)
            assert pulled.digest == tagged.image.digest

    async def test_the_first_is_asked_while_it_is_well(
        self, setting: Setting, authority: TestAuthority
    ) -> None:
        with ScriptedRegistry(authority) as second:
            setting.upstream["endpoints"].append(second.url)
            assert (await manifest_of(setting, Tagged(setting))).status == 200
            assert second.log.entries == []


class TestRateLimit:
    async def test_is_shown(self, setting: Setting) -> None:
        setting.registry.fault(RateLimit(100, 23), path="*/manifests/*")
        assert (await manifest_of(setting, Tagged(setting))).status == 200
        metrics = await asyncio.to_thread(setting.proxy.metrics)
        assert metrics.value("entrepot_rate_limit", registry="registry.test") == 100
        assert metrics.value("entrepot_rate_limit_remaining", registry="registry.test") == 22

    async def test_is_spent_by_gets_alone_and_then_the_cache_serves(self, setting: Setting) -> None:
        setting.config["tags"] = {"ttl": "300ms"}
        setting.registry.fault(RateLimit(100, 1), path="*/manifests/*")
        tagged = Tagged(setting)
        client = setting.start()
        assert (await tagged.get(client)).status == 200
        for _ in range(2):
            assert (await tagged.revalidated(client)).status == 200
        other = Tagged(setting)
        answer = await other.get(client)
        assert answer.status == 429
        assert answer.json()["errors"][0]["code"] == "TOOMANYREQUESTS"
        metrics = await asyncio.to_thread(setting.proxy.metrics)
        assert metrics.value("entrepot_upstream_resting", registry="registry.test") == 1
        stale = await eventually(
            lambda: tagged.get(client),
            lambda answer: "unavailable" in answer.headers["cache-status"],
        )
        assert stale.body == tagged.image.body


async def test_ipv6_and_names_of_the_registry_are_one_thing(
    setting: Setting, authority: TestAuthority
) -> None:
    with ScriptedRegistry(authority, place=Place("::1", host="[::1]")) as registry:
        image = registry.add_image("app", "1.0", (10_000,))
        setting.upstream |= {"endpoints": [registry.url], "hosts": ["mirror.test"]}
        client = setting.start()
        first = await client.pull("https://mirror.test", "app", "1.0")
        registry.forget()
        assert await client.pull(setting.url, "app", "1.0") == first
        assert first.digest == image.digest
        assert registry.log.count("/v2/*/*") == 0
