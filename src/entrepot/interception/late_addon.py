"""The addon for `mitmdump -s`: made when mitmproxy's loop runs, closed when it is done.

Until it is there, connections are refused: what mitmproxy does with a connection that nobody
claims (forward it) must never be what happens to ours.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from mitmproxy import ctx, tls
from mitmproxy.proxy import commands, events, layer
from mitmproxy.utils import asyncio_utils

from entrepot.interception.addon import EntrepotAddon
from entrepot.interception.front_layer import Destination
from entrepot.interception.http_layer import ClientExchange

logger = logging.getLogger(__name__)


class LateAddon:
    """`opened` owns everything; one task of ours enters and leaves it."""

    def __init__(self, opened: Callable[[], AbstractAsyncContextManager[EntrepotAddon]]) -> None:
        self._opened = opened
        self._addon: EntrepotAddon | None = None
        self._stop = asyncio.Event()
        self._owner: asyncio.Task[None] | None = None

    def running(self) -> None:
        # mitmproxy's helper is create_task with a reference kept; there is no group to join here.
        self._owner = asyncio_utils.create_task(self._own(), name="entrepot", keep_ref=True)

    async def _own(self) -> None:
        try:
            async with self._opened() as addon:
                self._addon = addon
                await self._stop.wait()
        except Exception:
            logger.exception("the registry cache could not be started")
            ctx.master.shutdown()
        finally:
            self._addon = None

    async def done(self) -> None:
        self._stop.set()
        if self._owner is not None:
            await asyncio.wait([self._owner])

    def next_layer(self, data: layer.NextLayer) -> None:
        if self._addon is not None:
            self._addon.next_layer(data)
        else:
            del data.context.layers[1:]
            data.layer = _Refusal(data.context)

    def tls_start_client(self, data: tls.TlsData) -> None:
        if self._addon is not None:
            self._addon.tls_start_client(data)

    def tls_failed_client(self, data: tls.TlsData) -> None:
        if self._addon is not None:
            self._addon.tls_failed_client(data)

    async def entrepot_judge(self, destination: Destination) -> None:
        if self._addon is not None:
            await self._addon.entrepot_judge(destination)

    async def entrepot_exchange(self, exchange: ClientExchange) -> None:
        if self._addon is not None:
            await self._addon.entrepot_exchange(exchange)


class _Refusal(layer.Layer):
    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, events.Start):
            yield commands.CloseConnection(self.context.client)
