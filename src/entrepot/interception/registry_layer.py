"""The first layer of a connection to the local registries' own port: TLS, and HTTP in it.

What comes without TLS is heard, too, to be told what is wrong.
"""

import logging

from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.tunnel import TunnelState

from entrepot.interception.http_layer import HttpLayer, Place
from entrepot.interception.tls import ClientTlsLayer

logger = logging.getLogger(__name__)

_TLS_HANDSHAKE = 0x16


class RegistryLayer(layer.Layer):
    def __init__(self, context: Context, *, header_timeout_s: float) -> None:
        super().__init__(context)
        self._header_timeout_s = header_timeout_s
        self._child: layer.Layer | None = None
        self._tls: ClientTlsLayer | None = None
        self._deadline: commands.RequestWakeup | None = None

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        if self._child is not None:
            yield from self._pass_on(self._child, event)
        elif isinstance(event, events.DataReceived):
            self._child = self._choose(is_tls=event.data[0] == _TLS_HANDSHAKE)
            if self._tls is not None:
                self._deadline = commands.RequestWakeup(self._header_timeout_s)
                yield self._deadline
            yield from self._child.handle_event(events.Start())
            yield from self._child.handle_event(event)
        elif isinstance(event, events.ConnectionClosed):
            yield commands.CloseConnection(self.context.client)

    def _pass_on(self, child: layer.Layer, event: events.Event) -> layer.CommandGenerator[None]:
        if not isinstance(event, events.Wakeup) or event.command is not self._deadline:
            yield from child.handle_event(event)
        elif self._tls is not None and self._tls.tunnel_state is TunnelState.ESTABLISHING:
            peer = self.context.client.peername
            logger.info("client %s did not end its TLS handshake in time", peer and peer[0])
            yield commands.CloseConnection(self.context.client)

    def _choose(self, *, is_tls: bool) -> layer.Layer:
        if not is_tls:
            return self._http("http")
        self._tls = ClientTlsLayer(self.context, is_host_known=False)
        self._tls.child_layer = self._http("https")
        return self._tls

    def _http(self, scheme: str) -> HttpLayer:
        place = Place(scheme, None, is_registry=True)
        return HttpLayer(self.context, place, header_timeout_s=self._header_timeout_s)
