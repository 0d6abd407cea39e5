"""The composition root: every concrete class is known here, and nothing else puts them together.

Foundation   lives as long as the process: store, CA, tasks, metrics
Front        made from the configuration, and made anew when that is reloaded
Engine       the part of a front that answers requests for registries
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from entrepot import __version__
from entrepot.ca.authority import Authority, directory_of
from entrepot.ca.names import vouched_names
from entrepot.clock import Clock, SystemClock
from entrepot.config.convert import parse_address
from entrepot.config.model import Config
from entrepot.config.own_address import places_behind
from entrepot.engine.assembly import Engine, Ground
from entrepot.engine.local_names import LocalNames
from entrepot.engine.message import Exchange, Request, Response
from entrepot.engine.problem import problem
from entrepot.engine.uploads import Uploads
from entrepot.errors import ConfigError, StorageError, system_reason
from entrepot.interception.addon import (
    EntrepotAddon,
    listening_ports,
    open_connections,
    registry_ports,
)
from entrepot.interception.clients import ClientPolicy
from entrepot.interception.exchange import ExchangeRunner
from entrepot.interception.http_layer import Entrance
from entrepot.interception.tls import ClientTls
from entrepot.interception.tunnel import TunnelPolicy, resolve_by
from entrepot.local.keeper import Doorkeeper
from entrepot.local.schedule import Schedule
from entrepot.observability.journal import log_exchange
from entrepot.observability.metrics import Metrics, Readings
from entrepot.oci.error_body import ErrorCode
from entrepot.passwords.guesses import Guesses
from entrepot.secret_files import secrets_of
from entrepot.storage.disk.store import DiskStore, open_disk_store
from entrepot.upstream.fleet import Upstreams
from entrepot.upstream.resolver import SystemResolver
from entrepot.web.health import Health
from entrepot.web.pages import Figures, Pages
from entrepot.web.registry_port import RegistryPort, not_here

# Names to tunnel to are the clients' choice: some that nobody answers for keep as many threads.
_RESOLVER_THREADS = 64

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Foundation:
    clock: Clock
    store: DiskStore
    authority: Authority
    tasks: asyncio.TaskGroup
    resolver: SystemResolver  # of names to tunnel to
    guesses: Guesses  # of passwords, whatever they are for
    keeper: Doorkeeper
    uploads: Uploads  # which go on under whatever configuration there is by then


class Front:
    """What receives clients under one configuration, with the engine that answers them."""

    def __init__(
        self, config: Config, base: Foundation, fetched: Callable[[str, int], None]
    ) -> None:
        self.header_timeout_s = float(config.clients.header_timeout)
        self.connect_timeout_s = float(config.tunnel.connect_timeout)
        self.config = config
        ground = Ground(
            base.store,
            base.store.ledger,
            base.clock,
            secrets_of(config),
            base.guesses,
            base.keeper,
            base.uploads,
            base.tasks,
        )
        self.engine = Engine(config, ground, Upstreams(config, clock=base.clock), fetched)
        self.clients = ClientPolicy(config.clients, base.guesses)
        self.tunnels = TunnelPolicy(
            config.tunnel,
            own_names={config.hostname, "localhost"},
            own_ports=listening_ports,
            registry_ports=registry_ports,
            behind=places_behind(config),
            resolve=resolve_by(base.resolver),
        )
        self.names = LocalNames(
            self.engine.sites,
            hostname=config.hostname,
            port=parse_address(config.registry_listen)[1] if config.registry_listen else None,
        )
        self.registry_port = RegistryPort(
            self.names,
            serves=self.serves,
            answer=self.engine.service.respond,
            proxy=_default_host(config),
        )
        self.engine.upstreams.watch(base.tasks)

    def serves(self, peer: str) -> bool:
        return self.clients.allows(peer)

    def admits(self, peer: str, proxy_authorization: str) -> bool:
        return self.clients.admits(peer, proxy_authorization)

    def intercepts(self, host: str, port: int) -> bool:
        return (self.engine.sites.find(host, port) or self.names.at_port(host, port)) is not None

    def registry_name(self, sni: str | None, address: str) -> str | None:
        return self.names.shown(sni, address)

    async def respond(self, request: Request) -> Response:
        """To what came through the proxy."""
        host, scheme = request.host, request.scheme
        site = self.engine.sites.by_authority(host, scheme) or self.names.proxied(host, scheme)
        if site is None:  # reloaded away between CONNECT and request
            return problem(421, ErrorCode.DENIED, f"{host} is not a registry of this proxy")
        return await self.engine.service.respond(request, site)


class Proxy:
    """The running whole: the addon's collaborators, with the front that is in force."""

    def __init__(self, config: Config, base: Foundation) -> None:
        self._base = base
        self._fronts: list[Front] = []
        self._retiring: set[asyncio.Task[None]] = set()
        self._runner = ExchangeRunner(self._respond, self._observe)
        self.is_draining = False
        self.metrics = Metrics(self._readings)
        self._pages = Pages(
            base.authority,
            Health(
                {
                    "process": self._check_process,
                    "store": base.store.check_writable,
                    "ca": self._check_ca,
                },
                {
                    "room": lambda: base.store.shortage,
                    "pushes": base.keeper.held_back,
                    "upstreams": lambda: "; ".join(self.front.engine.upstreams.ailments()),
                },
            ),
            figures=self._figures,
            metrics=self.metrics.render,
            default_host=_default_host(config),
            version=__version__,
            check=self._check_login,
        )
        self._fronts.append(Front(config, base, self.metrics.fetched))
        self.addon = EntrepotAddon(
            lambda: self.front,
            ClientTls(base.authority.leaf),
            self._runner,
            is_draining=lambda: self.is_draining,
        )

    @property
    def front(self) -> Front:
        return self._fronts[-1]

    @property
    def exchanges(self) -> int:
        return self._runner.running

    async def wait_idle(self) -> None:
        """Until nothing is being answered."""
        while self._runner.running:
            await self._runner.wait_for_running()

    def reload(self, config: Config) -> None:
        """New requests see it; running ones end under the old."""
        old = self.front
        self._fronts.append(Front(config, self._base, self.metrics.fetched))
        task = self._base.tasks.create_task(self._retire(old), name="retire a configuration")
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def _retire(self, front: Front) -> None:
        await self._runner.wait_for_running()
        await front.engine.blobs.wait_for_fills()
        self._fronts.remove(front)
        await front.engine.aclose()

    async def aclose(self) -> None:
        for task in self._retiring:
            task.cancel()
        for front in self._fronts:
            await front.engine.aclose()

    async def _respond(self, request: Request, entrance: Entrance) -> Response:
        front = self.front
        match entrance:
            case Entrance.PROXY:
                return await front.respond(request)
            case Entrance.REGISTRY:
                return await front.registry_port.respond(request)
            case Entrance.PAGES:
                misled = not_here(request, front.names, proxy=_default_host(front.config))
                return misled or await self._pages.respond(request)

    def _observe(self, exchange: Exchange) -> None:
        self.metrics.observe(exchange)
        log_exchange(exchange)

    # What the pages and metrics read.

    def _readings(self) -> Readings:
        engine, base = self.front.engine, self._base
        return Readings(
            store=base.store.statistics(),
            fills=engine.blobs.fills(),
            upstreams=engine.upstreams.statistics(),
            guesses=base.guesses.statistics(),
            connections=open_connections(),
            exchanges=self._runner.running,
            ca_days_left=base.authority.days_left(base.clock.now()),
        )

    def _figures(self) -> Figures:
        totals = self.metrics.totals()
        store = self._base.store.statistics()
        return Figures(
            registries=tuple(sorted(self.front.config.registries)),
            local_registries=tuple(sorted(self.front.config.local_registries)),
            requests=totals.requests,
            hits=totals.hits,
            sent_bytes=totals.sent_bytes,
            fetched_bytes=totals.fetched_bytes,
            store_bytes=store.size_bytes,
            store_entries=store.entries,
            ca_days_left=int(self._base.authority.days_left(self._base.clock.now())),
        )

    async def _check_login(self, client: str, authorization: str) -> bool:
        return await self.front.clients.knows(client, authorization)

    async def _check_process(self) -> None:
        if self.is_draining:
            raise StorageError("stopping")

    async def _check_ca(self) -> None:
        days = self._base.authority.days_left(self._base.clock.now())
        if days <= 0:
            raise ConfigError("; ".join(self._base.authority.warnings) or "the CA has expired")


