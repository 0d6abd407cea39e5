"""The addon in a mitmproxy that does not listen."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers import modes
from mitmproxy.test import taddons

from entrepot.config.model import Clients, Config, Tunnel
from entrepot.engine.message import Exchange, Request, Response
from entrepot.interception.addon import EntrepotAddon
from entrepot.interception.clients import ClientPolicy
from entrepot.interception.exchange import ExchangeRunner
from entrepot.interception.front_layer import FrontLayer
from entrepot.interception.http_layer import Entrance
from entrepot.interception.registry_layer import RegistryLayer
from entrepot.interception.registry_mode import RegistryTop
from entrepot.interception.tls import ClientTls
from entrepot.interception.tunnel import TunnelPolicy
from entrepot.passwords.guesses import Guesses
from tests.interception.conversation import PEER
from tests.interception.leaves import HOST, Leaves
from tests.interception.line import Line
from tests.support.clock import ManualClock

PUBLIC = "203.0.113.7"


async def resolve(host: str, port: int) -> Sequence[str]:
    if host == "broken.test":
        raise ZeroDivisionError
    return [PUBLIC]


@dataclass
class Front:
    """What a configuration says."""

    config: Config = field(default_factory=Config)
    peer: str = PEER
    header_timeout_s: float = 60
    connect_timeout_s: float = 10
    tunnels: TunnelPolicy = field(
        default_factory=lambda: TunnelPolicy(
            Tunnel(), own_names=(), own_ports=frozenset, resolve=resolve
        )
    )

    clients: ClientPolicy = field(
        default_factory=lambda: ClientPolicy(Clients(), Guesses(ManualClock()))
    )

    def serves(self, peer: str) -> bool:
        return peer == self.peer

    def admits(self, peer: str, proxy_authorization: str) -> bool:
        return self.clients.admits(peer, proxy_authorization)

    def intercepts(self, host: str, port: int) -> bool:
        return host == HOST

    def registry_name(self, sni: str | None, address: str) -> str | None:
        return HOST if sni in {HOST, None} else None


class House:
    def __init__(self) -> None:
        self.front = Front()
        self.is_broken = False
        self.observed: list[Exchange] = []
        self.server = Proxyserver()
        self.leaves = Leaves()
        self.addon = EntrepotAddon(
            self._front,
            ClientTls(self.leaves.leaf),
            ExchangeRunner(self._respond, self.observed.append),
            is_draining=lambda: False,
        )
        self.context = taddons.context(self.server, self.addon)

    def line(self, addon: object) -> Line:
        return Line(self._layer, addon)

    def registry_line(self, addon: object) -> Line:
        """To the local registries' own port."""
        return Line(self._registry_layer, addon)

    def knows(self, line: Line) -> AbstractContextManager[None]:
        """As mitmproxy knows a connection while it lasts."""
        handler = line.handler
        return self.server.register_connection(handler.client.id, handler)  # type: ignore[arg-type]  # ours is as good

    def _layer(self, context: Context) -> FrontLayer:
        modes.HttpProxy(context)  # enters itself into the context's list, as in mitmproxy
        return FrontLayer(context, self.front)

    def _registry_layer(self, context: Context) -> RegistryLayer:
        RegistryTop(context)
        return RegistryLayer(context, header_timeout_s=self.front.header_timeout_s)

    def _front(self) -> Front:
        if self.is_broken:
            raise ZeroDivisionError
        return self.front

    async def _respond(self, request: Request, entrance: Entrance) -> Response:
        return Response(200, {}, f"{entrance.name} {request.path}".encode())
