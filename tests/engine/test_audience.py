import pytest

from entrepot.engine.audience import Audience

NETWORKS = ("10.0.0.0/8", "192.0.2.7", "fd00::/8", "fe80::/10")


@pytest.mark.parametrize(
    ("client", "is_included"),
    [
        ("10.1.2.3", True),
        ("11.1.2.3", False),
        ("192.0.2.7", True),
        ("192.0.2.8", False),
        ("::ffff:10.1.2.3", True),  # how IPv4 comes to a socket that listens on both
        ("::ffff:11.1.2.3", False),
        ("fd00::1", True),
        ("fe80::1%eth0", True),
        ("2001:db8::1", False),
        ("", False),
        ("not an address", False),
    ],
)
def test_who_is_of_these_networks(client: str, *, is_included: bool) -> None:
    assert Audience(NETWORKS).includes(client) == is_included


@pytest.mark.parametrize("client", ["10.1.2.3", ""])
def test_without_networks_everybody_is(client: str) -> None:
    assert Audience(()).includes(client)
