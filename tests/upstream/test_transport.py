import asyncio
import gzip
import resource
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web
from yarl import URL

from entrepot.config.model import Upstream as Settings
from entrepot.errors import InvalidReference, UpstreamError
from entrepot.upstream.transport import USER_AGENT, Hop
from tests.support.pki import ServerCertificate, TestAuthority
from tests.upstream.bench import (
    SECRET,
    Bench,
    answering,
    body_of,
    failure,
    fetch,
    get,
    timeouts,
)

MIB = 1 << 20

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def saying(text: str) -> Talk:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(text.encode())
        await writer.drain()

    return talk


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


# What is sent, and what comes back.


async def test_what_is_sent_on(bench: Bench) -> None:
    server = await bench.serve(answering())
    sent = {
        "Accept": "application/x",
        "Range": "bytes=1-",
        "Accept-Encoding": "gzip",
        "User-Agent": "docker/1",
        "Connection": "close, X-Hop",
        "X-Hop": "1",
        "TE": "trailers",
        "Proxy-Authorization": f"Basic {SECRET}",
        "Authorization": f"Bearer {SECRET}",
        "Host": "elsewhere.example",
        "Content-Length": "5",
    }
    await fetch(bench.upstream(server.url()), get("/v2/a?n=%2F~", headers=sent))
    assert server.seen[0].target == "/v2/a?n=%2F~"
    assert dict(server.seen[0].headers) == {
        "Host": f"127.0.0.1:{server.port}",
        "Accept": "application/x",
        "Range": "bytes=1-",
        "Accept-Encoding": "identity",
        "User-Agent": USER_AGENT,
    }


@pytest.mark.parametrize(
    ("name", "value"), [("X-A\r\nX-B", "1"), ("X A", "1"), ("X-A", "1\r\nX-B: 2"), ("", "x")]
)
async def test_headers_that_are_none_are_refused(bench: Bench, name: str, value: str) -> None:
    server = await bench.serve(answering())
    with pytest.raises(InvalidReference):
        await bench.upstream(server.url()).send(get(headers={name: value}))
    assert server.seen == []


@pytest.mark.parametrize("path", ["", "v2/", "@evil.example/", "/a b", "/a\r\nX: y", "/ü", "/a#b"])
def test_paths_that_are_none_are_refused(path: str) -> None:
    with pytest.raises(InvalidReference):
        get(path)


async def test_a_path_never_becomes_a_host(bench: Bench) -> None:
    server = await bench.serve(answering())
    await fetch(bench.upstream(server.url()), get("//evil.example/v2/../x"))
    assert server.targets == ["GET //evil.example/v2/../x"]


async def test_head_stays_head_and_keeps_its_length(bench: Bench) -> None:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(headers={"Content-Length": "1234", "X-Kept": "1"})

    server = await bench.serve(answer)
    async with await bench.upstream(server.url()).send(get(method="HEAD")) as response:
        assert response.headers["content-length"] == "1234"
        assert response.headers["x-KEPT"] == "1"
        assert [piece async for piece in response.chunks()] == []
    assert server.seen[0].method == "HEAD"


async def test_answers_come_without_cookies_and_hop_by_hop_headers(bench: Bench) -> None:
    async def answer(request: web.Request) -> web.Response:
        response = web.Response(headers={"Connection": "X-Hop", "X-Hop": "1"})
        response.headers.add("Link", "<a>")
        response.headers.add("Link", "<b>")
        response.headers["Set-Cookie"] = f"session={SECRET}"
        assert "Cookie" not in request.headers
        return response

    server = await bench.serve(answer)
    upstream = bench.upstream(server.url())
    await fetch(upstream)
    async with await upstream.send(get()) as response:
        assert not {"set-cookie", "connection", "x-hop"} & {n.lower() for n in response.headers}
        assert response.headers["Link"] == "<a>, <b>"
        assert repr(response) == f"<UpstreamResponse 200 of 127.0.0.1:{server.port}>"


async def test_nothing_is_decoded(bench: Bench) -> None:
    content = gzip.compress(b"x" * 1000)

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(body=content, headers={"Content-Encoding": "gzip"})

    server = await bench.serve(answer)
    assert await fetch(bench.upstream(server.url())) == (200, content)


async def test_a_large_body_streams_in_small_memory(bench: Bench) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(64 * MIB)})
        await response.prepare(request)
        for _ in range(64):
            await response.write(bytes(MIB))
        return response

    server = await bench.serve(answer)
    upstream = bench.upstream(server.url())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    total = 0
    async with await upstream.send(get()) as response:
        async for piece in response.chunks():
            assert 0 < len(piece) <= MIB
            total += len(piece)
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert total == 64 * MIB
    assert grown_kib < 24 * 1024
    assert upstream.statistics().bytes_fetched == 64 * MIB


