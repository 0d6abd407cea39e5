import asyncio
import socket
from collections.abc import Sequence

import pytest

from entrepot.config.kinds import Seconds
from entrepot.config.model import Tunnel
from entrepot.interception.tunnel import (
    Allowed,
    Judgement,
    Ourselves,
    Refused,
    TunnelPolicy,
    resolve_by,
)
from entrepot.upstream.resolver import SystemResolver

OWN_PORT = 3128
PUBLIC, PRIVATE, SIX = "203.0.113.7", "10.0.0.5", "2001:db8::5"


class Names:
    """A resolver that knows these names, and remembers what it was asked."""

    def __init__(self, **known: Sequence[str]) -> None:
        self._known = {name.replace("_", "."): found for name, found in known.items()}
        self.asked: list[str] = []

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        if host not in self._known:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return self._known[host]


def policy(settings: Tunnel | None = None, names: Names | None = None) -> TunnelPolicy:
    names = names or Names(
        other_test=[PUBLIC],
        denied_test=[PUBLIC],
        sub_denied_test=[PUBLIC],
        rebound_test=["127.0.0.1"],
        mixed_test=["127.0.0.1", SIX, "169.254.169.254", PUBLIC],
        proxy_test=["127.0.0.1"],
        nowhere_test=[],
    )
    return TunnelPolicy(
        settings or Tunnel(),
        own_names={"proxy.test", "localhost"},
        own_ports=lambda: frozenset({OWN_PORT}),
        resolve=names.resolve,
    )


async def judge(host: str, port: int = 443, settings: Tunnel | None = None) -> Judgement:
    return await policy(settings).judge(host, port)


async def status(host: str, port: int = 443, settings: Tunnel | None = None) -> int:
    """200 for what may be connected to."""
    match await judge(host, port, settings):
        case Refused(status=status):
            return status
        case Allowed():
            return 200
        case Ourselves():
            return 421


async def test_the_addresses_that_were_judged_are_connected_to() -> None:
    assert await judge("other.test") == Allowed(((PUBLIC, 443),))


@pytest.mark.parametrize("host", [PUBLIC, PRIVATE, SIX])
async def test_addresses_need_no_resolver(host: str) -> None:
    names = Names()
    assert await policy(names=names).judge(host, 443) == Allowed(((host, 443),))
    assert names.asked == []


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "127.0.0.1.",
     "0.0.0.0", "0", "::1", "::", "::ffff:127.0.0.1", "::ffff:7f00:1", "::127.0.0.1",
     "64:ff9b::7f00:1", "2002:7f00:1::", "169.254.0.1", "169.254.169.254", "2852039166",
     "0xa9fea9fe", "::ffff:169.254.169.254", "fd00:ec2::254", "fe80::1", "fe80::1%lo",
     "100.100.100.200", "168.63.129.16", "224.0.0.1", "255.255.255.255", "ff02::1"],
)  # fmt: skip
async def test_addresses_that_are_never_connected_to(host: str) -> None:
    assert await status(host) == 403
    assert await status(host, 443, Tunnel(policy="deny", hosts=(host, "*"))) == 403


class TestResolvedNames:
    async def test_what_a_name_leads_to_is_judged(self) -> None:
        assert await status("rebound.test") == 403

    async def test_of_a_mix_what_may_be_connected_to_is(self) -> None:
        assert await judge("mixed.test") == Allowed(((SIX, 443), (PUBLIC, 443)))

    async def test_unknown_names(self) -> None:
        assert await status("unknown.test") == 502

    async def test_names_without_addresses(self) -> None:
        assert await status("nowhere.test") == 403

    async def test_names_that_cannot_be_asked_for(self) -> None:
        resolver = SystemResolver()
        judged = await TunnelPolicy(
            Tunnel(), own_names=(), own_ports=frozenset, resolve=resolve_by(resolver)
        ).judge("a" * 64 + ".test", 443)
        assert judged == Refused(502, "a" * 64 + ".test: no such host")
        await resolver.close()

    async def test_names_that_nobody_answers_for(self) -> None:
        async def never(_host: str, _port: int) -> Sequence[str]:
            await asyncio.Event().wait()
            raise AssertionError

        settings = Tunnel(connect_timeout=Seconds(0.01))
        judged = await TunnelPolicy(
            settings, own_names=(), own_ports=frozenset, resolve=never
        ).judge("slow.test", 443)
        assert isinstance(judged, Refused)
        assert judged.status == 504


