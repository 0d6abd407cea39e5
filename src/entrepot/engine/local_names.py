"""The local registries by the names that clients use on their own port.

A port says nothing there: the one that a client names is another's where it is published
(`-p 8443:443`), and the only one there is.
"""

import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit

from entrepot.engine.sites import Site

_DEFAULT_PORTS = {"https": 443, "http": 80}


class LocalNames:
    def __init__(self, sites: Iterable[Site], *, hostname: str, port: int | None) -> None:
        self._hostname = hostname
        self._port = port
        self._by_authority: dict[str, Site] = {}
        self._by_host: dict[str, Site] = {}
        for site in sites:
            if site.local is None:
                continue
            for name in (site.name, *site.settings.hosts):
                self._by_authority[name] = site
                self._by_host.setdefault(_host_of(name), site)
        # A name that is given without a port is meant before those with one.
        for name in (name for name in self._by_authority if name in self._by_host):
            self._by_host[name] = self._by_authority[name]

    @property
    def all(self) -> tuple[str, ...]:
        return tuple(self._by_host)

    def site(self, authority: str) -> Site | None:
        """Of a Host header."""
        return self._by_authority.get(authority) or self._by_host.get(_host_of(authority))

    def at_port(self, host: str, port: int | None) -> Site | None:
        """Where a client that uses the proxy names the own port, too."""
        return None if port is None or port != self._port else self._by_host.get(host)

    def proxied(self, authority: str, scheme: str) -> Site | None:
        """The same, as a request names it."""
        try:
            port = urlsplit(f"//{authority}").port or _DEFAULT_PORTS.get(scheme)
        except ValueError:
            return None
        return self.at_port(_host_of(authority), port)

    def shown(self, sni: str | None, address: str) -> str | None:
        """For whom a client expects a certificate; None: for nobody here. Who names nobody has
        come by an address: the one that was connected to, or one that leads there.
        """
        if sni:
            name = sni.lower().rstrip(".")
            return name if name in self._by_host else None
        addresses = (name for name in self._by_host if _is_address(name))
        candidates = (address, *addresses, self._hostname)
        return next((name for name in candidates if name in self._by_host), None)


def _host_of(authority: str) -> str:
    try:
        return (urlsplit(f"//{authority}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
