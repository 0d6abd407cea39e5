"""Hosts as certificates name them, and the name constraints (RFC 5280 section 4.2.1.10) on them."""

import ipaddress
import re
from collections.abc import Iterable, Sequence

from cryptography import x509

from entrepot.config.model import Config
from entrepot.errors import ConfigError

# Underscores are no part of host names (RFC 1123), but compose services have them and clients,
# Go's and OpenSSL's, match them.
_DNS_NAME = re.compile(
    r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?)*"
)
_DNS_NAME_MAX = 253
_EVERY_ADDRESS = (
    x509.IPAddress(ipaddress.ip_network("0.0.0.0/0")),
    x509.IPAddress(ipaddress.ip_network("::/0")),
)
# The empty name is the root of the DNS: a subtree of everything (OpenSSL and Go read it so).
_EVERY_NAME = x509.DNSName("")

type HostName = x509.DNSName | x509.IPAddress


def vouched_names(config: Config) -> tuple[str, ...]:
    """All for which clients may get a certificate: registries, their other hosts, the proxy."""
    hosts = (host for registry in config.served.values() for host in registry.hosts)
    return tuple(dict.fromkeys((config.hostname, *config.served, *hosts)))


def parse_host(host: str) -> HostName:
    """A DNS name in lower case and ASCII, or an address; ValueError for what is neither."""
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        # By way of `packed`: the zone of fe80::1%eth0 means nothing in a certificate.
        return x509.IPAddress(ipaddress.ip_address(ipaddress.ip_address(bare).packed))
    except ValueError:
        pass
    name = host.rstrip(".") if host.endswith(".") and not host.endswith("..") else host
    ascii_name = (name if name.isascii() else name.encode("idna").decode()).lower()
    if len(ascii_name) > _DNS_NAME_MAX or not _DNS_NAME.fullmatch(ascii_name):
        raise ValueError(f"not a host name: {host[:300]!r}")
    return x509.DNSName(ascii_name)


def constrain(names: Sequence[str]) -> x509.NameConstraints:
    """A CA that can vouch for these (`host`, `host:port`, `*.pattern`) and nothing else."""
    bases = list(dict.fromkeys(map(_base, names)))
    permitted = [_subtree(base) for base in bases]
    excluded: list[x509.GeneralName] = []
    # A kind of name of which nothing is permitted is not constrained at all (RFC 5280).
    if not any(isinstance(base, x509.IPAddress) for base in bases):
        excluded.extend(_EVERY_ADDRESS)
    if not any(isinstance(base, x509.DNSName) for base in bases):
        excluded.append(_EVERY_NAME)
    return x509.NameConstraints(permitted or None, excluded or None)


def uncovered(certificates: Iterable[x509.Certificate], names: Sequence[str]) -> tuple[str, ...]:
    """The names that constraints in these certificates leave out."""
    constraints = [found for found in map(constraints_of, certificates) if found is not None]

    def is_covered(name: str) -> bool:
        try:
            return all(_permits(constraint, _base(name)) for constraint in constraints)
        except ConfigError:  # a pattern of everything
            return False

    return tuple(name for name in names if not is_covered(name))


def constraints_of(certificate: x509.Certificate) -> x509.NameConstraints | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return None


def _base(name: str) -> HostName:
    """What a configured name is a subtree of: its host without the port, `*.` and before."""
    host = _without_port(name).rpartition("*.")[2]
    try:
        return parse_host(host)
    except ValueError as error:
        raise ConfigError(
            f"ca.name_constraints: {name!r} is no host, address or *.pattern to limit the CA to"
        ) from error


def _without_port(name: str) -> str:
    host, colon, port = name.rpartition(":")
    # A bare IPv6 address ends in what looks like a port, but has further colons before it.
    is_port = colon and port.isdecimal() and (":" not in host or host.endswith("]"))
    return host if is_port else name


def _subtree(base: HostName) -> x509.GeneralName:
    if isinstance(base, x509.DNSName):
        return base  # "example.com" is example.com and all below it: no leading dot
    return x509.IPAddress(ipaddress.ip_network(base.value))


def _permits(constraints: x509.NameConstraints, host: HostName) -> bool:
    same_kind = [tree for tree in constraints.permitted_subtrees or () if type(tree) is type(host)]
    if same_kind and not any(_is_within(host, tree) for tree in same_kind):
        return False
    return not any(_is_within(host, tree) for tree in constraints.excluded_subtrees or ())


def _is_within(host: HostName, tree: x509.GeneralName) -> bool:
    if isinstance(host, x509.DNSName) and isinstance(tree, x509.DNSName):
        base = tree.value.lower().removeprefix(".")
        return not base or host.value == base or host.value.endswith(f".{base}")
    if isinstance(host, x509.IPAddress) and isinstance(tree, x509.IPAddress):
        network = tree.value
        return (
            isinstance(network, ipaddress.IPv4Network | ipaddress.IPv6Network)
            and host.value in network
        )
    return False
