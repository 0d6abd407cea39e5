"""The configured registries as the engine sees them, and which host name belongs to which."""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlsplit

from entrepot.config.local import LocalRegistry
from entrepot.config.model import Registry
from entrepot.upstream.client import Upstream

# Patterns make sites as hosts are asked for; a client must not make them without bound.
_PATTERN_SITES_MAX = 1000
_DEFAULT_PORTS = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True, eq=False)
class Site:
    name: str
    entry: str  # its key in the configuration: the name, or the pattern that it is one of
    settings: Registry
    upstream: Upstream
    beside: Callable[[str], Upstream] | None = None  # each of its other hosts, itself
    local: LocalRegistry | None = None  # where it is one of our own, whose users we know

    def at(self, host: str) -> Upstream:
        """For what is asked of this host and is no registry's."""
        if self.beside is not None and host != self.name and host in self.settings.hosts:
            return self.beside(host)
        return self.upstream


class Sites:
    def __init__(
        self,
        registries: dict[str, Registry],
        upstream_of: Callable[[str], Upstream],
        beside: Callable[[str, str], Upstream] | None = None,
        local: Mapping[str, LocalRegistry] | None = None,
    ) -> None:
        self._upstream_of = upstream_of
        self._patterns = {
            name: settings for name, settings in registries.items() if name.startswith("*.")
        }
        self._by_host: dict[str, Site] = {}
        self._of_patterns: OrderedDict[str, Site] = OrderedDict()
        for name, settings in registries.items():
            if not name.startswith("*."):
                others = partial(beside, name) if beside else None
                own = (local or {}).get(name)
                site = Site(name, name, settings, upstream_of(name), others, own)
                for host in (name, *settings.hosts):
                    self._by_host[host] = site

    def find(self, host: str, port: int) -> Site | None:
        """A name without port stands for the default ports of HTTPS and HTTP."""
        if ":" in host:
            host = f"[{host}]"
        if site := self._by_host.get(f"{host}:{port}"):
            return site
        if port not in _DEFAULT_PORTS.values():
            return None
        return self._by_host.get(host) or self._of_pattern(host)

    def _of_pattern(self, host: str) -> Site | None:
        if site := self._of_patterns.get(host):
            self._of_patterns.move_to_end(host)
            return site
        entry = self._pattern_of(host)
        if entry is None:
            return None
        try:
            upstream = self._upstream_of(host)
        except KeyError:  # not a name that can be asked
            return None
        site = self._of_patterns[host] = Site(host, entry, self._patterns[entry], upstream)
        if len(self._of_patterns) > _PATTERN_SITES_MAX:
            self._of_patterns.popitem(last=False)
        return site

    def _pattern_of(self, host: str) -> str | None:
        """The longest that fits: `*.b.example.com` before `*.example.com`."""
        position = 0
        while (position := host.find(".", position + 1)) > 0:
            if (pattern := f"*{host[position:]}") in self._patterns:
                return pattern
        return None

    def by_authority(self, authority: str, scheme: str = "https") -> Site | None:
        try:
            parts = urlsplit(f"//{authority}")
            port = parts.port or _DEFAULT_PORTS[scheme]
        except (ValueError, KeyError):
            return None
        return self.find(parts.hostname or "", port)

    def __iter__(self) -> Iterator[Site]:
        return iter(dict.fromkeys((*self._by_host.values(), *self._of_patterns.values())))
