"""Which clients the operator's credentials for a registry serve. Fails closed: not others."""

import ipaddress
from collections.abc import Iterable


class Networks:
    """Clients by address, as a socket tells it."""

    def __init__(self, networks: Iterable[str]) -> None:
        self._networks = [ipaddress.ip_network(text) for text in networks]

    def include(self, client: str) -> bool:
        try:
            address = ipaddress.ip_address(client.partition("%")[0])  # fe80::1%eth0
        except ValueError:
            return False
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped  # how IPv4 comes to a socket that listens on both
        return any(address in network for network in self._networks)

    def __bool__(self) -> bool:
        return bool(self._networks)


class Audience:
    def __init__(self, networks: Iterable[str]) -> None:
        """No networks: everybody."""
        self._networks = Networks(networks)

    def includes(self, client: str) -> bool:
        return not self._networks or self._networks.include(client)
