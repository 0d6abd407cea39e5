import pytest
from yarl import URL

from entrepot.errors import ConfigError
from entrepot.upstream.parent_proxy import Proxy, matches_no_proxy, parse_proxy, proxy_rule
from entrepot.upstream.realm import Origin

TARGET = Origin.of(URL("https://registry.example.com"))
PROXY = "http://proxy.example:3128"


def matches(url: str, entry: str) -> bool:
    return matches_no_proxy(Origin.of(URL(url)), ("unrelated.test", entry))


@pytest.mark.parametrize(
    ("url", "entry"),
    [
        ("https://registry.example.com", "*"),
        ("https://registry.example.com", "registry.example.com"),
        ("https://registry.example.com", "example.com"),
        ("https://registry.example.com", ".example.com"),
        ("https://example.com", ".example.com"),
        ("https://registry.example.com", "*.example.com"),
        ("https://registry.example.com", " Example.COM "),
        ("https://registry.example.com:5000", "example.com:5000"),
        ("https://registry.example.com", "example.com:443"),
        ("https://10.1.2.3", "10.0.0.0/8"),
        ("https://10.1.2.3", "10.1.2.3"),
        ("https://10.1.2.3:5000", "10.1.2.3:5000"),
        ("https://[fd00::1]", "fd00::/8"),
        ("https://[fd00::1]", "fd00::1"),
        ("https://[fd00::1]:5000", "[fd00::1]:5000"),
    ],
)
def test_no_proxy_matches(url: str, entry: str) -> None:
    assert matches(url, entry)


@pytest.mark.parametrize(
    ("url", "entry"),
    [
        ("https://registry.example.com", ""),
        ("https://notexample.com", "example.com"),
        ("https://example.com.evil.test", "example.com"),
        ("https://registry.example.com:5000", "example.com:443"),
        ("https://10.1.2.3", "192.168.0.0/16"),
        ("https://10.1.2.3", "fd00::/8"),
        ("https://10.1.2.3", "2.3"),
        ("https://10.1.2.3:5000", "10.1.2.3:443"),
        ("https://10.example.com", "10.0.0.0/8"),
    ],
)
def test_no_proxy_does_not_match(url: str, entry: str) -> None:
    assert not matches(url, entry)


def test_a_registry_may_have_a_proxy_of_its_own_or_none() -> None:
    assert proxy_rule("none", PROXY, ()).choose(TARGET) is None
    own = proxy_rule("http://own.example:1", PROXY, ("*",)).choose(TARGET)
    assert own is not None
    assert own.url.host == "own.example"


def test_the_common_proxy_has_exceptions() -> None:
    assert proxy_rule("", "", ()).choose(TARGET) is None
    assert proxy_rule("", "none", ()).choose(TARGET) is None
    assert proxy_rule("", PROXY, ("example.com",)).choose(TARGET) is None
    chosen = proxy_rule("", PROXY, ("example.org",)).choose(TARGET)
    assert chosen is not None
    assert str(chosen.origin) == "proxy.example:3128"


def test_credentials_are_taken_out_of_the_url() -> None:
    proxy = parse_proxy("http://user:p%40ss@proxy.example:3128/")
    assert proxy == Proxy(URL("http://proxy.example:3128"), "Basic dXNlcjpwQHNz")
    assert "dXNlcjpwQHNz" not in repr(proxy)


def test_a_bare_host_is_a_proxy_of_http() -> None:
    assert parse_proxy("proxy.example:3128").url == URL("http://proxy.example:3128")


@pytest.mark.parametrize("text", ["socks5://user:s3cret@h:1", "http://", "http://h:s3cret"])
def test_what_is_no_http_proxy_is_an_error_that_does_not_show_it(text: str) -> None:
    with pytest.raises(ConfigError, match="expected http://") as caught:
        parse_proxy(text)
    assert "s3cret" not in str(caught.value)
