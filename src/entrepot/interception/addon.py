"""The mitmproxy addon: a few hooks, each a few lines."""

import logging
from collections.abc import Callable
from typing import Protocol

from mitmproxy import ctx, tls
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.connection import Client
from mitmproxy.proxy import layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers import modes

from entrepot.config.model import Config
from entrepot.errors import ConfigError
from entrepot.interception.client_port import ClientPort
from entrepot.interception.clients import ClientPolicy
from entrepot.interception.exchange import ExchangeRunner
from entrepot.interception.front_layer import (
    ClosedLayer,
    Destination,
    FrontLayer,
    Login,
    Reception,
)
from entrepot.interception.http_layer import ClientExchange
from entrepot.interception.registry_layer import RegistryLayer
from entrepot.interception.registry_mode import RegistryMode, RegistryTop
from entrepot.interception.reminders import Reminders
from entrepot.interception.tls import ClientTls
from entrepot.interception.tunnel import Refused, TunnelPolicy
from entrepot.interception.tunnel_layer import Pace

logger = logging.getLogger(__name__)


class Front(Reception, Protocol):
    """What the configuration in force says."""

    @property
    def clients(self) -> ClientPolicy: ...

    @property
    def tunnels(self) -> TunnelPolicy: ...

    @property
    def config(self) -> Config: ...

    def registry_name(self, sni: str | None, address: str) -> str | None:
        """For whom a client of the local registries' own port wants a certificate; None: for none
        of them.
        """
        ...


class EntrepotAddon:
    """Owns nothing: what it is given is made, started and stopped by `app`."""

    def __init__(
        self,
        front: Callable[[], Front],
        client_tls: ClientTls,
        runner: ExchangeRunner,
        *,
        is_draining: Callable[[], bool],
    ) -> None:
        self._front = front
        self._client_tls = client_tls
        self._runner = runner
        self._is_draining = is_draining
        self._reminders = Reminders()

    @property
    def idle_timeout_s(self) -> int:
        """In the whole seconds that mitmproxy's tcp_timeout takes."""
        return max(1, int(self._front().config.clients.idle_timeout))

    @property
    def registry_listen(self) -> str:
        return self._front().config.registry_listen

    def next_layer(self, data: layer.NextLayer) -> None:
        """Ours comes first on every connection to ports of ours, whatever other addons chose."""
        layers = data.context.layers
        if layers and isinstance(layers[0], modes.HttpProxy):
            # A layer that another addon put here has entered itself into the list.
            del layers[1:]
            try:
                data.layer = self._first_layer(data.context)
            except BaseException:
                del layers[1:]
                data.layer = ClosedLayer(data.context)
                raise

    def _first_layer(self, context: Context) -> layer.Layer:
        front = self._front()
        if isinstance(context.layers[0], RegistryTop):
            return RegistryLayer(context, header_timeout_s=front.header_timeout_s)
        return FrontLayer(context, front, self._reminders)

    def tls_start_client(self, data: tls.TlsData) -> None:
        first = next(iter(data.context.layers[1:2]), None)
        host = _host(data)
        try:
            if isinstance(first, RegistryLayer):
                host = self._name_registry(data)
            if host is not None and isinstance(first, FrontLayer | RegistryLayer):
                data.ssl_conn = self._client_tls.connection(host)
        except ConfigError as error:
            logger.error("no certificate for %s: %s", host, error)  # noqa: TRY400 - told in full
        except Exception:
            logger.exception("no certificate for %s", host or data.conn.sni)

    def _name_registry(self, data: tls.TlsData) -> str | None:
        """The host, also put down as `server`, which is nobody before: from there on this port and
        CONNECT are alike.
        """
        here = data.conn.sockname or ("", 0)
        name = self._front().registry_name(data.conn.sni, here[0])
        if name is not None:
            data.context.server.address = name, here[1]
            return name
        peer = data.conn.peername[0] if data.conn.peername else "?"
        if self._reminders.is_due(peer):
            wanted = data.conn.sni or "no name at all"
            logger.warning(
                "client %s asks the local registries' port for %.253s, which is none of them",
                peer,
                wanted,
            )
        return None

    def tls_failed_client(self, data: tls.TlsData) -> None:
        peer = data.conn.peername[0] if data.conn.peername else "?"
        logger.warning(
            "client %s ended the TLS handshake for %s; does it trust the CA at /ca.crt? (%s)",
            peer,
            _host(data) or "?",
            data.conn.error,
        )

    async def entrepot_judge(self, destination: Destination) -> None:
        try:
            policy = self._front().tunnels
            destination.judgement = await policy.judge(destination.host, destination.port)
        except Exception:
            logger.exception("judging a destination failed")
            destination.judgement = Refused(500, "internal error; see the proxy's log")

    async def entrepot_login(self, login: Login) -> None:
        try:
            policy = self._front().clients
            login.refusal = await policy.judge(login.client, login.authorization)
        except Exception:
            logger.exception("checking a password failed")
            login.refusal = Refused(500, "internal error; see the proxy's log")

    def entrepot_pace(self, pace: Pace) -> None:
        port = self._port(pace.client)
        if port is not None:
            port.pace(pace.may_read)

    async def entrepot_exchange(self, exchange: ClientExchange) -> None:
        port = self._port(exchange.context.client)
        if port is not None:
            await self._runner.run(exchange, port)

    def _port(self, client: Client) -> ClientPort | None:
        handler = _server().connections.get(client.id)
        if handler is None:
            return None  # gone already
        settings = self._front().config.clients
        return ClientPort(handler, settings, is_draining=self._is_draining)


def _host(data: tls.TlsData) -> str | None:
    address = data.context.server.address
    return address[0] if address else None


def listening_ports() -> frozenset[int]:
    """Where the proxy itself is."""
    return _ports(of_registries=False)


def registry_ports() -> frozenset[int]:
    return _ports(of_registries=True)


def _ports(*, of_registries: bool) -> frozenset[int]:
    servers = [
        server
        for server in _server().servers
        if isinstance(server.mode, RegistryMode) is of_registries
    ]
    return frozenset(address[1] for server in servers for address in server.listen_addrs)


def open_connections() -> int:
    return len(_server().connections)


def _server() -> Proxyserver:
    server = ctx.master.addons.get("proxyserver")
    assert isinstance(server, Proxyserver)
    return server