@asynccontextmanager
async def open_proxy(config: Config, clock: Clock | None = None) -> AsyncIterator[Proxy]:
    """Everything made in order, and undone in reverse."""
    clock = clock or SystemClock()
    _make_directory(config.data)
    authority = Authority.open(directory_of(config), config.ca, clock, vouched_names(config))
    for warning in authority.warnings:
        logger.warning("CA: %s", warning)
    store = open_disk_store(config.data, config.storage, clock)
    resolver = SystemResolver(threads=_RESOLVER_THREADS)
    try:
        async with asyncio.TaskGroup() as tasks:
            keeper = Doorkeeper(store.ledger, clock)
            base = Foundation(
                clock, store, authority, tasks, resolver, Guesses(clock), keeper, Uploads(clock)
            )
            proxy = Proxy(config, base)
            upkeep = tasks.create_task(store.maintain(), name="store upkeep")
            keeping = tasks.create_task(keeper.run(), name="holds on local registries")
            schedule = Schedule(lambda: proxy.front.config, store.ledger, clock)
            cleaning = tasks.create_task(schedule.run(), name="scheduled cleaning")
            try:
                yield proxy
            finally:
                cleaning.cancel()
                upkeep.cancel()
                await proxy.aclose()
                keeping.cancel()
    finally:
        await resolver.close()
        await store.aclose()


def _make_directory(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o750)
    except OSError as error:
        raise ConfigError(
            f"the data directory {path} (data) cannot be made: {system_reason(error)}"
        ) from error


def _default_host(config: Config) -> str:
    return f"{config.hostname}:{config.listen.rpartition(':')[2]}"