async def test_a_slow_reader_holds_the_sender_back(bench: Bench) -> None:
    sent = 0
    stuck = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {64 * MIB}\r\n\r\n".encode())
        while sent < 64 * MIB:
            writer.write(bytes(MIB))
            sent += MIB
            try:
                await asyncio.wait_for(writer.drain(), 0.2)
            except TimeoutError:
                stuck.set()
                await writer.drain()

    port = await bench.listen(talk)
    async with await bench.upstream(f"http://127.0.0.1:{port}").send(get()):
        await stuck.wait()
        assert sent < 32 * MIB  # the rest is in the kernel's buffers


@pytest.mark.parametrize(
    "head",
    [
        "Content-Length: 10\r\n\r\nshort",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nsho",
    ],
)
async def test_a_truncated_body_is_an_error(bench: Bench, head: str) -> None:
    port = await bench.listen(saying(f"HTTP/1.1 200 OK\r\n{head}"))
    upstream = bench.upstream(f"http://127.0.0.1:{port}")
    response = await upstream.send(get())
    error = await failure(body_of(response))
    assert str(error) == f"127.0.0.1:{port}: ended the answer before it was whole"
    assert upstream.statistics().errors == 1


async def test_what_arrived_before_a_break_is_not_lost(bench: Bench) -> None:
    port = await bench.listen(
        saying("HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\n" + "x" * 300_000)
    )
    response = await bench.upstream(f"http://127.0.0.1:{port}").send(get())
    while response._answer.content.exception() is None:  # noqa: ASYNC110 - aiohttp has no event
        await asyncio.sleep(0)
    chunks = response.chunks()
    assert len(await anext(chunks)) == 300_000
    assert "before it was whole" in str(await failure(anext(chunks)))


async def test_a_body_that_stalls_is_an_error(bench: Bench) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort")
        await reader.read()

    port = await bench.listen(talk)
    upstream = bench.upstream(f"http://127.0.0.1:{port}", settings=timeouts(read=0.1))
    chunks = (await upstream.send(get())).chunks()
    assert await anext(chunks) == b"short"
    assert "sent nothing for 0.1 s" in str(await failure(anext(chunks)))


async def test_a_body_larger_than_the_limit_is_an_error(bench: Bench) -> None:
    server = await bench.serve(answering(text="x" * 100))
    response = await bench.upstream(server.url()).send(get())
    assert "larger than 99 B" in str(await failure(response.read(99)))


async def test_closing_twice_is_closing_once(bench: Bench) -> None:
    server = await bench.serve(answering(text="x"))
    upstream = bench.upstream(server.url(), connections=1)
    for _ in range(3):
        response = await upstream.send(get())
        await response.aclose()
        await response.aclose()
    assert upstream._slots._value == 1


@pytest.mark.parametrize(
    "answer",
    ["nonsense\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx"],
)
async def test_what_is_not_http_is_an_error(bench: Bench, answer: str) -> None:
    port = await bench.listen(saying(answer))
    error = await failure(bench.upstream(f"http://127.0.0.1:{port}").send(get()))
    assert "what it answers is not HTTP" in str(error)


# Bodies of writes.


async def test_a_body_is_streamed_with_its_length_or_in_chunks(bench: Bench) -> None:
    server = await bench.serve(answering(202))
    upstream = bench.upstream(server.url())
    await fetch(upstream, get("/v2/", method="PATCH", body=pieces(b"ab", b"c"), content_length=3))
    await fetch(upstream, get("/v2/", method="PATCH", body=pieces(b"ab", b"c")))
    sized, chunked = server.seen[-2:]
    assert (sized.body, sized.headers["Content-Length"]) == (b"abc", "3")
    assert (chunked.body, chunked.headers["Transfer-Encoding"]) == (b"abc", "chunked")
    assert "Content-Type" not in sized.headers


@pytest.mark.parametrize("length", [2, 4])
async def test_a_body_of_another_length_than_announced_is_not_passed_off(
    bench: Bench, length: int
) -> None:
    server = await bench.serve(answering(202))
    upstream = bench.upstream(server.url())
    await upstream.challenge()
    request = get("/v2/", method="PUT", body=pieces(b"ab", b"c"), content_length=length)
    with pytest.raises(ValueError, match="not as long"):
        await upstream.send(request)


async def test_a_client_that_leaves_is_not_the_upstreams_fault(bench: Bench) -> None:
    async def leaving() -> AsyncIterator[bytes]:
        yield b"ab"
        raise InvalidReference("the client left")

    server = await bench.serve(answering(202))
    upstream = bench.upstream(server.url())
    await upstream.challenge()
    with pytest.raises(InvalidReference, match="the client left"):
        await upstream.send(get("/v2/", method="PATCH", body=leaving()))
    assert not upstream.is_resting()


