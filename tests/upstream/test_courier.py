"""Redirects, over real connections."""

import asyncio
from pathlib import Path

import pytest
from aiohttp import web
from yarl import URL

from entrepot.upstream.redirect import resolve
from tests.support.pki import ServerCertificate
from tests.upstream.bench import (
    SECRET,
    Bench,
    answering,
    failure,
    fetch,
    get,
    manifest,
    timeouts,
    with_password,
)
from tests.upstream.scripted import GOOD_BASIC

SIGNED = f"X-Amz-Signature={SECRET}%2F%7E~a%20b&X=%2B+"


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("https://cdn.test/x?" + SIGNED, "https://cdn.test/x?" + SIGNED),
        ("/other%2Fpath?a=b", "https://r.test/other%2Fpath?a=b"),
        ("other", "https://r.test/v2/a/other"),
        ("//cdn.test/x", "https://cdn.test/x"),
        ("?a=1", "https://r.test/v2/a/b?a=1"),
        (f"https://user:{SECRET}@cdn.test/x#part", "https://cdn.test/x"),
        ("https://cdn.test/a b", "https://cdn.test/a%20b"),
        ("https://cdn.test/grün", "https://cdn.test/gr%C3%BCn"),
    ],
)
def test_locations_are_resolved_and_signatures_kept(location: str, target: str) -> None:
    assert str(resolve(URL("https://r.test/v2/a/b?ns=x"), location)) == target