PORTS = Tunnel(ports=(443,))
DENY_SOME = Tunnel(hosts=("denied.test", "*.denied.test", PRIVATE, "2001:DB8:0::5"))
ALLOW_SOME = Tunnel(policy="deny", hosts=("other.test", "*.denied.test"))


@pytest.mark.parametrize(
    ("settings", "host", "port", "expected"),
    [
        (PORTS, "other.test", 443, 200),
        (PORTS, "other.test", 80, 403),
        (PORTS, "unknown.test", 22, 403),
        (DENY_SOME, "other.test", 443, 200),
        (DENY_SOME, "denied.test", 443, 403),
        (DENY_SOME, "sub.denied.test", 443, 403),
        (DENY_SOME, PRIVATE, 443, 403),
        (DENY_SOME, "10.5", 443, 403),
        (DENY_SOME, "0x0a000005", 443, 403),
        (DENY_SOME, f"::ffff:{PRIVATE}", 443, 403),
        (DENY_SOME, SIX, 443, 403),
        (DENY_SOME, PUBLIC, 443, 200),
        (ALLOW_SOME, "other.test", 443, 200),
        (ALLOW_SOME, "sub.denied.test", 443, 200),
        (ALLOW_SOME, "denied.test", 443, 403),
        (ALLOW_SOME, "unknown.test", 443, 403),
        (ALLOW_SOME, PUBLIC, 443, 403),
    ],
)
async def test_lists(settings: Tunnel, host: str, port: int, expected: int) -> None:
    assert await status(host, port, settings) == expected


async def test_what_is_denied_by_name_is_not_asked_for() -> None:
    names = Names(denied_test=[PUBLIC])
    await policy(DENY_SOME, names).judge("denied.test", 443)
    assert names.asked == []


class TestOurselves:
    @pytest.mark.parametrize(
        "host", ["proxy.test", "localhost", "127.0.0.1", "127.1", "::1", "0.0.0.0", "rebound.test"]
    )
    async def test_own_names_and_addresses_on_an_own_port(self, host: str) -> None:
        assert await judge(host, OWN_PORT) == Ourselves()
        assert await judge(host, OWN_PORT, Tunnel(policy="deny")) == Ourselves()

    async def test_on_other_ports_they_are_as_any(self) -> None:
        assert await status("proxy.test") == 403
        assert await status("localhost", 443) == 502

    async def test_others_on_a_port_like_ours(self) -> None:
        assert await status("other.test", OWN_PORT) == 403
        assert await status("other.test", OWN_PORT, Tunnel(ports=(OWN_PORT,))) == 200
        assert await status("unknown.test", OWN_PORT) == 502


class TestBehind:
    """What is reached through this proxy as a registry is not reached past its checks."""

    @pytest.mark.parametrize(
        ("host", "port", "expected"),
        [
            ("hidden.test", 5000, 403),
            ("alias.test", 5000, 403),
            (PRIVATE, 5000, 403),
            (f"::ffff:{PRIVATE}", 5000, 403),
            ("0x0a000005", 5000, 403),
            ("hidden.test", 443, 200),
            ("other.test", 5000, 200),
        ],
    )
    async def test_is_not_connected_to(self, host: str, port: int, expected: int) -> None:
        names = Names(hidden_test=[PRIVATE], alias_test=[PRIVATE], other_test=[PUBLIC])
        judged = await TunnelPolicy(
            Tunnel(),
            own_names=(),
            own_ports=frozenset,
            behind=[("hidden.test", 5000)],
            resolve=names.resolve,
        ).judge(host, port)
        assert isinstance(judged, Allowed) == (expected == 200)
        if isinstance(judged, Refused):
            assert judged.status == expected

    async def test_nor_while_nobody_says_where_that_is(self) -> None:
        async def resolve(host: str, _port: int) -> Sequence[str]:
            if host == "hidden.test":
                await asyncio.Event().wait()
            return [PRIVATE]

        judged = await TunnelPolicy(
            Tunnel(connect_timeout=Seconds(0.01)),
            own_names=(),
            own_ports=frozenset,
            behind=[("hidden.test", 5000)],
            resolve=resolve,
        ).judge("alias.test", 5000)
        assert isinstance(judged, Refused)


async def test_the_system_knows_its_own_names() -> None:
    resolver = SystemResolver()
    assert "127.0.0.1" in await resolve_by(resolver)("localhost", 443)
    await resolver.close()
