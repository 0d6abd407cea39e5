import pytest

from entrepot.config.local import LocalRegistry
from entrepot.config.model import Config, Registry
from entrepot.engine.local_names import LocalNames
from entrepot.engine.sites import Sites
from entrepot.upstream.fleet import Upstreams

UPSTREAM = ("http://127.0.0.1:9",)
PORT = 8443


def names(hostname: str = "proxy.test", **local: tuple[str, ...]) -> LocalNames:
    """Local registries with their other hosts; `_` stands for a dot."""
    config = Config(
        registries={"registry.test": Registry(endpoints=UPSTREAM)},
        local_registries={
            name.replace("_", "."): LocalRegistry(hosts=hosts, upstream=UPSTREAM)
            for name, hosts in local.items()
        },
    )
    fleet = Upstreams(config)
    sites = Sites(config.served, fleet.get, fleet.beside, config.local_registries)
    return LocalNames(sites, hostname=hostname, port=PORT)


class TestSite:
    @pytest.mark.parametrize(
        "authority", ["own.test", "own.test:8443", "own.test:1", "other.test:5000", "other.test"]
    )
    def test_whatever_the_port(self, authority: str) -> None:
        site = names(own_test=("other.test:5000",)).site(authority)
        assert site is not None
        assert site.name == "own.test"

    @pytest.mark.parametrize(
        "authority", ["registry.test", "", "own.test.evil", "[own", "192.0.2.1"]
    )
    def test_nobody_else(self, authority: str) -> None:
        assert names(own_test=()).site(authority) is None

    def test_a_port_tells_two_of_one_host_apart(self) -> None:
        found = names(a_test=("own.test:5000",), b_test=("own.test:6000", "own.test"))
        named = [found.site(f"own.test{port}") for port in (":5000", ":6000", "", ":7000")]
        assert [site and site.name for site in named] == ["a.test", "b.test", "b.test", "b.test"]

    def test_an_address(self) -> None:
        assert names(own_test=("[2001:db8::1]:5000",)).site("[2001:db8::1]:8443") is not None


class TestProxied:
    @pytest.mark.parametrize(
        ("authority", "is_found"),
        [
            ("own.test:8443", True),
            ("own.test:5000", False),
            ("own.test", False),
            ("registry.test:8443", False),
            ("own.test:x", False),
        ],
    )
    def test_at_the_own_port_alone(self, authority: str, *, is_found: bool) -> None:
        assert (names(own_test=()).proxied(authority, "https") is not None) is is_found

    def test_without_a_port_of_ours_there_is_none(self) -> None:
        assert LocalNames([], hostname="proxy.test", port=None).at_port("own.test", 443) is None


class TestShown:
    @pytest.mark.parametrize("sni", ["own.test", "OWN.test", "own.test."])
    def test_who_is_named(self, sni: str) -> None:
        assert names(own_test=()).shown(sni, "192.0.2.1") == "own.test"

    @pytest.mark.parametrize("sni", ["registry.test", "proxy.test", "a.own.test"])
    def test_nobody_else(self, sni: str) -> None:
        assert names(own_test=()).shown(sni, "192.0.2.1") is None

    @pytest.mark.parametrize("sni", [None, ""])
    def test_without_a_name_the_address_that_was_connected_to(self, sni: str | None) -> None:
        found = names(own_test=("192.0.2.9", "192.0.2.1:443"))
        assert found.shown(sni, "192.0.2.1") == "192.0.2.1"

    def test_or_one_that_leads_there(self) -> None:
        """A published port: the address that the client knows is another machine's."""
        assert names("own.test", own_test=("192.0.2.9",)).shown(None, "172.17.0.2") == "192.0.2.9"

    def test_or_the_proxys_name(self) -> None:
        assert names("own.test", own_test=()).shown(None, "192.0.2.1") == "own.test"

    def test_or_nobody(self) -> None:
        assert names(own_test=()).shown(None, "192.0.2.1") is None


def test_all_of_them() -> None:
    assert names(a_test=("x.test:5000",), b_test=()).all == ("a.test", "x.test", "b.test")
