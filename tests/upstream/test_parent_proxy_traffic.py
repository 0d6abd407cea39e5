"""Requests through a parent proxy: a real one, if little."""

import asyncio
from pathlib import Path

import pytest

from entrepot.config.model import Upstream as Settings
from tests.support.pki import ServerCertificate
from tests.upstream.bench import SECRET, Bench, answering, failure, fetch, get

SIGNED_IN = "Proxy-Authorization: Basic dXNlcjpzM2NyM3QtYW5kLW5ldmVyLXRvbGQ="


class ParentProxy:
    """CONNECT and absolute-form; sends everything to one port, whatever the name."""

    def __init__(self, target: int) -> None:
        self.heads: list[str] = []
        self.status = 200
        self._target = target

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head.decode())
        if self.status != 200:
            writer.write(f"HTTP/1.1 {self.status} No\r\nContent-Length: 0\r\n\r\n".encode())
            return
        inner, outer = await asyncio.open_connection("127.0.0.1", self._target)
        try:
            if head.startswith(b"CONNECT"):
                writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            else:
                outer.write(head)
            async with asyncio.TaskGroup() as group:
                group.create_task(_pump(reader, outer))
                group.create_task(_pump(inner, writer))
        finally:
            outer.close()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
    except OSError:
        pass
    sink.close()


async def test_tls_goes_through_connect(
    bench: Bench, certificate: ServerCertificate, ca_bundle: Path
) -> None:
    server = await bench.serve(answering(text="content"), tls=certificate)
    parent = ParentProxy(server.port)
    proxy = f"http://user:{SECRET}@127.0.0.1:{await bench.listen(parent)}"
    upstream = bench.upstream("https://registry.example", ca_bundle=ca_bundle, proxy=proxy)
    assert await fetch(upstream) == (200, b"content")
    (head,) = parent.heads
    assert head.startswith("CONNECT registry.example:443 HTTP/1.1\r\n")
    assert SIGNED_IN in head
    assert "Proxy-Authorization" not in server.seen[0].headers
    assert bench.names.asked == []  # the name is the proxy's to resolve


async def test_plain_http_goes_in_absolute_form(bench: Bench) -> None:
    server = await bench.serve(answering(text="content"))
    parent = ParentProxy(server.port)
    settings = Settings(proxy=f"http://user:{SECRET}@127.0.0.1:{await bench.listen(parent)}")
    upstream = bench.upstream("http://registry.example", settings=settings)
    assert await fetch(upstream) == (200, b"content")
    (head,) = parent.heads
    assert head.startswith("GET http://registry.example/v2/ HTTP/1.1\r\n")
    assert SIGNED_IN in head


async def test_what_no_proxy_names_is_reached_directly(bench: Bench) -> None:
    server = await bench.serve(answering(text="content"))
    settings = Settings(proxy="http://127.0.0.1:1", no_proxy=("127.0.0.0/8",))
    assert await fetch(bench.upstream(server.url(), settings=settings)) == (200, b"content")


async def test_a_registry_may_be_reached_directly(bench: Bench) -> None:
    server = await bench.serve(answering(text="content"))
    settings = Settings(proxy="http://127.0.0.1:1")
    upstream = bench.upstream(server.url(), settings=settings, proxy="none")
    assert await fetch(upstream) == (200, b"content")


async def test_a_proxy_on_this_machine_does_not_open_this_machine(bench: Bench) -> None:
    server = await bench.serve(answering(307, Location=f"http://127.0.0.1:9/?{SECRET}"))
    parent = ParentProxy(server.port)
    bench.names.table["proxy.lan"] = ["127.0.0.1"]
    proxy = f"http://proxy.lan:{await bench.listen(parent)}"
    upstream = bench.upstream("http://registry.example", proxy=proxy)
    assert "nobody may send us to" in str(await failure(upstream.send(get())))


@pytest.mark.parametrize("status", [407, 502])
async def test_a_proxy_that_says_no_is_named_as_the_reason(
    bench: Bench, certificate: ServerCertificate, status: int
) -> None:
    parent = ParentProxy(0)
    parent.status = status
    proxy = f"http://user:{SECRET}@127.0.0.1:{await bench.listen(parent)}"
    upstream = bench.upstream("https://registry.example", proxy=proxy)
    error = await failure(upstream.send(get()))
    assert str(error) == f"registry.example: the parent proxy answers {status}"


async def test_a_proxy_that_is_not_there_is_named_as_the_reason(bench: Bench) -> None:
    proxy = f"http://user:{SECRET}@127.0.0.1:1"
    upstream = bench.upstream("https://registry.example", proxy=proxy)
    error = await failure(upstream.send(get()))
    assert str(error) == (
        "registry.example: the parent proxy cannot be reached: Connection refused"
    )
