"""The upstreams of all configured registries, put together from the configuration."""

import asyncio
import fnmatch
import re
import ssl
from collections import OrderedDict
from dataclasses import dataclass

from aiohttp.abc import AbstractResolver
from yarl import URL

from entrepot.clock import Clock, SystemClock
from entrepot.config.model import DOCKER_HUB, Config, Registry
from entrepot.errors import ConfigError
from entrepot.upstream.authorization import Ownership
from entrepot.upstream.client import PAUSES_S, Parts, Upstream
from entrepot.upstream.credentials import CredentialSource, credential_source
from entrepot.upstream.parent_proxy import proxy_rule
from entrepot.upstream.realm import Origin, is_trusted_realm, public_suffixes
from entrepot.upstream.resolver import SystemResolver
from entrepot.upstream.statistics import Counters, UpstreamStatistics
from entrepot.upstream.transport import Setup, Transport

_DOCKER_HUB_ENDPOINT = "https://registry-1.docker.io"
# Hosts of a pattern are the clients' choice; what is known of the least recently asked is dropped.
_PATTERN_HOSTS_MAX = 1000
_HOST = re.compile(r"[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?(?::[0-9]{1,5})?\Z")


@dataclass(frozen=True, slots=True)
class Environment:
    """What the fleet takes from outside; tests give it other time and other names."""

    clock: Clock
    resolver: AbstractResolver
    pauses_s: tuple[float, ...] = PAUSES_S


class Upstreams:
    """Owns all connections. ConfigError where a bundle, a proxy or an endpoint cannot be used."""

    def __init__(
        self,
        config: Config,
        *,
        clock: Clock | None = None,
        resolver: AbstractResolver | None = None,
        pauses_s: tuple[float, ...] = PAUSES_S,
    ) -> None:
        self._config = config
        self._environment = Environment(
            clock or SystemClock(), resolver or SystemResolver(), pauses_s
        )
        self._owns_resolver = resolver is None
        self._system_trust = tls_context(Registry(), "")
        public_suffixes()  # read now rather than under the first request
        self._credentials = _Credentials(config.served, self._environment.clock)
        self._transports: dict[str, Transport] = {}
        self._patterns = [name for name in config.served if "*" in name]
        self._patterns.sort(key=len, reverse=True)  # the most specific one first
        self._of_patterns: OrderedDict[str, Upstream] = OrderedDict()
        # Of all their hosts, also those that were dropped: counters do not go back.
        self._counters: dict[str, Counters] = {}
        self._named: dict[str, Upstream] = {}
        self._beside: dict[tuple[str, str], Upstream] = {}
        self._watching: list[asyncio.Task[None]] = []
        for name, registry in config.served.items():
            self._transports[name] = self._transport(name, registry)
            if "*" not in name:
                self._named[name.lower()] = self._upstream(name, name)
        for name, registry in config.served.items():
            for host in registry.hosts if "*" not in name else ():
                self._named.setdefault(host.lower(), self._named[name.lower()])

    def get(self, name: str) -> Upstream:
        """By the registry's name or any of its hosts; KeyError for what is none of ours."""
        name = name.lower()
        if name in self._named:
            return self._named[name]
        if name in self._of_patterns:
            self._of_patterns.move_to_end(name)
            return self._of_patterns[name]
        pattern = self._pattern_of(name)
        if pattern is None or not _HOST.match(name):
            raise KeyError(name)
        upstream = self._of_patterns[name] = self._upstream(name, pattern)
        while len(self._of_patterns) > _PATTERN_HOSTS_MAX:
            self._of_patterns.popitem(last=False)
        return upstream

    def watch(self, tasks: asyncio.TaskGroup) -> None:
        """Look after the endpoints of local registries, until `aclose`."""
        for name in self._config.local_registries:
            checkup = self._named[name.lower()].checkup
            if checkup is not None:
                task = tasks.create_task(checkup.run(), name=f"look after {name}")
                self._watching.append(task)

    def ailments(self) -> tuple[str, ...]:
        """What is wrong with the endpoints of local registries, for people."""
        named = [self._named[name.lower()] for name in self._config.local_registries]
        return tuple(ailment for upstream in named for ailment in upstream.ailments())

    def statistics(self) -> tuple[UpstreamStatistics, ...]:
        """One for each entry of the configuration: the hosts of a pattern are summed up."""
        named = {id(upstream): upstream for upstream in self._named.values()}
        return (
            *(upstream.statistics() for upstream in named.values()),
            *(self._statistics_of(pattern) for pattern in self._counters),
        )

    def _statistics_of(self, pattern: str) -> UpstreamStatistics:
        """At rest when all of its hosts are; how much is left to pull is each one's own."""
        hosts = [
            host for name, host in self._of_patterns.items() if self._pattern_of(name) == pattern
        ]
        is_resting = bool(hosts) and all(host.is_resting() for host in hosts)
        return self._counters[pattern].snapshot(pattern, is_resting=is_resting, rate_limit=None)

    def _pattern_of(self, name: str) -> str | None:
        return next((p for p in self._patterns if fnmatch.fnmatchcase(name, p.lower())), None)

    async def aclose(self) -> None:
        for task in self._watching:
            task.cancel()
        if self._watching:
            await asyncio.wait(self._watching)
        for transport in self._transports.values():
            await transport.aclose()
        if self._owns_resolver:
            await self._environment.resolver.close()

    def beside(self, name: str, host: str) -> Upstream:
        """One of the registry's other hosts itself: for what is asked of that host and is not the
        registry's, such as Docker Hub's search.
        """
        key = (name, host)
        if key not in self._beside:
            scheme = endpoints_of(name, self._config.served[name])[0].scheme
            self._beside[key] = self._upstream(name, name, (URL(f"{scheme}://{host}"),))
        return self._beside[key]

    def _upstream(
        self, name: str, entry: str, endpoints: tuple[URL, ...] | None = None
    ) -> Upstream:
        registry = self._config.served[entry]
        local = self._config.local_registries.get(entry) if endpoints is None else None
        endpoints = endpoints or endpoints_of(name, registry)
        ownership = Ownership(
            own_origins(endpoints, registry),
            registry.realms,
            self._credentials.of_registry(name, entry),
            self._credentials.of_origin,
        )
        return Upstream(
            Parts(
                name=name,
                endpoints=endpoints,
                ownership=ownership,
                transport=self._transports[entry],
                settings=self._config.upstream,
                connections=registry.connections,
                clock=self._environment.clock,
                borrows_credentials=self._credentials.has_any_for(ownership),
                pauses_s=self._environment.pauses_s,
                counters=Counters() if name == entry else self._counters_of(entry),
                checkup_interval_s=float(local.health_interval) if local else None,
            )
        )

    def _counters_of(self, pattern: str) -> Counters:
        return self._counters.setdefault(pattern, Counters())

    def _transport(self, entry: str, registry: Registry) -> Transport:
        """One for all hosts of a pattern. Those are the clients' choice within it, so their
        addresses are judged like those of redirects, unlike those of hosts that are named.
        """
        own: frozenset[Origin] = frozenset()
        if "*" not in entry or registry.endpoints:
            own = own_origins(endpoints_of(entry, registry), registry)
        common = self._config.upstream
        is_usual = registry.verify and registry.ca_bundle is None
        return Transport(
            Setup(
                own=own,
                tls=self._system_trust if is_usual else tls_context(registry, entry),
                proxy=proxy_rule(registry.proxy, common.proxy, common.no_proxy),
                resolver=self._environment.resolver,
                ipv6=common.ipv6,
            )
        )


