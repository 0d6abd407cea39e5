"""Where a host that others chose may lead.

Redirect targets, token realms and tunnels name hosts of others' choosing. Such a host must not
lead to the machine itself, to its link, or to the service that hands out a cloud machine's
credentials. The judgement is on the address that is connected to, never on the name: a name may
resolve to anything, and to something else a moment later (DNS rebinding).
"""

import ipaddress
import socket
from collections.abc import Set as AbstractSet
from contextlib import suppress
from enum import StrEnum

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class AddressClass(StrEnum):
    ORDINARY = "ordinary"  # public and private alike: registries and their storage live in both
    LOOPBACK = "loopback"
    LINK_LOCAL = "link-local"
    METADATA = "cloud metadata"
    UNSPECIFIED = "unspecified"
    MULTICAST = "multicast"


# Credentials of the machine are had here for the asking. Whole /24 of the link-local ones: ECS and
# EKS answer on 169.254.170.2 and .23, and time and name services of the same clouds are near.
_METADATA = tuple(
    ipaddress.ip_network(text)
    for text in (
        "169.254.169.0/24",  # AWS, Google, Azure, OpenStack and most others
        "169.254.170.0/24",  # AWS ECS, EKS
        "100.100.100.200/32",  # Alibaba
        "168.63.129.16/32",  # Azure
        "192.0.0.192/32",  # Oracle
        "fd00:ec2::/32",  # AWS: ::254 metadata, ::23 EKS
        "fd20:ce::254/128",  # Google
        "fe80::a9fe:a9fe/128",  # OpenStack
    )
)
_THIS_NETWORK = ipaddress.ip_network("0.0.0.0/8")  # Linux connects 0.0.0.0 to the machine itself
_BROADCAST = ipaddress.IPv4Address("255.255.255.255")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_V4_COMPATIBLE = ipaddress.ip_network("::/96")


def own_class(address: str | Address) -> AddressClass:
    """What kind of place this is. ValueError for what is no address."""
    plain = unwrapped(address)
    if any(plain in network for network in _METADATA if network.version == plain.version):
        return AddressClass.METADATA
    if plain.is_loopback:
        return AddressClass.LOOPBACK
    if plain.is_unspecified or plain in _THIS_NETWORK:
        return AddressClass.UNSPECIFIED
    if plain.is_multicast or plain == _BROADCAST:
        return AddressClass.MULTICAST
    return AddressClass.LINK_LOCAL if plain.is_link_local else AddressClass.ORDINARY


def is_forbidden(address: str | Address, allowed: AbstractSet[AddressClass] = frozenset()) -> bool:
    """`allowed`: the classes in which the registry's own endpoint lives. A registry on this machine
    may redirect to this machine; none has a reason to redirect to a metadata service.
    """
    found = own_class(address)
    if found is AddressClass.METADATA:
        return True
    return found is not AddressClass.ORDINARY and found not in allowed


def parse_literal(host: str) -> Address | None:
    """The address that a host spells out; None where it is a name, to be resolved.

    Also as the C library reads it: 127.1, 2130706433, 0x7f.0.0.1 and 0177.0.0.1 are all 127.0.0.1.
    """
    host = host.removeprefix("[").removesuffix("]").rstrip(".")
    with suppress(ValueError):
        return ipaddress.ip_address(host)
    # inet_aton ignores what follows a blank.
    if host and not any(character.isspace() for character in host):
        with suppress(OSError, UnicodeError):
            return ipaddress.IPv4Address(socket.inet_aton(host))
    return None


def unwrapped(address: str | Address) -> Address:
    """The IPv4 address that an IPv6 one carries, by whichever of the four conventions."""
    if isinstance(address, str):
        address = ipaddress.ip_address(address)
    if isinstance(address, ipaddress.IPv4Address):
        return address
    inner = address.ipv4_mapped or address.sixtofour
    if inner is not None:
        return inner
    low = int(address) & 0xFFFFFFFF
    is_compatible = address in _V4_COMPATIBLE and low > 1  # ::, ::1 are IPv6's own
    return ipaddress.IPv4Address(low) if is_compatible or address in _NAT64 else address
