import pytest
from yarl import URL

from entrepot.upstream.realm import Origin, is_trusted_realm, registrable_domain


def origin(url: str) -> Origin:
    return Origin.of(URL(url))


TRUSTED = [
    ("https://ghcr.io", "https://ghcr.io/token"),
    ("https://registry-1.docker.io", "https://auth.docker.io/token"),
    ("https://registry.gitlab.com", "https://gitlab.com/jwt/auth"),
    ("https://registry.example.co.uk", "https://auth.example.co.uk/"),
    ("https://registry.example.com:5000", "https://registry.example.com:5001/auth"),
    ("https://10.0.0.5:5000", "https://10.0.0.5:5001/auth"),
    ("https://registry", "https://registry:8443/auth"),
    ("http://registry.lan:5000", "http://registry.lan:5001/auth"),
    ("http://registry.lan:5000", "https://registry.lan/auth"),
    ("https://REGISTRY.example.com", "https://auth.EXAMPLE.com./"),
]

UNTRUSTED = [
    ("https://ghcr.io", "https://evil.io/token"),
    ("https://registry-1.docker.io", "https://docker.io.evil.com/token"),
    ("https://registry-1.docker.io", "http://registry-1.docker.io/token"),
    ("https://registry-1.docker.io", "http://auth.docker.io/token"),
    ("http://registry.example.com", "http://auth.example.com/token"),
    ("https://foo.azurecr.io", "https://evil.azurecr.io/oauth2/token"),
    ("https://azurecr.io", "https://evil.azurecr.io/oauth2/token"),
    ("https://foo.github.io", "https://evil.github.io/"),
    ("https://registry.example.co.uk", "https://evil.co.uk/"),
    (
        "https://123.dkr.ecr.eu-west-1.amazonaws.com",
        "https://evil.execute-api.eu-west-1.amazonaws.com/",
    ),
    ("https://10.0.0.5", "https://10.0.0.6/auth"),
    ("https://1.2.3.4", "https://9.2.3.4/auth"),
    ("https://registry", "https://auth/"),
    ("https://registry.lan", "https://auth.lan/"),
    ("https://registry.corp.lan", "https://auth.corp.lan/"),
    ("https://reg.a.svc.cluster.local", "https://evil.b.svc.cluster.local/"),
]


@pytest.mark.parametrize(("registry", "realm"), TRUSTED)
def test_credentials_go_to_what_belongs_to_the_registry(registry: str, realm: str) -> None:
    assert is_trusted_realm(origin(realm), [origin(registry)])


@pytest.mark.parametrize(("registry", "realm"), UNTRUSTED)
def test_credentials_go_nowhere_else(registry: str, realm: str) -> None:
    assert not is_trusted_realm(origin(realm), [origin(registry)])


@pytest.mark.parametrize("named", ["auth.lan", "AUTH.lan", "auth.lan:8443"])
def test_the_operator_may_name_further_hosts(named: str) -> None:
    assert is_trusted_realm(
        origin("https://auth.lan:8443/t"), [origin("https://registry.lan")], [named]
    )


def test_a_named_host_with_a_port_is_that_port_alone() -> None:
    own = [origin("https://registry.lan")]
    assert not is_trusted_realm(origin("https://auth.lan/t"), own, ["auth.lan:8443"])


def test_naming_a_host_does_not_allow_it_without_tls() -> None:
    own = [origin("https://registry.lan")]
    assert not is_trusted_realm(origin("http://auth.lan/t"), own, ["auth.lan"])


@pytest.mark.parametrize(
    ("host", "domain"),
    [
        ("a.b.example.com", "example.com"),
        ("example.com", "example.com"),
        ("a.b.example.co.uk", "example.co.uk"),
        ("com", None),
        ("co.uk", None),
        ("foo.azurecr.io", None),
        ("127.0.0.1", None),
        ("::1", None),
        ("0x7f.1", None),
        ("a.internal", None),
    ],
)
def test_registrable_domains(host: str, domain: str | None) -> None:
    assert registrable_domain(host) == domain


@pytest.mark.parametrize("url", ["/path", "ftp://host/", "https:///x", "mailto:a@b"])
def test_what_is_no_http_address_has_no_origin(url: str) -> None:
    with pytest.raises(ValueError, match="not an HTTP URL"):
        origin(url)


def test_origins_show_ports_that_are_not_usual() -> None:
    assert str(origin("https://a.example")) == "a.example"
    assert str(origin("http://a.example:5000")) == "a.example:5000"
    assert str(origin("https://[::1]:5000")) == "[::1]:5000"
