"""Pushes to Debian's registry: kept for the first pull, and no word of where it really is."""

import asyncio
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.integration.conftest import Setting
from tests.integration.test_push import CHUNKED, Pusher, chunk
from tests.integration.waiting import eventually
from tests.support.client import Answer, ProxyClient
from tests.support.content import Given
from tests.support.distribution import Distribution, is_installed
from tests.support.images import build_image
from tests.support.pki import TestAuthority

pytestmark = pytest.mark.skipif(not is_installed(), reason="needs docker-registry and htpasswd")
BLOB_GETS = re.compile(r'"GET /v2/\S+/blobs/(sha\S+) HTTP')


@pytest.fixture
def upstream(authority: TestAuthority, setting: Setting, tmp_path: Path) -> Iterator[Distribution]:
    directory = tmp_path / "distribution"
    with Distribution(directory, certificate=authority.issue("127.0.0.1")) as registry:
        setting.upstream |= {"endpoints": [registry.url], "push": "allow"}
        yield registry


async def until(holds: Callable[[], bool]) -> None:
    await eventually(lambda: asyncio.to_thread(holds), lambda held: held)


class Step:
    """Requests of one upload, each to where the answer before it said."""

    def __init__(self, setting: Setting, client: ProxyClient) -> None:
        self._url = setting.url
        self._client = client
        self.place = f"{setting.url}/v2/app/blobs/uploads/"

    async def __call__(
        self, method: str, headers: dict[str, str] | None = None, body: bytes = b"", query: str = ""
    ) -> Answer:
        url = self.place
        if query:
            url += ("&" if "?" in url else "?") + query
        answer = await self._client.request(method, url, headers, body)
        if "location" in answer.headers:
            self.place = answer.headers["location"]
            place = urlsplit(self.place)
            assert f"{place.scheme}://{place.netloc}" == self._url
        return answer


async def test_a_pull_after_the_push_asks_for_no_layer(
    setting: Setting, upstream: Distribution
) -> None:
    image = build_image([200_000, 3_000_000], seed=3)
    client = setting.start()
    await Pusher(client, f"{setting.url}/v2/app").push(image, "1.0")
    assert (await client.pull(setting.url, "app", "1.0")).digest == image.digest
    assert BLOB_GETS.findall(upstream.log) == []


async def test_unless_nothing_is_to_be_kept(setting: Setting, upstream: Distribution) -> None:
    setting.config["storage"]["keep_pushes"] = False
    image = build_image([200_000], seed=3)
    client = setting.start()
    await Pusher(client, f"{setting.url}/v2/app").push(image, "1.0")
    assert (await client.pull(setting.url, "app", "1.0")).digest == image.digest
    assert len(BLOB_GETS.findall(upstream.log)) == 2


async def test_in_chunks_with_a_look_between(setting: Setting, upstream: Distribution) -> None:
    content = Given(bytes(range(256)) * 4000)
    half = content.size // 2
    step = Step(setting, client := setting.start())
    begun = await step("POST")
    assert (begun.status, begun.headers["range"]) == (202, "0-0")
    assert begun.headers["docker-upload-uuid"]
    spans = [(0, half), (half, content.size)]
    for start, stop in spans:
        headers = {"Content-Range": f"{start}-{stop - 1}"}
        answer = await step("PATCH", headers, content.body[start:stop])
        assert (answer.status, answer.headers["range"]) == (202, f"0-{stop - 1}")
        look = await step("GET")
        assert (look.status, look.headers["range"]) == (204, f"0-{stop - 1}")
    ended = await step("PUT", query=f"digest={content.digest}")
    assert (ended.status, ended.headers["docker-content-digest"]) == (201, content.digest)
    answer = await client.request("GET", f"{setting.url}/v2/app/blobs/{content.digest}")
    assert answer.body == content.body
    assert BLOB_GETS.findall(upstream.log) == []


async def test_a_cancelled_one_is_gone(setting: Setting, upstream: Distribution) -> None:
    step = Step(setting, setting.start())
    await step("POST")
    await step("PATCH", CHUNKED, chunk(bytes(5000)) + b"0\r\n\r\n")
    assert (await step("DELETE")).status == 204
    assert (await step("GET")).status == 404


async def test_a_mount_and_one_that_cannot_be(setting: Setting, upstream: Distribution) -> None:
    content = build_image([100_000], seed=9).blobs[1]
    client = setting.start()
    base = Pusher(client, f"{setting.url}/v2/base")
    await base.push_blob(content)
    url = f"{setting.url}/v2/app/blobs/uploads/?mount={content.digest}&from="
    assert (await client.request("POST", f"{url}none")).status == 202
    assert (await client.request("POST", f"{url}base")).status == 201
    answer = await client.request("GET", f"{setting.url}/v2/app/blobs/{content.digest}")
    assert len(answer.body) == content.size
    assert BLOB_GETS.findall(upstream.log) == []


async def test_a_client_that_leaves_ends_it_there_too(
    setting: Setting, upstream: Distribution, tmp_path: Path
) -> None:
    content = Given(bytes(range(256)) * 8000)
    step = Step(setting, client := setting.start())
    await step("POST")
    place = urlsplit(step.place)
    (data,) = (tmp_path / "distribution").rglob("_uploads/*/data")
    async with await client.connect("registry.test") as connection:
        target = f"{place.path}?{place.query}"
        await connection.send("PATCH", target, CHUNKED, chunk(content.body[:500_000]))
        await until(lambda: data.stat().st_size > 300_000)
    await until(lambda: '"PATCH /v2/app' in upstream.log)
    fills = setting.proxy.data / "cache" / "fills"
    await until(lambda: not list(fills.iterdir()))
    await Pusher(client, f"{setting.url}/v2/app").push_blob(content)
    answer = await client.request("GET", f"{setting.url}/v2/app/blobs/{content.digest}")
    assert answer.body == content.body


async def test_killed_in_the_middle_nothing_is_wrong(
    setting: Setting, upstream: Distribution
) -> None:
    content = Given(bytes(range(256)) * 20_000)
    step = Step(setting, client := setting.start())
    await step("POST")
    place = urlsplit(step.place)
    async with await client.connect("registry.test") as connection:
        await connection.send(
            "PATCH", f"{place.path}?{place.query}", CHUNKED, chunk(content.body[:4_000_000])
        )
        fills = setting.proxy.data / "cache" / "fills"
        # One write is sure: what comes during it is written with what comes next.
        await until(lambda: sum(part.stat().st_size for part in fills.iterdir()) >= 1 << 20)
        setting.proxy.kill9()
    setting.proxy.start()
    client = setting.client
    url = f"{setting.url}/v2/app/blobs/{content.digest}"
    assert (await client.request("GET", url)).status == 404
    await Pusher(client, f"{setting.url}/v2/app").push_blob(content)
    assert (await client.request("GET", url)).body == content.body
