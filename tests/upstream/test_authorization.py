"""The token dance, over real connections."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from entrepot.config.kinds import Secret
from entrepot.config.model import Registry
from entrepot.oci.challenge import Challenge
from entrepot.upstream.authorization import choose_challenge
from tests.support.pki import ServerCertificate
from tests.upstream.bench import (
    SECRET,
    Bench,
    Server,
    answering,
    body_of,
    failure,
    fetch,
    get,
    manifest,
    timeouts,
    with_password,
)
from tests.upstream.scripted import GOOD_BASIC, TokenRealm, TokenRegistry


class Pair:
    """A registry and its token service on the same host, as at ghcr.io."""

    realm: TokenRealm
    tokens: Server
    guard: TokenRegistry
    registry: Server

    @classmethod
    async def on(cls, bench: Bench, realm_host: str = "127.0.0.1") -> "Pair":
        self = cls()
        self.realm = TokenRealm()
        self.tokens = await bench.serve(self.realm)
        self.guard = TokenRegistry(self.realm, f"{self.tokens.url(realm_host)}/token")
        self.registry = await bench.serve(self.guard)
        return self


@pytest.fixture
async def pair(bench: Bench) -> Pair:
    return await Pair.on(bench)


async def test_an_anonymous_token(bench: Bench, pair: Pair) -> None:
    assert await fetch(bench.upstream(pair.registry.url()), manifest()) == (200, b"content")
    assert pair.tokens.targets == [
        "GET /token?service=registry.test&scope=repository%3Aa%2Fb%3Apull"
    ]
    assert pair.tokens.authorizations == [None]


async def test_the_operators_credentials_go_to_the_realm_alone(bench: Bench, pair: Pair) -> None:
    upstream = bench.upstream(pair.registry.url(), **with_password())
    assert upstream.has_credentials
    await fetch(upstream, manifest())
    assert pair.tokens.authorizations == [GOOD_BASIC]
    assert pair.registry.authorizations == [None, f"Bearer {SECRET}-token-0"]


async def test_the_next_request_brings_its_token_along(bench: Bench, pair: Pair) -> None:
    upstream = bench.upstream(pair.registry.url())
    await fetch(upstream, manifest())
    await fetch(upstream, manifest())
    await fetch(upstream, manifest("other/repository"))
    assert len(pair.registry.seen) == 4  # a single 401 for all of it
    assert len(pair.tokens.seen) == 2
    assert upstream.statistics().token_requests == 2


async def test_a_herd_asks_for_one_token(bench: Bench, pair: Pair) -> None:
    upstream = bench.upstream(pair.registry.url())
    await upstream.challenge()
    answers = await asyncio.gather(*(fetch(upstream, manifest()) for _ in range(20)))
    assert {status for status, _ in answers} == {200}
    assert len(pair.tokens.seen) == 1


async def test_an_expired_token_is_replaced_without_a_401(bench: Bench, pair: Pair) -> None:
    upstream = bench.upstream(pair.registry.url())
    await fetch(upstream, manifest())
    bench.clock.advance(241)
    await fetch(upstream, manifest())
    assert len(pair.tokens.seen) == 2
    assert len(pair.registry.seen) == 3


async def test_a_token_that_is_refused_early_is_replaced(bench: Bench, pair: Pair) -> None:
    upstream = bench.upstream(pair.registry.url())
    await fetch(upstream, manifest())
    pair.realm.valid[f"{SECRET}-token-0"] = "revoked"
    assert await fetch(upstream, manifest()) == (200, b"content")
    assert len(pair.tokens.seen) == 2


async def test_401_remains_401_where_nothing_helps(bench: Bench, pair: Pair) -> None:
    pair.guard.scope_of_all = "repository:never:granted"
    pair.realm.valid = {}

    async def useless(_request: web.Request) -> web.Response:
        return web.json_response({"token": "useless"})

    service = await bench.serve(useless)
    pair.guard.realm_url = service.url()
    upstream = bench.upstream(pair.registry.url())
    for _ in range(2):
        status, _body = await fetch(upstream, manifest())
        assert status == 401
    assert len(pair.registry.seen) <= 4


@pytest.mark.parametrize("status", [401, 403])
async def test_wrong_credentials_are_the_registrys_401(
    bench: Bench, pair: Pair, status: int
) -> None:
    """And not an anonymous success: what is public must not hide that they are wrong."""
    pair.realm.status = status
    upstream = bench.upstream(pair.registry.url(), **with_password())
    for _ in range(3):
        assert (await fetch(upstream, manifest()))[0] == 401
    assert len(pair.tokens.seen) == 1  # asking on and on would lock the account
    assert set(pair.tokens.authorizations) == {GOOD_BASIC}


async def test_a_private_repository_stays_closed_to_nobody(bench: Bench, pair: Pair) -> None:
    pair.realm.private = "a/b"
    assert (await fetch(bench.upstream(pair.registry.url()), manifest()))[0] == 401
    upstream = bench.upstream(pair.registry.url(), **with_password())
    assert (await fetch(upstream, manifest()))[0] == 200


async def test_a_stranger_has_a_token_of_nobodys(bench: Bench, pair: Pair) -> None:
    """And the token of one is not the other's, whoever was first."""
    upstream = bench.upstream(pair.registry.url(), **with_password())
    for is_stranger in (True, False, True):
        assert await fetch(upstream, manifest(is_stranger=is_stranger)) == (200, b"content")
    assert pair.tokens.authorizations == [None, GOOD_BASIC]
    pair.realm.private = "c/d"
    assert (await fetch(upstream, manifest("c/d", is_stranger=True)))[0] == 401
    assert (await fetch(upstream, manifest("c/d")))[0] == 200