@pytest.mark.parametrize(
    "location", ["ftp://x/", "http:///x", "mailto:a@b", "https://[x", "file:///etc"]
)
def test_locations_that_lead_nowhere(location: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        resolve(URL("https://r.test/"), location)


async def test_several_hops_across_hosts_and_relative(bench: Bench) -> None:
    """As registry.k8s.io, by way of pkg.dev, to /artifacts-downloads."""
    hosts = ("registry.lan", "region.lan", "store.lan")
    bench.names.table |= {host: ["127.0.0.1"] for host in hosts}

    async def regional(request: web.Request) -> web.Response:
        if request.path.startswith("/artifacts-downloads"):
            return web.Response(
                status=302, headers={"Location": f"{store.url('store.lan')}/s?{SIGNED}"}
            )
        return web.Response(status=302, headers={"Location": "/artifacts-downloads/x"})

    async def first_answer(request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != GOOD_BASIC:
            return web.Response(status=401, headers={"WWW-Authenticate": "Basic"})
        location = f"{region.url('region.lan')}{request.raw_path}"
        return web.Response(status=307, headers={"Location": location})

    store = await bench.serve(answering(text="content"))
    region = await bench.serve(regional)
    first = await bench.serve(first_answer)
    upstream = bench.upstream(first.url("registry.lan"), **with_password())
    headers = {"Range": "bytes=0-", "Cookie": SECRET}
    response = await upstream.send(manifest(headers=headers))
    async with response:
        assert response.status == 200
        assert response.final_host == f"store.lan:{store.port}"
    assert first.authorizations == [None, GOOD_BASIC]
    assert region.authorizations == [None, None]
    assert [seen.target for seen in store.seen] == [f"/s?{SIGNED}"]
    assert [seen.headers.get("Range") for seen in store.seen] == ["bytes=0-"]
    assert {"Authorization", "Cookie"}.isdisjoint(store.seen[0].headers)
    assert "Cookie" in first.seen[0].headers


async def test_the_clients_own_authorization_stays_with_the_registry(bench: Bench) -> None:
    bench.names.table |= {"registry.lan": ["127.0.0.1"], "cdn.registry.lan": ["127.0.0.1"]}
    cdn = await bench.serve(answering(text="content"))
    first = await bench.serve(answering(307, Location=cdn.url("cdn.registry.lan")))
    upstream = bench.upstream(first.url("registry.lan"))
    await fetch(upstream, manifest(authorization=f"Bearer {SECRET}"))
    assert first.authorizations == [f"Bearer {SECRET}"]
    assert cdn.authorizations == [None]


async def test_another_port_is_another_host(bench: Bench) -> None:
    other = await bench.serve(answering(text="content"))
    first = await bench.serve(answering(307, Location=other.url()))
    await fetch(bench.upstream(first.url()), manifest(authorization=f"Bearer {SECRET}"))
    assert other.authorizations == [None]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_head_is_redirected_as_head(bench: Bench, status: int) -> None:
    async def answer(request: web.Request) -> web.Response:
        if request.path == "/there":
            return web.Response(text="content")
        return web.Response(status=status, headers={"Location": "/there"})

    server = await bench.serve(answer)
    response = await bench.upstream(server.url()).send(get(method="HEAD"))
    async with response:
        assert response.status == 200
    assert [seen.method for seen in server.seen] == ["HEAD", "HEAD"]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_redirects_of_writes_are_passed_on(bench: Bench, method: str) -> None:
    server = await bench.serve(answering(307, Location="https://elsewhere.test/x"))
    async with await bench.upstream(server.url()).send(get(method=method)) as response:
        assert (response.status, response.headers["Location"]) == (307, "https://elsewhere.test/x")


@pytest.mark.parametrize("status", [200, 201, 300, 304])
async def test_a_location_alone_is_no_redirect(bench: Bench, status: int) -> None:
    server = await bench.serve(answering(status, Location="/x"))
    assert (await fetch(bench.upstream(server.url())))[0] == status
    assert len(server.seen) == 1


async def test_a_redirect_without_location_is_an_answer(bench: Bench) -> None:
    server = await bench.serve(answering(307))
    assert (await fetch(bench.upstream(server.url())))[0] == 307


async def test_redirects_end(bench: Bench) -> None:
    server = await bench.serve(answering(302, Location="/again"))
    error = await failure(bench.upstream(server.url()).send(get(f"/?{SECRET}")))
    assert "it redirects more than 10 times" in str(error)
    assert len(server.seen) == 11


async def test_tls_is_not_left(
    bench: Bench, certificate: ServerCertificate, ca_bundle: Path
) -> None:
    plain = await bench.serve(answering(text="content"))
    location = f"{plain.url()}/?{SECRET}"
    server = await bench.serve(answering(302, Location=location), tls=certificate)
    upstream = bench.upstream(server.url(), ca_bundle=ca_bundle)
    error = await failure(upstream.send(get()))
    assert str(error) == f"127.0.0.1:{server.port}: it redirects to a connection without TLS"
    assert plain.seen == []
    assert not upstream.is_resting()  # it is not down


async def test_a_registry_without_tls_may_redirect_to_either(
    bench: Bench, certificate: ServerCertificate, ca_bundle: Path
) -> None:
    secure = await bench.serve(answering(text="content"), tls=certificate)
    server = await bench.serve(answering(302, Location=secure.url()))
    assert (await fetch(bench.upstream(server.url(), ca_bundle=ca_bundle)))[0] == 200


async def test_a_location_that_leads_nowhere_is_an_error(bench: Bench) -> None:
    server = await bench.serve(answering(302, Location=f"ftp://x/{SECRET}"))
    error = await failure(bench.upstream(server.url()).send(get()))
    assert "it redirects to something that is no HTTP address" in str(error)


async def test_a_store_that_is_silent_is_not_the_registrys_outage(bench: Bench) -> None:
    store = await bench.listen(_silence)
    url = f"http://127.0.0.1:{store}/x?{SECRET}"
    server = await bench.serve(answering(302, Location=url))
    upstream = bench.upstream(server.url(), settings=timeouts(header=0.1))
    assert str(await failure(upstream.send(get()))) == f"127.0.0.1:{store}: no answer in time"
    assert not upstream.is_resting()


async def test_a_store_that_refuses_is_tried_again_from_the_start(bench: Bench) -> None:
    """A fresh redirect may lead to another node, and carries a fresh signature."""
    server = await bench.serve(answering(302, Location=f"http://127.0.0.1:1/x?{SECRET}"))
    error = await failure(bench.upstream(server.url()).send(get()))
    assert str(error) == "127.0.0.1:1: it cannot be reached: Connection refused"
    assert len(server.seen) == 3


async def _silence(*_: object) -> None:
    await asyncio.Event().wait()
