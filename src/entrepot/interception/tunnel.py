"""Where may be tunnelled: judged on the addresses that are then connected to. Fails closed."""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from aiohttp.abc import AbstractResolver

from entrepot.config.model import Tunnel
from entrepot.interception.hidden import Hidden, is_of_this_machine
from entrepot.upstream.address import is_forbidden, parse_literal

type Address = tuple[str, int]
type Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


@dataclass(frozen=True, slots=True)
class Allowed:
    addresses: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    status: int
    message: str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ourselves:
    """The address is one of this proxy's own: to be answered, and never connected to."""


Judgement = Allowed | Refused | Ourselves


class TunnelPolicy:
    def __init__(  # noqa: PLR0913 - what tells where the proxy itself is comes from all over
        self,
        settings: Tunnel,
        *,
        own_names: Iterable[str],
        own_ports: Callable[[], frozenset[int]],
        registry_ports: Callable[[], frozenset[int]] = frozenset,
        behind: Iterable[Address] = (),
        resolve: Resolve,
    ) -> None:
        """`behind`: what is to be reached through this proxy as a registry, and not past that."""
        self._settings = settings
        self._exceptions = [_canonical(pattern) for pattern in settings.hosts]
        self._own_names = frozenset(own_names)
        self._own_ports = own_ports
        self._registry_ports = registry_ports
        self._resolve = resolve
        self._hidden = Hidden(behind, self._addresses)

    async def judge(self, host: str, port: int) -> Judgement:
        is_own_port = port in self._own_ports()
        if is_own_port and host in self._own_names:
            return Ourselves()
        if not is_own_port and (refusal := self._by_name(host, port)):
            return refusal
        try:
            async with asyncio.timeout(self._settings.connect_timeout):
                found = await self._addresses(host, port)
                hidden = await self._hidden.at(port)
        except TimeoutError:
            return Refused(504, f"{host}: its name server did not answer in time")
        except (OSError, UnicodeError):
            return Refused(502, f"{host}: no such host")
        if is_own_port and any(is_of_this_machine(address) for address in found):
            return Ourselves()
        if refusal := self._by_name(host, port):
            return refusal
        is_registry_port = port in self._registry_ports()
        allowed = tuple(
            (address, port)
            for address in found
            if not is_forbidden(address)
            and not hidden.includes(address)
            and not (is_registry_port and is_of_this_machine(address))
        )
        if not allowed:
            return Refused(403, f"{host} is an address that this proxy does not connect to")
        return Allowed(allowed)

    def _by_name(self, host: str, port: int) -> Refused | None:
        if port not in self._settings.ports:
            return Refused(403, f"port {port} is not among those this proxy connects to")
        name = _canonical(host)
        is_exception = any(fnmatchcase(name, pattern) for pattern in self._exceptions)
        if (self._settings.policy == "allow") == is_exception:
            return Refused(403, f"{host} is not a host that this proxy connects to")
        return None

    async def _addresses(self, host: str, port: int) -> Sequence[str]:
        literal = parse_literal(host)
        return [str(literal)] if literal else await self._resolve(host, port)


def _canonical(host: str) -> str:
    """A denied address is denied however it is spelled: 10.0.0.5 as 10.5, 0x0a000005 or mapped."""
    literal = parse_literal(host)
    if literal is None:
        return host
    mapped = literal.ipv4_mapped if isinstance(literal, ipaddress.IPv6Address) else None
    return str(mapped or literal)


def resolve_by(resolver: AbstractResolver) -> Resolve:
    """All addresses, IPv6 and IPv4 in the resolver's order of preference."""

    async def resolve(host: str, port: int) -> Sequence[str]:
        found = await resolver.resolve(host, port, socket.AF_UNSPEC)
        return list(dict.fromkeys(result["host"] for result in found))

    return resolve