async def test_a_stranger_sends_no_basic(bench: Bench) -> None:
    registry = await bench.serve(answering(401, WWW_Authenticate='Basic realm="x"'))
    upstream = bench.upstream(registry.url(), **with_password())
    for is_stranger in (True, False, True):
        assert (await fetch(upstream, manifest(is_stranger=is_stranger)))[0] == 401
    assert set(registry.authorizations) == {None, GOOD_BASIC}
    assert registry.authorizations[0] is None
    assert registry.authorizations[-1] is None


async def test_a_token_service_that_is_down_is_an_error_with_its_name(
    bench: Bench, pair: Pair
) -> None:
    pair.guard.realm_url = "http://127.0.0.1:1/token"
    upstream = bench.upstream(pair.registry.url(), **with_password())
    error = await failure(upstream.send(manifest()))
    assert str(error) == "token service 127.0.0.1:1: it cannot be reached: Connection refused"
    assert upstream.is_resting()


async def test_a_token_service_that_passes_is_asked_again(bench: Bench, pair: Pair) -> None:
    statuses = iter([503, 502])

    async def recovering(request: web.Request) -> web.Response:
        status = next(statuses, 200)
        return web.Response(status=status) if status != 200 else await pair.realm(request)

    service = await bench.serve(recovering)
    pair.guard.realm_url = service.url()
    assert await fetch(bench.upstream(pair.registry.url()), manifest()) == (200, b"content")
    assert len(service.seen) == 3


async def test_trouble_of_the_token_service_is_told_with_its_status(
    bench: Bench, pair: Pair
) -> None:
    pair.realm.status = 429
    error = await failure(bench.upstream(pair.registry.url()).send(manifest()))
    assert error.status == 429


async def test_a_token_that_holds_bridges_an_outage_of_the_service(
    bench: Bench, pair: Pair
) -> None:
    upstream = bench.upstream(pair.registry.url())
    await fetch(upstream, manifest())
    pair.realm.status = 500
    bench.clock.advance(250)
    assert await fetch(upstream, manifest()) == (200, b"content")


@pytest.mark.parametrize("size", [1 << 20, (1 << 20) + 1])
async def test_what_a_token_service_says_is_capped(bench: Bench, pair: Pair, size: int) -> None:
    body = json.dumps({"token": "x"}).ljust(size)
    service = await bench.serve(answering(text=body))
    pair.guard.realm_url = service.url()
    upstream = bench.upstream(pair.registry.url())
    if size > 1 << 20:
        assert "larger than" in str(await failure(upstream.send(manifest())))
    else:
        assert (await fetch(upstream, manifest()))[0] == 401  # "x" is no token of this registry


