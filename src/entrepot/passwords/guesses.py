"""Who guesses passwords is slowed down, by the address that the guesses come from.

In this process's memory: a restart forgets, and other nodes count for themselves.
"""

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from entrepot.clock import Clock
from entrepot.errors import TooManyGuesses
from entrepot.passwords.failures import FailureLog
from entrepot.passwords.remembered import digest
from entrepot.passwords.users import Users

type Sleep = Callable[[float], Awaitable[object]]

# People mistype, and old passwords stay in configurations: an address may be many hosts'.
_FREE = 5
_PAUSE_MAX_S = 8.0  # clients give up after some more: Go's after ten for a TLS handshake
_FORGOTTEN_S = 900.0
_QUEUE_MAX = 3  # of those that have to wait
_CROWD_MAX = 64  # while there is nothing to wait for
# An address that has many of them can push its own count out: that takes as many wrong ones.
_ORIGINS_MAX = 10_000
_RIGHT_MAX = 10_000


@dataclass(frozen=True, slots=True)
class GuessStatistics:
    wrong: int
    refused: int  # not looked at


@dataclass(slots=True, eq=False)
class _Attempt:
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    is_right: bool | None = None  # as long as it is not known, and where it never was


@dataclass(slots=True, eq=False)
class _Origin:
    """What came from an address. Of those under way each stands for all that bring the same."""

    wrong: int = 0
    last_wrong_s: float = float("-inf")
    attempts: dict[tuple[Users, bytes], _Attempt] = field(default_factory=dict)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def pause_s(self, now: float) -> float:
        if self.wrong < _FREE:
            return 0
        pause = min(2.0 ** min(self.wrong - _FREE, 10), _PAUSE_MAX_S)
        return min(max(self.last_wrong_s + pause - now, 0), _PAUSE_MAX_S)


class Guesses:
    def __init__(self, clock: Clock, *, sleep: Sleep = asyncio.sleep) -> None:
        self._clock = clock
        self._sleep = sleep
        self._secret = secrets.token_bytes(32)
        self._origins: OrderedDict[str, _Origin] = OrderedDict()
        self._right: OrderedDict[tuple[str, bytes], None] = OrderedDict()  # from where, and what
        self._log = FailureLog(clock.now)
        self._wrong = self._refused = 0

    def statistics(self) -> GuessStatistics:
        return GuessStatistics(self._wrong, self._refused)

    def is_known(self, users: Users, client: str, user: str, password: str) -> bool:
        """At once. While an address guesses, only of what was right from there before: else who
        does not wait for an answer would have all tried out, and be told of the right one.
        """
        name, mark = network_of(client), digest(self._secret, user, password)
        if (name, mark) not in self._right and not self._is_quiet(name):
            return False
        if not users.remembers(user, password):
            return False
        self._note(name, mark)
        return True

    async def check(self, users: Users, client: str, user: str, password: str) -> bool:
        """TooManyGuesses for what is not looked at. What is known never waits."""
        if self.is_known(users, client, user, password):
            return True
        name = network_of(client)
        origin = self._origin(name)
        key = users, digest(self._secret, user, password)
        while (other := origin.attempts.get(key)) is not None:
            await other.ended.wait()
            if other.is_right is not None:
                return other.is_right
        if len(origin.attempts) >= (_QUEUE_MAX if origin.wrong >= _FREE else _CROWD_MAX):
            raise self._refusal()
        attempt = origin.attempts[key] = _Attempt()
        try:
            attempt.is_right = await self._try(origin, users, client, (user, password))
            if attempt.is_right:
                self._note(name, key[1])
            return attempt.is_right
        finally:
            del origin.attempts[key]
            attempt.ended.set()
            if not origin.wrong and not origin.attempts:
                self._origins.pop(name, None)

    async def _try(self, origin: _Origin, users: Users, client: str, pair: tuple[str, str]) -> bool:
        async with origin.turn:
            if users.remembers(*pair):  # found right while this one waited
                return True
            if origin.wrong >= _FREE and len(origin.attempts) > _QUEUE_MAX:
                raise self._refusal()  # of a crowd that came when nothing had gone wrong yet
            if pause := origin.pause_s(self._clock.now()):
                await self._sleep(pause)
            is_right = False
            try:
                is_right = await users.knows(*pair)
            finally:
                # Also where the client has left: it would guess in pieces.
                if not is_right:
                    origin.wrong += 1
                    origin.last_wrong_s = self._clock.now()
        if not is_right:
            self._wrong += 1
            self._log.wrong(client, pair[0], origin.wrong)
        return is_right

    def _is_quiet(self, name: str) -> bool:
        origin = self._origins.get(name)
        if origin is None:
            return True
        is_over = self._clock.now() > origin.last_wrong_s + _FORGOTTEN_S
        return not origin.attempts and (origin.wrong < _FREE or is_over)

    def _note(self, name: str, mark: bytes) -> None:
        self._right[name, mark] = None
        self._right.move_to_end((name, mark))
        if len(self._right) > _RIGHT_MAX:
            self._right.popitem(last=False)

    def _origin(self, name: str) -> _Origin:
        origin = self._origins.get(name)
        if origin is None:
            self._make_room()
            origin = self._origins[name] = _Origin()
        elif self._clock.now() > origin.last_wrong_s + _FORGOTTEN_S:
            origin.wrong = 0
        self._origins.move_to_end(name)
        return origin

    def _make_room(self) -> None:
        if len(self._origins) < _ORIGINS_MAX:
            return
        idle = next((name for name, one in self._origins.items() if not one.attempts), None)
        if idle is None:
            raise self._refusal()
        del self._origins[idle]

    def _refusal(self) -> TooManyGuesses:
        self._refused += 1
        self._log.refused()
        return TooManyGuesses(_PAUSE_MAX_S)


def network_of(client: str) -> str:
    """What counts as one: an IPv6 host has a whole /64 to choose its addresses from."""
    try:
        address: IPv4Address | IPv6Address = ip_address(client.partition("%")[0])
    except ValueError:
        return client
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is None:
            return str(ip_network((address, 64), strict=False))
        address = address.ipv4_mapped
    return str(address)
