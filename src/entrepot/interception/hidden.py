"""What stands behind this proxy and is asked by nobody else: the registries whose users it checks.

A tunnel there would lead past them. It is the address that counts, by whatever name a client comes
by it. Fails closed where a name server does not answer in time; where it knows of no such name,
what it said before holds.
"""

import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

from entrepot.upstream.address import unwrapped

type Find = Callable[[str, int], Awaitable[Sequence[str]]]


@dataclass(frozen=True, slots=True)
class HiddenAddresses:
    addresses: frozenset[str]
    is_machine: bool  # and with it all addresses that it has

    def includes(self, address: str) -> bool:
        if self.is_machine and is_of_this_machine(address):
            return True
        return _plain(address) in self.addresses


class Hidden:
    def __init__(self, places: Iterable[tuple[str, int]], find: Find) -> None:
        self._places = tuple(dict.fromkeys(places))
        self._find = find
        self._seen: dict[str, Sequence[str]] = {}

    async def at(self, port: int) -> HiddenAddresses:
        hosts = [host for host, its_port in self._places if its_port == port]
        found = [address for host in hosts for address in await self._addresses(host, port)]
        return HiddenAddresses(
            frozenset(map(_plain, found)), is_machine=any(map(is_of_this_machine, found))
        )

    async def _addresses(self, host: str, port: int) -> Sequence[str]:
        try:
            self._seen[host] = await self._find(host, port)
        except (OSError, UnicodeError) as error:
            if isinstance(error, TimeoutError):  # one of OSError's own
                raise
        return self._seen.get(host, ())


def is_of_this_machine(address: str) -> bool:
    """The kernel lets a socket be bound to no other."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True


def _plain(address: str) -> str:
    return str(unwrapped(address.partition("%")[0]))
