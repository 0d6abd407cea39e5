"""The proxy itself, as its users start it."""

import asyncio
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.peers.server import Server
from bench.upstream import Upstream
from tests.support.client import ProxyClient
from tests.support.pki import TestAuthority
from tests.support.processes import Seat
from tests.support.proxy import ProxyProcess

REGISTRY = "registry.test"


@contextmanager
def entrepot(  # noqa: PLR0913 - where, before what, and how
    directory: Path,
    upstream: Upstream,
    authority: TestAuthority,
    *,
    seat: Seat,
    name: str,
    ca: Path,
    settings: Mapping[str, Any] | None = None,
) -> Iterator[Server]:
    config = {
        "registries": {
            REGISTRY: {"endpoints": [upstream.url], "ca_bundle": str(authority.ca_file)}
        },
        "ca": {"directory": str(ca)},
        "tags": {"ttl": "1h"},
        "auth": {"verdict_ttl": "1h"},
        "storage": {"max_size": "6GiB", "min_free": "1GiB"},
        "log": {"level": "warning"},
        **(settings or {}),
    }
    with ProxyProcess(config, directory, seat=seat) as proxy:
        trust = directory / "trust.pem"
        trust.write_text(proxy.ca_pem() + authority.pem)
        headers = (f"Authorization: Bearer {_token(proxy)}",)
        address = f"{proxy.address[0]}:{proxy.address[1]}"
        yield Server(name, REGISTRY, trust, proxy.pid, address, headers)


def _token(proxy: ProxyProcess) -> str:
    """An anonymous client's, which it would ask for once."""
    client = ProxyClient(proxy.address, ssl.create_default_context(cadata=proxy.ca_pem()))

    async def ask() -> str:
        challenge = (await client.request("GET", f"https://{REGISTRY}/v2/")).challenge
        return await client.token(challenge)

    with proxy.seat.entered():
        return asyncio.run(ask())
