"""mitmproxy put together with the addons that the proxy needs, and no others."""

import asyncio
import logging
import os
import socket

from mitmproxy import ctx, exceptions, options
from mitmproxy.addons import core
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.log import LegacyLogEvents
from mitmproxy.master import Master
from mitmproxy.proxy.mode_servers import ServerInstance
from mitmproxy.proxy.mode_specs import ProxyMode

from entrepot.config.convert import parse_address
from entrepot.errors import ConfigError, system_reason
from entrepot.interception.addon import EntrepotAddon
from entrepot.interception.registry_mode import FORWARD, RegistryMode, spec_of

logger = logging.getLogger(__name__)


class ProxyMaster:
    """One process's listeners. `run` serves until `shutdown`. ConfigError where both are one."""

    def __init__(
        self, addon: EntrepotAddon, listen: str, registry_listen: str, *, idle_timeout_s: float
    ) -> None:
        self._listen = listen
        self._registry_listen = registry_listen
        self._server = Proxyserver()
        self._master = Master(options.Options(), asyncio.get_running_loop())
        _silence(self._master)
        self._master.addons.add(core.Core(), self._server, addon)
        host, port = parse_address(listen)
        try:
            self._master.options.update(
                listen_host=host,
                listen_port=port,
                mode=[FORWARD, *([spec_of(registry_listen)] if registry_listen else [])],
                tcp_timeout=max(1, int(idle_timeout_s)),
            )
        except exceptions.OptionsError:
            raise ConfigError(f"listen and registry_listen are both {listen}") from None

    async def listen(self) -> None:
        if not await self._server.setup_servers():
            failed = [server for server in self._server.servers if server.last_exception]
            problems = [self._problem(server) for server in failed]
            await self.stop_listening()
            raise ConfigError("; ".join(problems))

    def _problem(self, server: ServerInstance[ProxyMode]) -> str:
        reason = _bind_problem(server.last_exception)
        if isinstance(server.mode, RegistryMode):
            return _registry_problem(self._registry_listen, reason)
        return f"cannot listen on {self._listen} (--listen, or the setting listen): {reason}"

    async def run(self) -> None:
        await self._master.run()

    def shutdown(self) -> None:
        self._master.shutdown()

    async def stop_listening(self) -> None:
        await self._server.servers.update([])


def _silence(master: Master) -> None:
    """Addons are told of each line in the log by mitmproxy, and the loop is woken for it. None of
    ours wants to know.
    """
    root = logging.getLogger()
    for handler in list(root.handlers):
        if isinstance(handler, LegacyLogEvents) and handler.master is master:
            root.removeHandler(handler)


async def listen_for_registries(address: str) -> None:
    """In a mitmproxy that others run: as one more of its modes."""
    server = ctx.master.addons.get("proxyserver")
    assert isinstance(server, Proxyserver)
    spec = spec_of(address)
    try:
        ctx.options.update(mode=[*ctx.options.mode, spec])
    except exceptions.OptionsError:
        raise ConfigError(_registry_problem(address, "mitmproxy itself listens there")) from None
    # The option has its servers started by a task of its own; this waits for that, or does it.
    await server.setup_servers()
    problem = server.servers[spec].last_exception
    if problem is not None:
        raise ConfigError(_registry_problem(address, _bind_problem(problem)))


def _registry_problem(address: str, reason: str) -> str:
    return (
        f"cannot listen on {address} (--registry-listen, or the setting registry_listen): {reason}"
    )


def _bind_problem(error: Exception | None) -> str:
    """Without mitmproxy's advice, which is on options of its own."""
    cause = error.__cause__ if error else None
    if isinstance(cause, socket.gaierror):
        return "its name cannot be resolved"
    if isinstance(cause, OSError) and cause.errno:
        os_error = OSError(cause.errno, os.strerror(cause.errno))  # the text holds the address
        reason = system_reason(os_error)
        if isinstance(os_error, PermissionError):
            reason += "; ports below 1024 take the capability CAP_NET_BIND_SERVICE"
        return reason
    return "this machine has no such address"  # asyncio's, without a number
