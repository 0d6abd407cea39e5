"""A process of the proxy from start to stop: signals, readiness, drain."""

import asyncio
import gc
import logging
import resource
import signal
from collections.abc import Callable
from dataclasses import replace

from entrepot.app import Proxy, open_proxy
from entrepot.config.convert import parse_address
from entrepot.config.model import Config
from entrepot.errors import ConfigError
from entrepot.interception.master import ProxyMaster
from entrepot.observability.journal import set_up_logging

logger = logging.getLogger(__name__)

_FILES = 65_536
# To the start of the process.
_BOUND = ("listen", "registry_listen", "data", "ca", "storage")


async def serve(config: Config, load: Callable[[], Config]) -> None:
    """Until SIGTERM or SIGINT. `load` reads the configuration again, on SIGHUP."""
    set_up_logging(config.log)
    _raise_file_limit()
    async with open_proxy(config) as proxy:
        master = ProxyMaster(
            proxy.addon,
            config.listen,
            config.registry_listen,
            idle_timeout_s=config.clients.idle_timeout,
        )
        await master.listen()
        spare_the_collector()
        _say_where(config)
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        loop.add_signal_handler(signal.SIGHUP, lambda: _reload(proxy, load))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_stop_when(stop, proxy, master))
            await master.run()


def spare_the_collector() -> None:
    """What is here now stays for good. To look through it in each full collection would take 40 ms,
    in which nobody is served.
    """
    gc.collect()
    gc.freeze()


def _say_where(config: Config) -> None:
    port = parse_address(config.listen)[1]
    logger.info("listening on %s, data in %s", config.listen, config.data)
    if config.registry_listen:
        names = ", ".join(config.local_registries)
        logger.info("serving %s over TLS on %s", names or "no registry", config.registry_listen)
    logger.info("how to point clients here is told on http://%s:%d/", config.hostname, port)


def _reload(proxy: Proxy, load: Callable[[], Config]) -> None:
    """What is bound to the start stays as it was: addresses, directories, the CA's place."""
    current = proxy.front.config
    try:
        fresh = load()
        config = replace(fresh, **{name: getattr(current, name) for name in _BOUND})
        for name in _BOUND:
            if getattr(fresh, name) != getattr(current, name):
                logger.warning("%s has changed: this takes a restart", name)
        proxy.reload(config)
    except ConfigError as error:
        logger.error("not reloaded, the old configuration holds: %s", error)  # noqa: TRY400 - told in full
        return
    set_up_logging(config.log)
    logger.info("configuration reloaded")


async def _stop_when(stop: asyncio.Event, proxy: Proxy, master: ProxyMaster) -> None:
    """No new connections, running transfers to their end or the end of patience, then out."""
    await stop.wait()
    proxy.is_draining = True
    logger.info("stopping: %d requests are being answered", proxy.exchanges)
    await master.stop_listening()
    try:
        async with asyncio.timeout(proxy.front.config.clients.drain):
            await proxy.wait_idle()
    except TimeoutError:
        logger.warning("%d transfers are broken off", proxy.exchanges)
    master.shutdown()


def _raise_file_limit() -> None:
    """Each client is a socket, each reader of a blob a file: the usual 1024 are soon gone."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