class _Credentials:
    """Of all registries, each with one source, also where two of them come by the same one."""

    def __init__(self, registries: dict[str, Registry], clock: Clock) -> None:
        self._registries = registries
        self._clock = clock
        self._sources: dict[str, CredentialSource] = {}
        self._by_host: dict[str, CredentialSource] = {}
        for name, registry in registries.items():
            source = credential_source(name, registry, clock)
            if source is None:
                continue
            self._sources[name] = source
            if "*" not in name:
                origins = own_origins(endpoints_of(name, registry), registry)
                for host in (name.lower(), *(str(origin) for origin in origins)):
                    self._by_host.setdefault(host, source)

    def of_registry(self, name: str, entry: str) -> CredentialSource | None:
        if name != entry and (self._registries[entry].helper or self._registries[entry].exec):
            return credential_source(name, self._registries[entry], self._clock)
        return self._sources.get(entry)

    def of_origin(self, origin: Origin) -> CredentialSource | None:
        """Never over a connection without TLS: they are another registry's."""
        return None if origin.is_plain else self._by_host.get(str(origin))

    def has_any_for(self, ownership: Ownership) -> bool:
        return any(
            is_trusted_realm(_origin_of_host(host), ownership.origins, ownership.realms)
            for host in self._by_host
        )


def endpoints_of(name: str, registry: Registry) -> tuple[URL, ...]:
    """ConfigError for what cannot be asked."""
    default = _DOCKER_HUB_ENDPOINT if name == DOCKER_HUB else f"https://{name}"
    return tuple(_endpoint(name, text) for text in registry.endpoints or (default,))


def _endpoint(name: str, text: str) -> URL:
    try:
        url = URL(text)
        Origin.of(url)
    except ValueError:
        url = URL()
    if not url.absolute or url.user or url.password or url.query_string or url.raw_fragment:
        # Not shown: it may hold a password.
        raise ConfigError(
            f"registries.{name}.endpoints: expected https://host[:port], without a user or query"
        )
    return URL(str(url).rstrip("/"), encoded=True)


def own_origins(endpoints: tuple[URL, ...], registry: Registry) -> frozenset[Origin]:
    origins = {Origin.of(url) for url in endpoints}
    return frozenset(origins | {_origin_of_host(host) for host in registry.hosts})


def _origin_of_host(host: str) -> Origin:
    try:
        return Origin.of(URL(f"https://{host}"))
    except ValueError:
        raise ConfigError(f"registries: {host!r} is no host[:port]") from None


def tls_context(registry: Registry, name: str) -> ssl.SSLContext:
    """The system's trust store (OpenSSL honours SSL_CERT_FILE and SSL_CERT_DIR) and the bundle.

    As Go's clients judge certificates, and alike on all versions of Python: a bundle may hold an
    intermediate or the server's own certificate, and private authorities that omit extensions
    which RFC 5280 asks for pass.
    """
    context = ssl.create_default_context()
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.set_alpn_protocols(["http/1.1"])
    if registry.ca_bundle is not None:
        try:
            context.load_verify_locations(cafile=registry.ca_bundle)
        except OSError as error:
            reason = "no certificate in it" if isinstance(error, ssl.SSLError) else error.strerror
            raise ConfigError(
                f"registries.{name}.ca_bundle: {registry.ca_bundle} cannot be used: {reason}"
            ) from error
    if not registry.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
