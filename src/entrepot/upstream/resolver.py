"""Names to addresses, judged before anything is connected to them."""

import asyncio
import socket
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor

from aiohttp.abc import AbstractResolver, ResolveResult

from entrepot.upstream.address import AddressClass, is_forbidden, own_class
from entrepot.upstream.realm import Origin

# Lookups of a dead name server hang for seconds. Threads of their own, so that they keep nobody
# but each other waiting: the loop's shared ones also do the disk's work.
_THREADS = 8


class RefusedAddress(OSError):  # noqa: N818 - reads as what it says
    """All addresses of the name are such as may not be connected to."""


class SystemResolver(AbstractResolver):
    """The system's: hosts file, search domains and all name servers."""

    def __init__(self, *, threads: int = _THREADS) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="resolver")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
        )
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=port,
                family=kind,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, _, protocol, _, address in found
        ]

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


class GuardedResolver(AbstractResolver):
    """Judges every address but those of the registry's own endpoints and of the parent proxy, which
    the operator chose. In which classes the endpoints live is learned on the way.
    """

    def __init__(
        self, inner: AbstractResolver, *, own: Collection[Origin], proxies: Collection[Origin]
    ) -> None:
        self._inner = inner
        self._own = {(origin.host, origin.port) for origin in own}
        self._proxies = {(origin.host, origin.port) for origin in proxies}
        self.own_classes: set[AddressClass] = set()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        key = host.lower().rstrip("."), port
        if key in self._own:
            self.own_classes.update(own_class(result["host"]) for result in found)
            return found
        if key in self._proxies:
            return found
        allowed = [result for result in found if not is_forbidden(result["host"], self.own_classes)]
        if found and not allowed:
            raise RefusedAddress
        return allowed

    async def close(self) -> None:
        """The inner one is shared, and closed by its owner."""
