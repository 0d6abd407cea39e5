import ipaddress
import string

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from entrepot.ca.issuer import make_root
from entrepot.ca.names import constrain, constraints_of, parse_host, uncovered, vouched_names
from entrepot.config.local import LocalRegistry
from entrepot.config.model import Config, Registry
from entrepot.errors import ConfigError

NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("registry-1.docker.io", "registry-1.docker.io"),
        ("Registry.Example.COM.", "registry.example.com"),
        ("localhost", "localhost"),
        ("my_registry", "my_registry"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("a" * 63 + ".example", "a" * 63 + ".example"),
    ],
)
def test_dns_names_are_brought_to_one_form(host: str, expected: str) -> None:
    assert parse_host(host) == x509.DNSName(expected)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
    ],
)
def test_addresses_are_no_names(host: str, expected: str) -> None:
    assert parse_host(host) == x509.IPAddress(ipaddress.ip_address(expected))


@pytest.mark.parametrize(
    "host",
    [
        "",
        ".",
        "a..b",
        "a.b..",
        "a b",
        "*.example.com",
        "-a.example",
        "a" * 64,
        ".".join(["abcdefgh"] * 30),
        "host:443",
        "a/b",
        "a\n",
        "ä" * 80,
        "[::1",
        "10.0.0.1%x",
    ],
)
def test_what_is_no_host_is_refused(host: str) -> None:
    with pytest.raises(ValueError, match=r"not a host name|label|codec"):
        parse_host(host)


@given(st.text(alphabet=string.printable + "äß。\x00", max_size=80))
def test_any_text_is_a_name_in_one_form_or_a_value_error(text: str) -> None:
    try:
        name = parse_host(text)
    except ValueError:
        return
    assert parse_host(str(name.value)) == name


def test_all_hosts_of_the_configuration_are_vouched_for() -> None:
    config = Config(
        hostname="cache.lan",
        registries={"quay.io": Registry(), "r.example:5000": Registry(hosts=("mirror.example",))},
    )
    assert vouched_names(config) == ("cache.lan", "quay.io", "r.example:5000", "mirror.example")


def test_local_registries_are_vouched_for() -> None:
    own = LocalRegistry(upstream=("http://registry:5000",), hosts=("images.lan",))
    config = Config(
        hostname="cache.lan",
        local_registries={"docker-registry.local": own, "10.0.0.7:5000": LocalRegistry()},
    )
    names = vouched_names(config)
    assert {"docker-registry.local", "10.0.0.7:5000", "images.lan"} <= set(names)
    root = make_root(NOW, constrain(names))
    assert uncovered([root.certificate], names) == ()
    without = make_root(NOW, constrain(vouched_names(Config(hostname="cache.lan"))))
    own_names = ("docker-registry.local", "10.0.0.7:5000", "images.lan")
    assert uncovered([without.certificate], own_names) == own_names


def test_patterns_and_ports_become_subtrees_without_a_leading_dot() -> None:
    constraints = constrain(["*.example.com", "quay.io:443", "*.ecr.*.amazonaws.com", "quay.io"])
    assert constraints.permitted_subtrees == [
        x509.DNSName("example.com"),
        x509.DNSName("quay.io"),
        x509.DNSName("amazonaws.com"),
    ]
    assert constraints.excluded_subtrees == [
        x509.IPAddress(ipaddress.ip_network("0.0.0.0/0")),
        x509.IPAddress(ipaddress.ip_network("::/0")),
    ]


def test_addresses_become_subtrees_of_one() -> None:
    constraints = constrain(["quay.io", "10.0.0.7:5000", "[2001:db8::1]:5000", "2001:db8::2"])
    assert constraints.permitted_subtrees == [
        x509.DNSName("quay.io"),
        x509.IPAddress(ipaddress.ip_network("10.0.0.7/32")),
        x509.IPAddress(ipaddress.ip_network("2001:db8::1/128")),
        x509.IPAddress(ipaddress.ip_network("2001:db8::2/128")),
    ]
    assert constraints.excluded_subtrees is None


def test_without_any_name_all_names_are_excluded() -> None:
    assert constrain(["10.0.0.7"]).excluded_subtrees == [x509.DNSName("")]


@pytest.mark.parametrize("pattern", ["*", "*.", "registry.*", "a b", ""])
def test_what_cannot_be_a_limit_is_the_operators_error(pattern: str) -> None:
    with pytest.raises(ConfigError, match=r"ca\.name_constraints"):
        constrain([pattern])


def test_what_constraints_leave_out_is_known() -> None:
    root = make_root(NOW, constrain(["*.example.com", "10.0.0.7"])).certificate
    names = ["a.example.com", "example.com:5000", "*.example.com", "10.0.0.7:5000"]
    assert uncovered([root], names) == ()
    others = ["quay.io", "badexample.com", "10.0.0.8", "::1", "*"]
    assert uncovered([root], [*names, *others]) == tuple(others)


def test_without_addresses_none_is_covered() -> None:
    root = make_root(NOW, constrain(["quay.io"])).certificate
    assert uncovered([root], ["10.0.0.7", "[::1]:5000", "quay.io"]) == ("10.0.0.7", "[::1]:5000")


def test_others_constraints_are_read_too() -> None:
    """A leading dot is written by many; names of further kinds do not concern us."""
    trees = [x509.DNSName(".corp.example"), x509.RFC822Name("corp.example")]
    root = make_root(NOW, x509.NameConstraints(trees, trees[1:])).certificate
    assert uncovered([root], ["r.corp.example", "quay.io", "10.0.0.1"]) == ("quay.io",)


def test_a_ca_without_constraints_covers_all() -> None:
    root = make_root(NOW).certificate
    assert constraints_of(root) is None
    assert uncovered([root], ["*", "quay.io"]) == ()
