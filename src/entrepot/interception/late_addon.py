"""The addon for `mitmdump -s`: made when mitmproxy's loop runs, closed when it is done.

Until it is there, connections are refused: what mitmproxy does with a connection that nobody
claims (forward it) must never be what happens to ours.
"""

import asyncio
import logging
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from mitmproxy import ctx, tls
from mitmproxy.proxy import layer
from mitmproxy.utils import asyncio_utils

from entrepot.errors import ConfigError, EntrepotError
from entrepot.interception.addon import EntrepotAddon
from entrepot.interception.front_layer import ClosedLayer, Destination, Login
from entrepot.interception.http_layer import ClientExchange
from entrepot.interception.master import listen_for_registries
from entrepot.interception.tunnel_layer import Pace

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
            _check_options()
            async with self._opened() as addon:
                if not ctx.options.has_changed("tcp_timeout"):
                    ctx.options.update(tcp_timeout=addon.idle_timeout_s)
                self._addon = addon
                if addon.registry_listen:
                    await listen_for_registries(addon.registry_listen)
                await self._stop.wait()
        except EntrepotError as error:
            logger.error("the registry cache cannot run: %s", error)  # noqa: TRY400 - told in full
            _exit()
        except Exception:
            logger.exception("the registry cache has failed")
            _exit()
        finally:
            self._addon = None

    # A coroutine, which mitmproxy refuses to call when it unloads or reloads a script: so a script
    # that is edited or deleted under a running mitmproxy does not leave clients uncached.
    async def done(self) -> None:
        self._stop.set()
        if self._owner is not None:
            await asyncio.wait([self._owner])

    def next_layer(self, data: layer.NextLayer) -> None:
        if self._addon is not None:
            self._addon.next_layer(data)
        else:
            del data.context.layers[1:]
            data.layer = ClosedLayer(data.context)

    def tls_start_client(self, data: tls.TlsData) -> None:
        if self._addon is not None:
            self._addon.tls_start_client(data)

    def tls_failed_client(self, data: tls.TlsData) -> None:
        if self._addon is not None:
            self._addon.tls_failed_client(data)

    async def entrepot_judge(self, destination: Destination) -> None:
        if self._addon is not None:
            await self._addon.entrepot_judge(destination)

    async def entrepot_login(self, login: Login) -> None:
        if self._addon is not None:
            await self._addon.entrepot_login(login)

    def entrepot_pace(self, pace: Pace) -> None:
        if self._addon is not None:
            self._addon.entrepot_pace(pace)

    async def entrepot_exchange(self, exchange: ClientExchange) -> None:
        if self._addon is not None:
            await self._addon.entrepot_exchange(exchange)


def _check_options() -> None:
    if getattr(ctx.options, "proxyauth", None):
        raise ConfigError("proxyauth would not be asked for: our connections pass it by")


def _exit() -> None:
    """As mitmproxy ends when something fails at its start. From a task it would go on to report an
    unhandled error.
    """
    asyncio.get_running_loop().call_soon(sys.exit, 1)
