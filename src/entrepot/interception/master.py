"""mitmproxy put together with the addons that the proxy needs, and no others."""

import asyncio
import logging
import os
import socket

from mitmproxy import options
from mitmproxy.addons import core
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.master import Master

from entrepot.errors import ConfigError, system_reason
from entrepot.interception.addon import EntrepotAddon

logger = logging.getLogger(__name__)


class ProxyMaster:
    """One process's listeners. `run` serves until `shutdown`."""

    def __init__(
        self, addon: EntrepotAddon, host: str, port: int, *, idle_timeout_s: float
    ) -> None:
        self._address = f"{host or '*'}:{port}"
        self._server = Proxyserver()
        self._master = Master(options.Options(), asyncio.get_running_loop())
        self._master.addons.add(core.Core(), self._server, addon)
        self._master.options.update(
            listen_host=host,
            listen_port=port,
            mode=["regular"],
            tcp_timeout=max(1, int(idle_timeout_s)),
        )

    async def listen(self) -> None:
        if not await self._server.setup_servers():
            reasons = {_reason(server.last_exception) for server in self._server.servers}
            raise ConfigError(
                f"cannot listen on {self._address} (--listen, or the setting listen):"
                f" {'; '.join(sorted(reasons))}"
            )

    async def run(self) -> None:
        await self._master.run()

    def shutdown(self) -> None:
        self._master.shutdown()

    async def stop_listening(self) -> None:
        await self._server.servers.update([])


def _reason(error: Exception | None) -> str:
    """Without mitmproxy's advice, which is on options of its own."""
    cause = error.__cause__ if error else None
    if isinstance(cause, socket.gaierror):
        return "its name cannot be resolved"
    if isinstance(cause, OSError) and cause.errno:
        os_error = OSError(cause.errno, os.strerror(cause.errno))  # the text holds the address
        return system_reason(os_error)
    return "this machine has no such address"  # asyncio's, without a number
