"""What leads back to the proxy itself, and would go round in circles."""

from collections.abc import Iterator
from urllib.parse import urlsplit

from entrepot.config.convert import parse_address
from entrepot.config.model import Config
from entrepot.config.tree import KeyPath

type Finding = tuple[KeyPath, str]
type Address = tuple[str, int]

_EVERY_HOST = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 - compared, not bound
_THIS_HOST = ("localhost", "127.0.0.1", "::1")


def proxy_loops(config: Config) -> Iterator[Finding]:
    """HTTPS_PROXY is often set for a whole machine, the one with the proxy included."""
    own = _addresses(config, config.listen) | _addresses(config, config.registry_listen)
    none = "; without a parent proxy write `upstream.proxy: none`, or ENTREPOT_UPSTREAM__PROXY=none"
    proxies: list[tuple[KeyPath, str, str]] = [(("upstream", "proxy"), config.upstream.proxy, none)]
    proxies += [
        (("registries", name, "proxy"), registry.proxy, "; without a parent proxy write `none`")
        for name, registry in config.registries.items()
    ]
    for path, proxy, hint in proxies:
        if _address_of(proxy) in own:
            yield path, f"expected another proxy: this is the address of this one{hint}"


def local_loops(config: Config) -> Iterator[Finding]:
    proxy = _addresses(config, config.listen)
    own = proxy | _addresses(config, config.registry_listen)
    for name, local in config.local_registries.items():
        path = ("local_registries", name)
        places = [(path, name), *(((*path, "hosts"), host) for host in local.hosts)]
        for place, host in places:
            if _address_of(f"//{host}") in proxy:
                yield place, f"expected another port: {host} is the address of the proxy itself"
        for number, url in enumerate(local.upstream):
            if _address_of(url) in own:
                message = "expected the registry behind: this is the address of the proxy itself"
                yield (*path, "upstream", f"[{number}]"), message


def places_behind(config: Config) -> set[Address]:
    """Where the local registries themselves are, which check nobody."""
    return {
        _address_of(url) for local in config.local_registries.values() for url in local.upstream
    }


def _addresses(config: Config, listen: str) -> set[Address]:
    """By which clients may know what listens there."""
    if not listen:
        return set()
    host, port = parse_address(listen)
    hosts = {config.hostname, host or "localhost"}
    return {(name, port) for name in hosts.union(_THIS_HOST if host in _EVERY_HOST else ())}


def _address_of(url: str) -> Address:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or {"https": 443}.get(parts.scheme, 80)