async def test_a_slow_client_is_waited_for(bench: Bench) -> None:
    """Longer than the upstream would be: it is not its turn."""

    async def slow() -> AsyncIterator[bytes]:
        yield b"a"
        await asyncio.sleep(0.3)  # the client's own pace, which is what is tested
        yield b"b"

    server = await bench.serve(answering(202))
    upstream = bench.upstream(server.url(), settings=timeouts(header=0.1, read=0.1))
    assert (await fetch(upstream, get("/v2/", method="PATCH", body=slow())))[0] == 202


async def test_an_upstream_that_takes_no_body_is_given_up(bench: Bench) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes(MIB)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"GET"):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await asyncio.Event().wait()

    port = await bench.listen(talk)
    settings = timeouts(header=0.3, read=0.1)
    upstream = bench.upstream(f"http://127.0.0.1:{port}", settings=settings)
    request = get("/v2/", method="PATCH", body=endless())
    assert "no answer in time" in str(await failure(upstream.send(request)))


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_a_write_is_never_sent_twice(bench: Bench, method: str) -> None:
    heard: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readuntil(b"\r\n\r\n"))

    port = await bench.listen(talk)
    error = await failure(bench.upstream(f"http://127.0.0.1:{port}").send(get(method=method)))
    assert "it closed the connection instead of answering" in str(error)
    assert len(heard) == 1


# Connections.


async def test_connections_are_kept_for_reads_alone(bench: Bench) -> None:
    server = await bench.serve(answering())
    upstream = bench.upstream(server.url())
    for _ in range(3):
        await fetch(upstream)
    assert len(server.connections) == 1
    await fetch(upstream, get(method="POST"))
    assert server.seen[-1].headers["Connection"] == "close"


async def test_a_read_survives_a_pooled_connection_that_died(bench: Bench) -> None:
    connections = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")  # and close instead of answering

    port = await bench.listen(talk)
    upstream = bench.upstream(f"http://127.0.0.1:{port}")
    request = get(header_timeout_s=5.0)  # for which nothing is tried twice by us
    assert [(await fetch(upstream, request))[0] for _ in range(3)] == [200] * 3
    assert connections == 3


async def test_a_black_hole_behind_a_pooled_connection_is_noticed(bench: Bench) -> None:
    is_silent = False
    connections = 0
    may_end = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while await reader.readuntil(b"\r\n\r\n"):
            if is_silent:
                await asyncio.Event().wait()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n")
            await may_end.wait()
            writer.write(b"x")

    port = await bench.listen(talk)
    upstream = bench.upstream(f"http://127.0.0.1:{port}", settings=timeouts(header=0.2))
    both = [await upstream.send(get()), await upstream.send(get())]
    may_end.set()
    assert [await body_of(response) for response in both] == [b"x", b"x"]
    is_silent = True
    assert "no answer in time" in str(await failure(upstream.send(get())))
    assert upstream.is_resting()
    is_silent = False
    await fetch(upstream)
    assert connections == 3  # the other one of the first two was not used


async def test_no_more_connections_than_allowed(bench: Bench) -> None:
    server = await bench.serve(answering(text="x"))
    settings = timeouts(header=0.2)
    upstream = bench.upstream(server.url(), connections=2, settings=settings)
    open_ones = [await upstream.send(get()), await upstream.send(get())]
    error = await failure(upstream.send(get()))
    assert "all 2 connections are in use" in str(error)
    await open_ones.pop().aclose()
    await fetch(upstream)
    await open_ones.pop().aclose()


async def test_after_closing_nothing_is_sent(bench: Bench) -> None:
    server = await bench.serve(answering())
    upstream = bench.upstream(server.url())
    await fetch(upstream)
    await upstream.aclose()
    await upstream.aclose()
    assert "shutting down" in str(await failure(upstream.send(get())))


async def test_what_closing_breaks_off_is_not_blamed_on_the_upstream(bench: Bench) -> None:
    arrived = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        arrived.set()
        await reader.read()

    upstream = bench.upstream(f"http://127.0.0.1:{await bench.listen(silent)}")
    async with asyncio.TaskGroup() as tasks:
        sending = tasks.create_task(failure(upstream.send(get(method="DELETE", is_anonymous=True))))
        await arrived.wait()
        await upstream.aclose()
    assert "the proxy is shutting down" in str(sending.result())
    assert not upstream.is_unreachable()


