import ipaddress

import pytest

from entrepot.upstream.address import AddressClass, is_forbidden, own_class, parse_literal

CLASSES = {
    "127.0.0.1": AddressClass.LOOPBACK,
    "127.255.255.254": AddressClass.LOOPBACK,
    "::1": AddressClass.LOOPBACK,
    "::ffff:127.0.0.1": AddressClass.LOOPBACK,
    "::127.0.0.1": AddressClass.LOOPBACK,
    "64:ff9b::7f00:1": AddressClass.LOOPBACK,
    "2002:7f00:1::": AddressClass.LOOPBACK,
    "0.0.0.0": AddressClass.UNSPECIFIED,
    "0.1.2.3": AddressClass.UNSPECIFIED,
    "::": AddressClass.UNSPECIFIED,
    "::ffff:0.0.0.0": AddressClass.UNSPECIFIED,
    "169.254.1.1": AddressClass.LINK_LOCAL,
    "fe80::1": AddressClass.LINK_LOCAL,
    "fe80::1%eth0": AddressClass.LINK_LOCAL,
    "::ffff:169.254.1.1": AddressClass.LINK_LOCAL,
    "169.254.169.254": AddressClass.METADATA,
    "::ffff:169.254.169.254": AddressClass.METADATA,
    "64:ff9b::a9fe:a9fe": AddressClass.METADATA,
    "169.254.170.2": AddressClass.METADATA,
    "100.100.100.200": AddressClass.METADATA,
    "168.63.129.16": AddressClass.METADATA,
    "192.0.0.192": AddressClass.METADATA,
    "fd00:ec2::254": AddressClass.METADATA,
    "fd20:ce::254": AddressClass.METADATA,
    "fe80::a9fe:a9fe": AddressClass.METADATA,
    "224.0.0.1": AddressClass.MULTICAST,
    "ff02::1": AddressClass.MULTICAST,
    "255.255.255.255": AddressClass.MULTICAST,
    "10.0.0.1": AddressClass.ORDINARY,
    "192.168.1.1": AddressClass.ORDINARY,
    "100.64.0.1": AddressClass.ORDINARY,
    "fc00::1": AddressClass.ORDINARY,
    "8.8.8.8": AddressClass.ORDINARY,
    "2606:4700::1": AddressClass.ORDINARY,
}


@pytest.mark.parametrize(("address", "expected"), CLASSES.items())
def test_every_address_has_a_class(address: str, expected: AddressClass) -> None:
    assert own_class(address) is expected


@pytest.mark.parametrize(("address", "found"), CLASSES.items())
def test_only_ordinary_addresses_may_be_named_by_others(address: str, found: AddressClass) -> None:
    assert is_forbidden(address) is (found is not AddressClass.ORDINARY)


def test_a_local_registry_may_redirect_to_its_own_kind() -> None:
    allowed = {AddressClass.LOOPBACK}
    assert not is_forbidden("127.0.0.1", allowed)
    assert not is_forbidden("::1", allowed)
    assert is_forbidden("169.254.1.1", allowed)


def test_nobody_may_name_a_metadata_service() -> None:
    assert is_forbidden("169.254.169.254", frozenset(AddressClass))


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.1", "2130706433", "0x7f000001", "0x7f.0.0.1", "0177.0.0.1", "127.0.0.1."],
)
def test_literals_are_read_as_the_c_library_reads_them(host: str) -> None:
    assert parse_literal(host) == ipaddress.ip_address("127.0.0.1")


def test_ipv6_literals_may_stand_in_brackets() -> None:
    assert parse_literal("[::1]") == parse_literal("::1") == ipaddress.ip_address("::1")


@pytest.mark.parametrize(
    "host", ["", ".", "example.com", "1.example.com", "127.0.0.1 x", "127.0.0.256", "grüße.de"]
)
def test_names_are_no_literals(host: str) -> None:
    assert parse_literal(host) is None


def test_what_is_no_address_has_no_class() -> None:
    with pytest.raises(ValueError, match="does not appear"):
        own_class("example.com")
