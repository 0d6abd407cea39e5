"""A push of any size in little memory, kept or not."""

import asyncio
import shutil
import time
from pathlib import Path

import pytest

from tests.integration.conftest import Setting
from tests.integration.test_load import GIB, MIB, report, watched
from tests.integration.test_push import chunk
from tests.support.client import ProxyClient
from tests.support.content import Generated

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


class Sink:
    """Takes uploads over plain HTTP, counts, and believes in every digest. In the test's loop."""

    def __init__(self) -> None:
        self.size = 0
        self.pause_at = -1  # stops reading when it has so much, until `go_on`
        self.go_on = asyncio.Event()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        method, target, _ = head.split(" ", 2)
        if method == "PATCH":
            await self._swallow(reader)
        digest = target.rpartition("digest=")[2]
        status, field = {
            "POST": ("202 Accepted", "Location: /v2/app/blobs/uploads/1"),
            "PATCH": ("202 Accepted", "Location: /v2/app/blobs/uploads/1"),
            "PUT": ("201 Created", f"Docker-Content-Digest: {digest}"),
        }.get(method, ("200 OK", "X-None: 1"))
        end = "Content-Length: 0\r\nConnection: close\r\n\r\n"
        writer.write(f"HTTP/1.1 {status}\r\n{field}\r\n{end}".encode())
        writer.close()

    async def _swallow(self, reader: asyncio.StreamReader) -> None:
        while size := int(await reader.readline(), 16):
            left = size
            while left:
                left -= len(await reader.read(min(left, 1 << 20)))
            self.size += size
            if 0 <= self.pause_at <= self.size:
                self.pause_at = -1
                await self.go_on.wait()
            await reader.readline()
        await reader.readline()


async def push(client: ProxyClient, content: Generated) -> None:
    base = "http://registry.test/v2/app/blobs/uploads/"
    assert (await client.request("POST", base)).status == 202
    async with await client.connect("registry.test", 80, tls=False) as connection:
        headers = {"Transfer-Encoding": "chunked"}
        await connection.send("PATCH", "/v2/app/blobs/uploads/1", headers)
        for piece in content.chunks(0, content.size):
            await connection.send_raw(chunk(piece))
        await connection.send_raw(b"0\r\n\r\n")
        assert (await connection.answer()).status == 202
    ended = await client.request("PUT", f"{base}1?digest={content.digest}")
    assert ended.status == 201


async def is_kept(client: ProxyClient, content: Generated) -> bool:
    """A disk that is too slow for the network is told, and no failure."""
    url = f"http://registry.test/v2/app/blobs/{content.digest}"
    answer = await client.request("GET", url, {"Range": "bytes=0-0"})
    return answer.status == 206


@pytest.mark.parametrize("keeps", [True, False], ids=["kept", "passed"])
async def test_four_gibibytes_pushed(setting: Setting, tmp_path: Path, *, keeps: bool) -> None:
    """Without TLS, as the pull of as much: what is measured is memory."""
    if shutil.disk_usage(tmp_path).free < 6 * GIB:
        pytest.skip("needs 6 GiB of disk")
    content, sink = Generated(1, 4 * GIB), Sink()
    _ = content.digest  # is no part of the time
    server = await asyncio.start_server(sink, "127.0.0.1", 0, limit=MIB)
    async with server:
        port = server.sockets[0].getsockname()[1]
        setting.upstream |= {"endpoints": [f"http://127.0.0.1:{port}"], "push": "allow"}
        setting.config["storage"]["keep_pushes"] = keeps
        client = setting.start()
        try:
            began = time.monotonic()
            async with watched(setting) as gauge:
                await push(client, content)
            seconds = time.monotonic() - began
            kept = await is_kept(client, content) if keeps else False
            report(f"pushed, {'kept' if kept else 'not kept'}", gauge, content.size, seconds)
            assert sink.size == content.size
            assert gauge.most_mib < 150
        finally:
            setting.close()
            shutil.rmtree(setting.proxy.data)


async def test_an_upstream_that_stops_reading_holds_the_client_back(setting: Setting) -> None:
    content, sink = Generated(2, 256 * MIB), Sink()
    sink.pause_at = MIB
    server = await asyncio.start_server(sink, "127.0.0.1", 0, limit=1 << 16)
    async with server:
        port = server.sockets[0].getsockname()[1]
        setting.upstream |= {"endpoints": [f"http://127.0.0.1:{port}"], "push": "allow"}
        client = setting.start()
        async with watched(setting) as gauge, asyncio.TaskGroup() as tasks:
            pushing = tasks.create_task(push(client, content))
            done, _ = await asyncio.wait({pushing}, timeout=3)
            assert not done
            sink.go_on.set()
        assert sink.size == content.size
        assert gauge.most_mib < 150