@pytest.mark.parametrize("ipv6", [True, False])
async def test_of_several_addresses_one_that_answers_is_enough(bench: Bench, *, ipv6: bool) -> None:
    server = await bench.serve(answering())
    bench.names.table["dual.example"] = ["::1", "127.0.0.1"]  # nobody listens on ::1
    upstream = bench.upstream(server.url("dual.example"), settings=Settings(ipv6=ipv6))
    assert (await fetch(upstream))[0] == 200


async def test_an_ipv6_literal_is_told_of_when_ipv6_is_off(bench: Bench) -> None:
    upstream = bench.upstream("http://[::1]:1", settings=Settings(ipv6=False))
    assert "IPv6 is switched off" in str(await failure(upstream.send(get())))


async def test_a_name_that_does_not_resolve(bench: Bench) -> None:
    upstream = bench.upstream("http://nowhere.example")
    assert str(await failure(upstream.send(get()))) == (
        "nowhere.example: its name cannot be resolved"
    )


# TLS.


async def test_a_bundle_is_trusted_beside_the_systems(
    bench: Bench, certificate: ServerCertificate, ca_bundle: Path
) -> None:
    server = await bench.serve(answering(), tls=certificate)
    assert await fetch(bench.upstream(server.url(), ca_bundle=ca_bundle)) == (200, b"")


async def test_an_unknown_authority_is_not_trusted(
    bench: Bench, certificate: ServerCertificate
) -> None:
    server = await bench.serve(answering(), tls=certificate)
    error = await failure(bench.upstream(server.url()).send(get(f"/v2/?sig={SECRET}")))
    assert "its certificate is not trusted: unable to get local issuer certificate" in str(error)


async def test_a_certificate_of_another_host_is_not_trusted(
    bench: Bench, authority: TestAuthority, ca_bundle: Path
) -> None:
    server = await bench.serve(answering(), tls=authority.issue("other.example"))
    error = await failure(bench.upstream(server.url(), ca_bundle=ca_bundle).send(get()))
    assert "its certificate is not trusted" in str(error)


async def test_checking_can_be_switched_off(bench: Bench, authority: TestAuthority) -> None:
    server = await bench.serve(answering(), tls=authority.issue("other.example"))
    assert (await fetch(bench.upstream(server.url(), verify=False)))[0] == 200


async def test_the_systems_store_can_be_another(
    bench: Bench,
    certificate: ServerCertificate,
    ca_bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(ca_bundle))
    server = await bench.serve(answering(), tls=certificate)
    assert (await fetch(bench.upstream(server.url())))[0] == 200


async def test_a_server_without_tls_is_told_apart(bench: Bench, ca_bundle: Path) -> None:
    server = await bench.serve(answering())
    upstream = bench.upstream(f"https://127.0.0.1:{server.port}", ca_bundle=ca_bundle)
    assert "TLS cannot be agreed on" in str(await failure(upstream.send(get())))


# Addresses.


async def test_names_are_judged_by_what_they_resolve_to(bench: Bench) -> None:
    """The registry's own may be anywhere, what it redirects to may not."""
    target = await bench.serve(answering(text="internal"))
    bench.names.table |= {
        "registry.lan": ["127.0.0.1"],
        "metadata.evil.example": ["169.254.169.254"],
        "mapped.evil.example": ["::ffff:169.254.169.254"],
        "some.evil.example": ["169.254.169.254", "127.0.0.1"],
    }
    for host in ("metadata.evil.example", "mapped.evil.example"):
        server = await bench.serve(answering(307, Location=f"http://{host}/latest?sig={SECRET}"))
        error = await failure(bench.upstream(server.url("registry.lan")).send(get()))
        assert "its address is one that nobody may send us to" in str(error)
    server = await bench.serve(answering(307, Location=target.url("some.evil.example")))
    assert await fetch(bench.upstream(server.url("registry.lan"))) == (200, b"internal")


async def test_addresses_spelled_out_are_judged_too(bench: Bench) -> None:
    for host in ("169.254.169.254", "[::ffff:a9fe:a9fe]", "2852039166", "0xa9fea9fe", "[fe80::1]"):
        server = await bench.serve(answering(302, Location=f"http://{host}/latest"))
        error = await failure(bench.upstream(server.url()).send(get()))
        assert "its address is one that nobody may send us to" in str(error)


async def test_a_registry_elsewhere_may_not_send_us_home(bench: Bench) -> None:
    """Its own address is an ordinary one: loopback is not its class. Judged on the connections'
    own level, as the test has no such registry to offer.
    """
    upstream = bench.upstream("http://203.0.113.5")
    bench.names.table["rebound.example"] = ["127.0.0.1"]
    for url in ("http://127.0.0.1:1/", "http://rebound.example/"):
        hop = Hop(method="GET", url=URL(url), headers={}, patience=upstream._patience())
        with pytest.raises(UpstreamError, match="nobody may send us to"):
            await upstream._parts.transport.exchange(hop)
