from collections.abc import AsyncIterator

import pytest

from entrepot.config.model import Config, Registry
from entrepot.engine import sites as sites_module
from entrepot.engine.sites import Sites
from entrepot.upstream.fleet import Upstreams

REGISTRIES = {
    "docker.io": Registry(hosts=("registry-1.docker.io", "auth.docker.io")),
    "registry.test": Registry(),
    "registry.test:5000": Registry(),
    "[2001:db8::1]:5000": Registry(),
    "*.example.com": Registry(),
    "*.eu.example.com": Registry(),
    "special.eu.example.com": Registry(),
}


@pytest.fixture
async def sites() -> AsyncIterator[Sites]:
    upstreams = Upstreams(Config(registries=REGISTRIES))
    yield Sites(REGISTRIES, upstreams.get)
    await upstreams.aclose()


@pytest.mark.parametrize(
    ("authority", "name"),
    [
        ("registry.test", "registry.test"),
        ("Registry.TEST", "registry.test"),
        ("registry.test:443", "registry.test"),
        ("registry.test:80", "registry.test"),
        ("registry.test:5000", "registry.test:5000"),
        ("registry.test:5001", None),
        ("docker.io", "docker.io"),
        ("auth.docker.io", "docker.io"),
        ("hub.docker.com", None),
        ("[2001:db8::1]:5000", "[2001:db8::1]:5000"),
        ("[2001:db8::1]", None),
        ("a.example.com", "a.example.com"),
        ("a.b.example.com:443", "a.b.example.com"),
        ("a.example.com:5000", None),
        ("example.com", None),
        ("notexample.com", None),
        ("a.example.com.evil.test", None),
        ("special.eu.example.com", "special.eu.example.com"),
        ("", None),
        (":443", None),
        (".example.com", None),
        ("registry.test:port", None),
        ("registry.test:99999", None),
        ("[::1", None),
        ("a_b.example.com", None),
    ],
)
def test_whose_an_authority_is(sites: Sites, authority: str, name: str | None) -> None:
    site = sites.by_authority(authority)
    assert (site.name if site else None) == name


def test_the_scheme_says_which_port_is_meant(sites: Sites) -> None:
    assert sites.by_authority("registry.test", "http") is sites.by_authority("registry.test")
    assert sites.by_authority("registry.test", "ftp") is None


def test_aliases_are_one_site_with_one_upstream(sites: Sites) -> None:
    hub = sites.find("docker.io", 443)
    assert hub is sites.find("registry-1.docker.io", 443)
    assert hub is not None
    assert hub.upstream.name == "docker.io"


def test_the_longest_pattern_gives_the_settings(sites: Sites) -> None:
    for host, pattern in (
        ("a.eu.example.com", "*.eu.example.com"),
        ("a.us.example.com", "*.example.com"),
        ("special.eu.example.com", "special.eu.example.com"),
    ):
        site = sites.find(host, 443)
        assert site is not None
        assert site.settings is REGISTRIES[pattern]
        assert (site.name, site.entry) == (host, pattern)


def test_each_host_of_a_pattern_is_a_site_that_stays(sites: Sites) -> None:
    one, other = sites.find("a.example.com", 443), sites.find("b.example.com", 443)
    assert one is not other
    assert one is sites.find("a.example.com", 80)


def test_sites_of_patterns_are_bounded_and_the_oldest_goes(
    sites: Sites, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sites_module, "_PATTERN_SITES_MAX", 2)
    one, two = sites.find("1.example.com", 443), sites.find("2.example.com", 443)
    assert one is sites.find("1.example.com", 443)  # used last
    sites.find("3.example.com", 443)
    assert one is sites.find("1.example.com", 443)
    assert two is not sites.find("2.example.com", 443)


def test_all_sites_are_each_named_once(sites: Sites) -> None:
    sites.find("a.example.com", 443)
    assert [site.name for site in sites] == [
        "docker.io",
        "registry.test",
        "registry.test:5000",
        "[2001:db8::1]:5000",
        "special.eu.example.com",
        "a.example.com",
    ]
