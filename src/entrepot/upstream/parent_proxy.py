"""Which parent proxy a request goes through, if any."""

import base64
import ipaddress
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from yarl import URL

from entrepot.errors import ConfigError
from entrepot.upstream.address import parse_literal
from entrepot.upstream.realm import Origin

DIRECT = "none"


@dataclass(frozen=True, slots=True, repr=False)
class Proxy:
    url: URL  # without credentials
    authorization: str | None = None

    @property
    def origin(self) -> Origin:
        return Origin.of(self.url)

    def __repr__(self) -> str:
        return f"Proxy({self.origin})"


@dataclass(frozen=True, slots=True)
class ProxyRule:
    """One registry's: `proxy` for all hosts but those that `exempt` names."""

    proxy: Proxy | None = None
    exempt: tuple[str, ...] = ()

    def choose(self, target: Origin) -> Proxy | None:
        if self.proxy is None or matches_no_proxy(target, self.exempt):
            return None
        return self.proxy


def proxy_rule(own: str, common: str, no_proxy: tuple[str, ...]) -> ProxyRule:
    """What is said for a registry holds for all its hosts; what is said for all has exceptions."""
    if own == DIRECT:
        return ProxyRule()
    if own:
        return ProxyRule(parse_proxy(own))
    return ProxyRule(parse_proxy(common), no_proxy) if common and common != DIRECT else ProxyRule()


def parse_proxy(text: str) -> Proxy:
    """`http://user:password@host:port`; a bare host:port is one of HTTP, as everywhere."""
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        # Not shown: what cannot be read may hold a password anywhere.
        raise ConfigError("upstream proxy: expected http://host:port, https://host:port or none")
    url = URL.build(scheme=parts.scheme, host=parts.hostname, port=port)
    if parts.username is None:
        return Proxy(url)
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return Proxy(url, f"Basic {base64.b64encode(pair.encode()).decode()}")


def matches_no_proxy(target: Origin, entries: Sequence[str]) -> bool:
    return any(_matches(target, entry.strip().lower()) for entry in entries)


def _matches(target: Origin, entry: str) -> bool:
    """As curl and urllib read it: a name stands for itself and all below it, dot in front or not.
    Go alone reads `.example.com` as not example.com itself.
    """
    if entry == "*":
        return True
    literal = parse_literal(target.host)
    if literal is not None:
        with suppress(ValueError):  # of two versions: not in it
            return literal in ipaddress.ip_network(entry, strict=False)
    name, port = _split_port(entry)
    if port and port != str(target.port):
        return False
    name = name.removeprefix("*").strip(".")
    if literal is not None:
        with suppress(ValueError):
            return literal == ipaddress.ip_address(name)
        return False
    return bool(name) and (target.host == name or target.host.endswith(f".{name}"))


def _split_port(entry: str) -> tuple[str, str]:
    if entry.startswith("["):
        host, _, rest = entry[1:].partition("]")
        return host, rest.removeprefix(":")
    if entry.count(":") != 1:
        return entry, ""
    host, _, port = entry.partition(":")
    return host, port
