"""Blobs for tests of fills: one that is right, and ones that are not what they are called."""

import asyncio
import itertools
import random

from tests.integration.conftest import Setting
from tests.support.client import Answer, ProxyClient
from tests.support.content import Given

BLOBS = "/v2/*/blobs/*"
_seeds = itertools.count()
# How a transfer ends that is not whole: before its length, before its last chunk, or by a reset.
BROKEN = (asyncio.IncompleteReadError, ConnectionError)


def make_blob(size: int = 2_000_000) -> Given:
    """Another one each time."""
    return Given(random.Random(next(_seeds)).randbytes(size))


def misnamed(body: bytes, digest: str) -> Given:
    """Other bytes than the digest says."""
    content = Given(body)
    object.__setattr__(content, "digest", digest)
    return content


class Layer:
    """A blob of the repository `app`, as it is asked for through the proxy."""

    def __init__(self, setting: Setting, content: Given) -> None:
        self._setting = setting
        self.content = content
        setting.registry.add_blob("app", content)
        self.path = f"/v2/app/blobs/{content.digest}"
        self.url = setting.url + self.path

    async def get(self, client: ProxyClient, byte_range: str = "") -> Answer:
        headers = {"Range": f"bytes={byte_range}"} if byte_range else {}
        return await client.request("GET", self.url, headers)

    @property
    def ranges(self) -> list[str]:
        """Of the GETs that reached the upstream, in their order; empty for the whole."""
        entries = self._setting.registry.log.find(self.path, method="GET")
        return [entry.headers.get("range", "") for entry in entries]

    @property
    def heads(self) -> int:
        return self._setting.registry.log.count(self.path, method="HEAD")

    @property
    def upstream_bytes(self) -> int:
        entries = self._setting.registry.log.find(self.path)
        return sum(entry.sent_bytes for entry in entries)


def new_layer(setting: Setting, size: int) -> Layer:
    return Layer(setting, make_blob(size))
