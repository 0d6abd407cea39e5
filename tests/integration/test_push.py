"""Pushes: refused with a reason, or passed on as they come, and believed at once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

import pytest

from tests.integration.blobs import make_blob
from tests.integration.conftest import Setting
from tests.integration.identities import USERS, basic
from tests.support.client import Answer, Connection, ProxyClient
from tests.support.content import Content, sha256
from tests.support.images import Manifest, build_image
from tests.support.token_service import Auth

CHUNKED = {"Transfer-Encoding": "chunked", "Content-Type": "application/octet-stream"}


class Pusher:
    """As docker pushes: HEAD, chunked PATCH, PUT, HEAD again, and in the end the manifest."""

    def __init__(self, client: ProxyClient, base: str, authorization: str = "") -> None:
        self._client = client
        self._base = base
        self._headers = {"Authorization": authorization} if authorization else {}

    async def ask(
        self, method: str, url: str, headers: dict[str, str] | None = None, body: bytes = b""
    ) -> Answer:
        return await self._client.request(method, url, self._headers | (headers or {}), body)

    async def push(self, image: Manifest, tag: str) -> None:
        for blob in image.blobs:
            await self.push_blob(blob)
        url = f"{self._base}/manifests/{tag}"
        answer = await self.ask("PUT", url, {"Content-Type": image.media_type}, image.body)
        assert (answer.status, answer.headers["docker-content-digest"]) == (201, image.digest)

    async def push_blob(self, blob: Content) -> None:
        url = f"{self._base}/blobs/{blob.digest}"
        if (await self.ask("HEAD", url)).status == 200:
            return
        begun = await self.ask("POST", f"{self._base}/blobs/uploads/")
        assert begun.status == 202
        body = b"".join(chunk(piece) for piece in blob.chunks(0, blob.size)) + b"0\r\n\r\n"
        written = await self.ask("PATCH", self._location(begun), CHUNKED, body)
        assert (written.status, written.headers["range"]) == (202, f"0-{blob.size - 1}")
        location = self._location(written)
        separator = "&" if "?" in location else "?"
        ended = await self.ask("PUT", f"{location}{separator}digest={blob.digest}")
        assert (ended.status, ended.headers["docker-content-digest"]) == (201, blob.digest)
        assert (await self.ask("HEAD", url)).status == 200

    def _location(self, answer: Answer) -> str:
        """On the registry, by the name that the test knows it by."""
        base, location = urlsplit(self._base), urlsplit(answer.headers["location"])
        return location._replace(scheme=base.scheme, netloc=base.netloc).geturl()


def chunk(piece: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(piece), piece)


@pytest.fixture
def pushable(setting: Setting) -> Setting:
    setting.upstream["push"] = "allow"
    return setting


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_is_refused_by_default_with_the_reason(setting: Setting, method: str) -> None:
    client = setting.start()
    for path in ("manifests/1.0", "blobs/uploads/", f"blobs/{sha256(b'')}"):
        answer = await client.request(method, f"{setting.url}/v2/app/{path}", {}, b"body")
        assert answer.status == 405
        (error,) = answer.json()["errors"]
        assert error["code"] == "UNSUPPORTED"
        assert "push: deny" in error["message"]
    assert {entry.method for entry in setting.registry.log.entries} <= {"GET"}


async def test_what_is_pushed_is_pulled(pushable: Setting) -> None:
    image = build_image([100_000, 3_000_000], seed=3)
    client = pushable.start()
    await Pusher(client, f"{pushable.url}/v2/app").push(image, "1.0")
    assert (await client.pull(pushable.url, "app", "1.0")).digest == image.digest


async def test_a_push_is_seen_at_once_by_who_had_the_tag_or_missed_it(pushable: Setting) -> None:
    client = pushable.start()
    url = f"{pushable.url}/v2/app/manifests"
    pushable.registry.add_image("app", "1.0")
    assert (await client.request("GET", f"{url}/1.0")).status == 200
    assert (await client.request("GET", f"{url}/2.0")).status == 404
    image = build_image([50_000], seed=5)
    pusher = Pusher(client, f"{pushable.url}/v2/app")
    for tag in ("1.0", "2.0"):
        await pusher.push(image, tag)
        answer = await client.request("GET", f"{url}/{tag}")
        assert (answer.status, answer.body) == (200, image.body)


async def test_a_tag_that_was_deleted_is_gone_at_once(pushable: Setting) -> None:
    pushable.registry.add_image("app", "1.0")
    client = pushable.start()
    url = f"{pushable.url}/v2/app/manifests/1.0"
    assert (await client.request("GET", url)).status == 200
    assert (await client.request("DELETE", url)).status == 202
    assert (await client.request("GET", url)).status == 404


async def test_a_layer_that_only_the_cache_has_is_not_left_out(pushable: Setting) -> None:
    """A store that is shared by repositories must not tell a pusher that a layer exists."""
    image = pushable.registry.add_image("library/base", "1.0", (100_000,))
    client = pushable.start()
    await client.pull(pushable.url, "library/base", "1.0")
    await Pusher(client, f"{pushable.url}/v2/app").push(image, "1.0")
    assert (await client.pull(pushable.url, "app", "1.0")).digest == image.digest


@pytest.mark.parametrize("scheme", ["basic", "bearer"])
async def test_is_done_with_the_clients_own_rights(pushable: Setting, scheme: str) -> None:
    auth = Auth("basic" if scheme == "basic" else "bearer", USERS)
    pushable.registry.tokens.auth = auth
    pushable.registry.make_private("app", "alice")
    client = pushable.start()
    challenge = (await client.request("GET", f"{pushable.url}/v2/")).challenge
    challenge.parameters["scope"] = "repository:app:pull,push"

    async def push_as(user: str) -> None:
        token = await client.token(challenge, basic(user))
        pusher = Pusher(client, f"{pushable.url}/v2/app", f"Bearer {token}")
        await pusher.push(build_image([1000], seed=8), "1.0")

    with pytest.raises(AssertionError):
        await push_as("bob")
    await push_as("alice")


async def test_is_passed_on_as_it_comes(setting: Setting) -> None:
    """The upstream has the first part before the client has sent the second."""
    first, second = make_blob(300_000).body, make_blob(300_000).body
    async with upstream_that_takes(first) as (port, arrived, whole):
        setting.upstream |= {"push": "allow", "endpoints": [f"http://127.0.0.1:{port}"]}
        client = setting.start()
        async with await client.connect("registry.test") as connection:
            await connection.send("PATCH", "/v2/app/blobs/uploads/1", CHUNKED, chunk(first))
            async with asyncio.timeout(10):
                await arrived.wait()
            await connection.send_raw(chunk(second) + b"0\r\n\r\n")
            assert (await connection.answer()).status == 202
        assert whole == first + second


async def test_an_upstream_that_refuses_early_is_heard_by_who_still_sends(
    setting: Setting,
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        is_upload = head.startswith(b"PATCH")
        status = b"413 Content Too Large" if is_upload else b"200 OK"
        end = b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        writer.write(b"HTTP/1.1 " + status + end)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        setting.upstream |= {"push": "allow", "endpoints": [f"http://127.0.0.1:{port}"]}
        client = setting.start()
        async with await client.connect("registry.test") as connection:
            target = "/v2/app/blobs/uploads/1"
            await connection.send("PATCH", target, CHUNKED, chunk(bytes(100_000)))
            async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
                tasks.create_task(send_on(connection))
                answer = await connection.answer()
                assert (answer.status, answer.headers["connection"]) == (413, "close")


async def send_on(connection: Connection) -> None:
    """64 MiB, as far as somebody takes them."""
    with suppress(OSError):
        for _ in range(64):
            await connection.send_raw(chunk(bytes(1 << 20)))


async def test_who_asks_first_is_refused_before_the_body(setting: Setting) -> None:
    client = setting.start()
    headers = {"Expect": "100-continue", "Content-Length": "1000000"}
    async with await client.connect("registry.test") as connection:
        await connection.send("PATCH", "/v2/app/blobs/uploads/1", headers)
        status_line = await connection.reader.readline()
        assert status_line.startswith(b"HTTP/1.1 405 ")


async def test_who_asks_first_is_told_to_go_on_when_it_is_wanted(pushable: Setting) -> None:
    client = pushable.start()
    begun = await client.request("POST", f"{pushable.url}/v2/app/blobs/uploads/")
    headers = {"Expect": "100-continue", "Content-Length": "5"}
    async with await client.connect("registry.test") as connection:
        await connection.send("PATCH", urlsplit(begun.headers["location"]).path, headers)
        assert await connection.reader.readline() == b"HTTP/1.1 100 Continue\r\n"
        assert await connection.reader.readline() == b"\r\n"
        await connection.send_raw(b"layer")
        assert (await connection.answer()).status == 202
    assert "expect" not in pushable.registry.log.find("*", method="PATCH")[0].headers


@asynccontextmanager
async def upstream_that_takes(
    first: bytes,
) -> AsyncIterator[tuple[int, asyncio.Event, bytearray]]:
    """A server of its own: the scripted registry reads a request whole before it looks at it."""
    arrived, body = asyncio.Event(), bytearray()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"PATCH"):
            while size := int(await reader.readline(), 16):
                body.extend(await reader.readexactly(size))
                await reader.readexactly(2)
                if len(body) >= len(first):
                    arrived.set()
            await reader.readline()
        status = b"202 Accepted" if head.startswith(b"PATCH") else b"200 OK"
        end = b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        writer.write(b"HTTP/1.1 " + status + end)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], arrived, body