# Where credentials go.


async def test_another_host_is_asked_anonymously_and_told_of_once(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.names.table |= {"registry.lan": ["127.0.0.1"], "auth.lan": ["127.0.0.1"]}
    pair = await Pair.on(bench, "auth.lan")
    upstream = bench.upstream(pair.registry.url("registry.lan"), **with_password())
    await fetch(upstream, manifest())
    await fetch(upstream, manifest("other"))
    assert pair.tokens.authorizations == [None, None]
    warnings = [text for text in caplog.messages if "is not sent the credentials" in text]
    assert len(warnings) == 1
    assert f"auth.lan:{pair.tokens.port}" in warnings[0]


async def test_credentials_do_not_go_without_tls_where_the_registry_has_it(
    bench: Bench, pair: Pair, certificate: ServerCertificate, ca_bundle: Path
) -> None:
    registry = await bench.serve(pair.guard, tls=certificate)
    upstream = bench.upstream(registry.url(), ca_bundle=ca_bundle, **with_password())
    await fetch(upstream, manifest())
    assert pair.tokens.authorizations == [None]


async def test_a_named_realm_gets_them(
    bench: Bench, certificate: ServerCertificate, ca_bundle: Path
) -> None:
    bench.names.table |= {"auth.registry.example": ["127.0.0.1"]}
    realm = TokenRealm()
    tokens = await bench.serve(realm, tls=certificate)
    guard = TokenRegistry(realm, tokens.url("auth.registry.example"))
    registry = await bench.serve(guard, tls=certificate)
    upstream = bench.upstream(
        registry.url(),
        ca_bundle=ca_bundle,
        realms=("auth.registry.example",),
        **with_password(),
    )
    await fetch(upstream, manifest())
    assert tokens.authorizations == [GOOD_BASIC]


async def test_a_host_that_a_redirect_led_to_is_answered_with_nobodys_rights(
    bench: Bench,
) -> None:
    """Scarf's cr.fluentbit.io sends the whole API to ghcr.io. And a store that was taken over
    asks for a token of the registry it was reached from: it gets an anonymous one.
    """
    bench.names.table |= {"registry.lan": ["127.0.0.1"], "other.lan": ["127.0.0.1"]}
    pair = await Pair.on(bench, "registry.lan")
    pair.guard.scope_of_all = "repository:private/of/ours:pull"
    target = pair.registry.url("other.lan")

    async def redirect(request: web.Request) -> web.Response:
        return web.Response(status=307, headers={"Location": f"{target}{request.raw_path}"})

    first = await bench.serve(redirect)
    upstream = bench.upstream(first.url("registry.lan"), **with_password())
    for _ in range(2):
        assert await fetch(upstream, manifest()) == (200, b"content")
    assert pair.tokens.authorizations == [None]
    assert "private%2Fof%2Fours" in pair.tokens.targets[0]
    assert first.authorizations == [None, None]
    assert len(pair.registry.seen) == 3  # the second time without a 401


async def test_credentials_of_the_realms_host_are_used_there(
    bench: Bench, certificate: ServerCertificate, ca_bundle: Path
) -> None:
    """As gitlab.com's for registry.gitlab.com."""
    names = ("registry.example.com", "example.com")
    bench.names.table |= {name: ["127.0.0.1"] for name in names}
    tls = certificate
    realm = TokenRealm()
    tokens = await bench.serve(realm, tls=tls)
    host = f"example.com:{tokens.port}"
    registry = await bench.serve(TokenRegistry(realm, f"https://{host}/jwt"), tls=tls)
    name = f"registry.example.com:{registry.port}"
    fleet = bench.upstreams(
        {
            name: Registry(verify=False, ca_bundle=ca_bundle),
            host: Registry(**with_password()),
            "elsewhere.test": Registry(),
        }
    )
    await fetch(fleet.get(name), manifest())
    await fetch(fleet.get(name), manifest(is_stranger=True))
    assert tokens.authorizations == [GOOD_BASIC, None]
    assert fleet.get(name).has_credentials
    assert not fleet.get("elsewhere.test").has_credentials


async def test_one_registry_cannot_have_a_token_of_another(bench: Bench) -> None:
    """What others hold is used within one domain alone, else any registry could name the realm of
    any other and be sent what opens that one.
    """
    bench.names.table |= {"registry.lan": ["127.0.0.1"], "evil.lan": ["127.0.0.1"]}
    pair = await Pair.on(bench, "registry.lan")
    fleet = bench.upstreams(
        {
            "registry.lan": Registry(
                endpoints=(pair.tokens.url("registry.lan"),), **with_password()
            ),
            "evil.lan": Registry(endpoints=(pair.registry.url("evil.lan"),)),
        }
    )
    await fetch(fleet.get("evil.lan"), manifest())
    assert pair.tokens.authorizations == [None]
    assert not fleet.get("evil.lan").has_credentials


async def test_a_token_service_is_not_followed_to_another_host(bench: Bench, pair: Pair) -> None:
    other = await bench.serve(answering(text='{"token":"x"}'))
    service = await bench.serve(answering(302, Location=f"{other.url()}/?{SECRET}"))
    pair.guard.realm_url = service.url()
    upstream = bench.upstream(pair.registry.url(), **with_password())
    error = await failure(upstream.send(manifest()))
    assert "the token service redirects to another host" in str(error)
    assert other.seen == []


async def test_a_token_service_may_redirect_on_its_own_host(bench: Bench, pair: Pair) -> None:
    async def slashing(request: web.Request) -> web.Response:
        if request.path == "/token":
            location = f"/token/?{request.query_string}"
            return web.Response(status=301, headers={"Location": location})
        return await pair.realm(request)

    service = await bench.serve(slashing)
    pair.guard.realm_url = f"{service.url()}/token"
    upstream = bench.upstream(pair.registry.url(), **with_password())
    assert (await fetch(upstream, manifest()))[0] == 200
    assert service.authorizations == [GOOD_BASIC] * 2


async def test_a_token_service_that_redirects_without_end(bench: Bench, pair: Pair) -> None:
    service = await bench.serve(answering(302, Location="/again"))
    pair.guard.realm_url = service.url()
    error = await failure(bench.upstream(pair.registry.url()).send(manifest()))
    assert "redirects without end" in str(error)


async def test_a_realm_in_the_cloud_is_not_asked(bench: Bench, pair: Pair) -> None:
    pair.guard.realm_url = "http://169.254.169.254/latest/meta-data"
    error = await failure(bench.upstream(pair.registry.url()).send(manifest()))
    assert "nobody may send us to" in str(error)


@pytest.mark.parametrize("realm", ["", "/token", "ftp://x/", "http://"])
async def test_a_realm_that_is_no_address(bench: Bench, pair: Pair, realm: str) -> None:
    pair.guard.realm_url = realm
    error = await failure(bench.upstream(pair.registry.url()).send(manifest()))
    assert "names a token service that has no HTTP address" in str(error)


# Other ways.


async def test_basic_where_basic_is_asked_for(bench: Bench) -> None:
    async def guard(request: web.Request) -> web.Response:
        if request.headers.get("Authorization") == GOOD_BASIC:
            return web.Response(text="content")
        return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'})

    server = await bench.serve(guard)
    upstream = bench.upstream(server.url(), **with_password())
    for _ in range(2):
        assert await fetch(upstream, manifest()) == (200, b"content")
    assert server.authorizations == [None, GOOD_BASIC, GOOD_BASIC]
    wrong = bench.upstream(server.url(), username="robot", password=Secret("wrong"))
    assert (await fetch(wrong, manifest()))[0] == 401
    assert (await fetch(bench.upstream(server.url()), manifest()))[0] == 401


async def test_basic_does_not_go_to_a_host_that_a_redirect_led_to(bench: Bench) -> None:
    bench.names.table["registry.lan"] = bench.names.table["other.lan"] = ["127.0.0.1"]
    challenge = {"WWW_Authenticate": 'Basic realm="x"'}
    other = await bench.serve(answering(401, **challenge))
    first = await bench.serve(answering(307, Location=other.url("other.lan")))
    upstream = bench.upstream(first.url("registry.lan"), **with_password())
    assert (await fetch(upstream, manifest()))[0] == 401
    assert other.authorizations == [None]


async def test_the_clients_own_authorization_is_used_as_it_is(bench: Bench, pair: Pair) -> None:
    upstream = bench.upstream(pair.registry.url(), **with_password())
    await fetch(upstream, manifest())
    request = manifest(authorization=f"Bearer clients-{SECRET}")
    assert SECRET not in repr(request)
    assert (await fetch(upstream, request))[0] == 401
    assert pair.registry.authorizations[-1] == f"Bearer clients-{SECRET}"
    assert len(pair.registry.seen) == 3
    assert len(pair.tokens.seen) == 1


async def test_who_is_to_be_anonymous_brings_nothing(bench: Bench, pair: Pair) -> None:
    upstream = bench.upstream(pair.registry.url(), **with_password())
    await fetch(upstream, manifest())
    assert (await fetch(upstream, manifest(is_anonymous=True)))[0] == 401
    assert pair.registry.authorizations[-1] is None


async def once(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def test_a_body_is_not_risked_without_a_token(bench: Bench, pair: Pair) -> None:
    upstream = bench.upstream(pair.registry.url(), **with_password())
    request = get(
        "/v2/a/b/blobs/uploads/1",
        method="PATCH",
        repository="a/b",
        actions="pull,push",
        body=once(b"layer"),
    )
    assert (await fetch(upstream, request))[0] == 200
    assert pair.registry.targets == ["GET /v2/", "PATCH /v2/a/b/blobs/uploads/1"]
    assert pair.registry.seen[-1].body == b"layer"


async def test_a_body_that_met_a_401_is_gone_and_its_token_too(bench: Bench, pair: Pair) -> None:
    upstream = bench.upstream(pair.registry.url(), **with_password())

    def patch() -> object:
        return fetch(
            upstream,
            get(
                "/v2/a/b/blobs/uploads/1",
                method="PATCH",
                repository="a/b",
                actions="pull,push",
                body=once(b"layer"),
            ),
        )

    await patch()  # type: ignore[misc]  # a coroutine
    pair.realm.valid.clear()
    assert (await patch())[0] == 401  # type: ignore[misc]
    pair.realm.valid["other"] = ""  # so that the next token differs
    assert (await patch())[0] == 200  # type: ignore[misc]


async def test_a_post_without_a_body_is_repeated_with_its_token(bench: Bench, pair: Pair) -> None:
    upstream = bench.upstream(pair.registry.url(), **with_password())
    request = get("/v2/a/b/blobs/uploads/", method="POST", repository="a/b", actions="pull,push")
    assert (await fetch(upstream, request))[0] == 200
    assert [seen.method for seen in pair.registry.seen] == ["POST", "POST"]


async def test_the_catalog_gets_the_scope_its_challenge_names(bench: Bench, pair: Pair) -> None:
    pair.guard.scope_of_all = "registry:catalog:*"
    upstream = bench.upstream(pair.registry.url(), **with_password())
    for _ in range(2):
        assert (await fetch(upstream, get("/v2/_catalog?n=1", actions="*")))[0] == 200
    assert len(pair.registry.seen) == 3


async def test_a_credential_that_cannot_be_had_fails_the_request(bench: Bench, pair: Pair) -> None:
    """And is not left out: another identity sees other content."""
    upstream = bench.upstream(pair.registry.url(), exec=("/nonexistent",))
    error = await failure(upstream.send(manifest()))
    assert "/nonexistent gives no credentials" in str(error)
    assert pair.tokens.seen == []


# Questions about it.


async def test_what_a_registry_asks_for_is_asked_once(bench: Bench, pair: Pair) -> None:
    upstream = bench.upstream(pair.registry.url(), **with_password())
    expected = Challenge(
        "bearer", {"realm": f"{pair.tokens.url()}/token", "service": "registry.test"}
    )
    found = await asyncio.gather(*(upstream.challenge() for _ in range(5)))
    assert found == [expected] * 5
    assert pair.registry.targets == ["GET /v2/"]
    assert pair.registry.authorizations == [None]
    bench.clock.advance(3601)
    await upstream.challenge()
    assert len(pair.registry.seen) == 2


async def test_what_it_asked_for_stands_while_it_is_away(bench: Bench, pair: Pair) -> None:
    statuses = iter([401, 500, 500])
    challenge = {"WWW-Authenticate": 'Basic realm="x"'}

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(status=next(statuses), headers=challenge)

    server = await bench.serve(answer)
    upstream = bench.upstream(server.url())
    first = await upstream.challenge()
    bench.clock.advance(3601)
    assert await upstream.challenge() == first == Challenge("basic", {"realm": "x"})
    fresh = bench.upstream(server.url())
    assert (await failure(fresh.challenge())).status == 500


@pytest.mark.parametrize("status", [200, 204])
async def test_a_registry_that_asks_for_nothing(bench: Bench, status: int) -> None:
    server = await bench.serve(answering(status))
    assert await bench.upstream(server.url()).challenge() is None


@pytest.mark.parametrize("status", [401, 403, 404, 429])
async def test_trouble_is_no_word_on_what_it_asks_for(bench: Bench, status: int) -> None:
    server = await bench.serve(answering(status))
    upstream = bench.upstream(server.url())
    assert (await failure(upstream.challenge())).status == status
    bench.clock.advance(61)
    pushed = get("/v2/a/blobs/uploads/", method="POST", body=once(b"x"))
    assert (await fetch(upstream, pushed))[0] == status


async def test_a_registry_that_cannot_be_asked(bench: Bench) -> None:
    upstream = bench.upstream("http://127.0.0.1:1", settings=timeouts(connect=1))
    assert "Connection refused" in str(await failure(upstream.challenge()))


@pytest.mark.parametrize(
    ("header", "scheme"),
    [
        ('Basic realm="x", Bearer realm="y"', "bearer"),
        ('Negotiate, Basic realm="x"', "basic"),
        ("Negotiate", None),
        ("", None),
    ],
)
def test_bearer_is_preferred(header: str, scheme: str | None) -> None:
    found = choose_challenge({"WWW-Authenticate": header})
    assert (found.scheme if found else None) == scheme


async def test_clients_credentials_go_to_the_realm_too(bench: Bench, pair: Pair) -> None:
    upstream = bench.upstream(pair.registry.url())
    url = f"{pair.tokens.url()}/token?account=me&scope=repository:a:pull"
    answer = await upstream.ask_realm(url, "GET", {"authorization": GOOD_BASIC}, b"")
    assert answer.status == 200
    assert json.loads(answer.body)["token"] == f"{SECRET}-token-0"
    assert SECRET not in repr(answer)
    assert pair.tokens.authorizations == [GOOD_BASIC]
    refused = await upstream.ask_realm(url, "GET", {"authorization": "Basic eA=="}, b"")
    assert refused.status == 401


async def test_a_form_is_posted_once(bench: Bench, pair: Pair) -> None:
    upstream = bench.upstream(pair.registry.url())
    headers = {"content-type": "application/x-www-form-urlencoded"}
    await upstream.ask_realm(pair.tokens.url(), "POST", headers, f"password={SECRET}".encode())
    assert [seen.body for seen in pair.tokens.seen] == [f"password={SECRET}".encode()]


async def test_clients_credentials_do_not_go_to_a_realm_that_is_not_its_own(
    bench: Bench,
) -> None:
    upstream = bench.upstream("http://registry.lan")
    work = upstream.ask_realm("https://auth.lan/t", "GET", {"authorization": GOOD_BASIC}, b"")
    assert "list it under registries.registry.example.realms" in str(await failure(work))


async def test_the_body_of_a_401_is_there_to_be_passed_on(bench: Bench) -> None:
    server = await bench.serve(answering(401, text="denied"))
    response = await bench.upstream(server.url()).send(manifest())
    assert await body_of(response) == b"denied"
