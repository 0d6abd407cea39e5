import logging

import pytest
from aiohttp import web

from tests.upstream.bench import (
    REGISTRY,
    SECRET,
    USER,
    Bench,
    answering,
    fetch,
    manifest,
    with_password,
)
from tests.upstream.scripted import TokenRealm, TokenRegistry


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    assert SECRET not in caplog.text
    return [record.message for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("status", [401, 403])
async def test_a_token_service_that_refuses_is_told_of(
    bench: Bench, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    realm = TokenRealm()
    tokens = await bench.serve(realm)
    registry = await bench.serve(TokenRegistry(realm, f"{tokens.url()}/token"))
    realm.status = status
    upstream = bench.upstream(registry.url(), **with_password())
    for _ in range(3):
        assert (await fetch(upstream, manifest()))[0] == 401
    (line,) = said(caplog)
    assert line == (
        f"{REGISTRY} refuses the configured credentials (user {USER}): "
        f"127.0.0.1:{tokens.port} answers {status} for repository:a/b:pull"
    )


async def test_a_registry_that_refuses_basic_is_told_of_once_in_a_while(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    server = await bench.serve(answering(401, WWW_Authenticate='Basic realm="x"'))
    upstream = bench.upstream(server.url(), **with_password())
    for _ in range(3):
        assert (await fetch(upstream, manifest()))[0] == 401
    (line,) = said(caplog)
    assert line.startswith(f"{REGISTRY} refuses the configured credentials (user {USER})")
    bench.clock.advance(301)
    await fetch(upstream, manifest())
    assert len(said(caplog)) == 2


async def test_nothing_is_said_of_what_is_not_configured(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    server = await bench.serve(answering(401, WWW_Authenticate='Basic realm="x"'))
    await fetch(bench.upstream(server.url()), manifest())
    upstream = bench.upstream(server.url(), **with_password())
    await fetch(upstream, manifest(authorization=f"Basic {SECRET}"))
    assert said(caplog) == []


async def test_nothing_is_said_of_credentials_that_are_right(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    async def guard(request: web.Request) -> web.Response:
        if "Authorization" in request.headers:
            return web.Response()
        return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'})

    upstream = bench.upstream((await bench.serve(guard)).url(), **with_password())
    assert (await fetch(upstream, manifest()))[0] == 200
    assert said(caplog) == []
