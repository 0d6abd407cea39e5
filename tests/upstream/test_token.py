import asyncio
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

import pytest
from yarl import URL

from entrepot.config.kinds import Secret
from entrepot.errors import UpstreamError
from entrepot.upstream.credentials import Credential
from entrepot.upstream.message import RealmAnswer
from entrepot.upstream.refusals import Refusals
from entrepot.upstream.token import Token, TokenRequest, Tokens, parse_token
from tests.support.clock import ManualClock
from tests.upstream.bench import REGISTRY, SECRET, USER

WANTED = TokenRequest(URL("https://auth.example/token"), "service.example", "repository:a:pull")
ROBOT = Credential(USER, Secret(SECRET))
IDENTITY = Credential("<token>", Secret(SECRET))


class Realm:
    """A token service in memory: numbers its tokens and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, Mapping[str, str], bytes]] = []
        self.status = 200
        self.more: dict[str, Any] = {"expires_in": 300}
        self.refuses_post = 0
        self.is_down = False

    async def __call__(
        self, url: URL, method: str, headers: Mapping[str, str], form: bytes
    ) -> RealmAnswer:
        self.asked.append((method, str(url), headers, form))
        await asyncio.sleep(0)
        if self.is_down:
            raise UpstreamError("token service auth.example: no answer in time")
        if method == "POST" and self.refuses_post:
            return RealmAnswer(self.refuses_post, {}, b"")
        body = {"token": f"{SECRET}-{len(self.asked)}"} | self.more
        return RealmAnswer(self.status, {"Retry-After": "7"}, json.dumps(body).encode())


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def realm() -> Realm:
    return Realm()


@pytest.fixture
def tokens(realm: Realm, clock: ManualClock) -> Tokens:
    return Tokens(realm, clock, Refusals(REGISTRY, clock))


async def test_a_token_is_asked_for_once(tokens: Tokens, realm: Realm) -> None:
    found = await asyncio.gather(*(tokens.get(WANTED, None) for _ in range(10)))
    assert set(found) == {f"{SECRET}-1"}
    assert await tokens.get(WANTED, None) == f"{SECRET}-1"
    assert len(realm.asked) == 1


async def test_how_a_token_is_asked_for(tokens: Tokens, realm: Realm) -> None:
    wanted = TokenRequest(
        URL("https://auth.example/token?x=1"), "s v", "repository:a:pull repository:b:pull,push"
    )
    await tokens.get(wanted, ROBOT)
    method, url, headers, _ = realm.asked[0]
    assert method == "GET"
    assert parse_qs(url.partition("?")[2]) == {
        "x": ["1"],
        "service": ["s v"],
        "scope": ["repository:a:pull", "repository:b:pull,push"],
    }
    assert headers["Authorization"].startswith("Basic ")


async def test_without_service_and_scope_the_realm_is_asked_as_it_is(
    tokens: Tokens, realm: Realm
) -> None:
    await tokens.get(TokenRequest(URL("https://auth.example/token"), "", ""), None)
    assert realm.asked == [("GET", "https://auth.example/token", {}, b"")]


async def test_tokens_differ_by_scope_and_credential(tokens: Tokens, realm: Realm) -> None:
    other = TokenRequest(WANTED.realm, WANTED.service, "repository:b:pull")
    found = {
        await tokens.get(WANTED, None),
        await tokens.get(WANTED, ROBOT),
        await tokens.get(WANTED, Credential(USER, Secret("another"))),
        await tokens.get(other, None),
    }
    assert len(found) == len(realm.asked) == 4


@pytest.mark.parametrize(
    ("expires_in", "fresh_for"),
    [(300, 240), (60, 48), (None, 48), ("90", 72), (0, 48), (-1, 48), ("x", 48), (1e9, 43140)],
)
async def test_a_token_is_used_until_shortly_before_it_expires(
    tokens: Tokens, realm: Realm, clock: ManualClock, expires_in: object, fresh_for: float
) -> None:
    realm.more = {} if expires_in is None else {"expires_in": expires_in}
    await tokens.get(WANTED, None)
    clock.advance(fresh_for - 1)
    await tokens.get(WANTED, None)
    assert len(realm.asked) == 1
    clock.advance(1)
    await tokens.get(WANTED, None)
    assert len(realm.asked) == 2


async def test_a_token_that_still_holds_bridges_an_outage(
    tokens: Tokens, realm: Realm, clock: ManualClock
) -> None:
    await tokens.get(WANTED, None)
    realm.is_down = True
    clock.advance(299)
    assert await tokens.get(WANTED, None) == f"{SECRET}-1"
    clock.advance(1)
    with pytest.raises(UpstreamError, match="no answer in time"):
        await tokens.get(WANTED, None)


async def test_a_forgotten_token_is_asked_for_again(tokens: Tokens, realm: Realm) -> None:
    first = await tokens.get(WANTED, None)
    assert first is not None
    tokens.forget("unrelated")
    assert await tokens.get(WANTED, None) == first
    tokens.forget(first)
    assert await tokens.get(WANTED, None) != first


@pytest.mark.parametrize("status", [401, 403])
async def test_a_no_is_believed_for_a_moment(
    tokens: Tokens, realm: Realm, clock: ManualClock, status: int
) -> None:
    realm.status = status
    assert await tokens.get(WANTED, ROBOT) is None
    assert await tokens.get(WANTED, ROBOT) is None
    assert len(realm.asked) == 1
    clock.advance(11)
    realm.status = 200
    assert await tokens.get(WANTED, ROBOT) is not None


async def test_trouble_of_the_token_service_is_an_error_with_its_status(
    tokens: Tokens, realm: Realm
) -> None:
    realm.status = 429
    with pytest.raises(UpstreamError, match=r"auth\.example: the token service answers 429") as got:
        await tokens.get(WANTED, None)
    assert (got.value.status, got.value.retry_after_s) == (429, 7)


@pytest.mark.parametrize("status", [400, 404, 405, 410])
async def test_its_other_refusals_are_no_word_on_content(
    tokens: Tokens, realm: Realm, status: int
) -> None:
    realm.status = status
    with pytest.raises(UpstreamError, match=f"the token service answers {status}") as got:
        await tokens.get(WANTED, None)
    assert got.value.status is None


async def test_an_identity_token_is_posted(tokens: Tokens, realm: Realm) -> None:
    realm.more = {"token": None, "access_token": "access"}
    assert await tokens.get(WANTED, IDENTITY) == "access"
    method, url, headers, form = realm.asked[0]
    assert (method, url) == ("POST", "https://auth.example/token")
    assert headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert parse_qs(form.decode()) == {
        "grant_type": ["refresh_token"],
        "service": ["service.example"],
        "client_id": ["entrepot"],
        "scope": ["repository:a:pull"],
        "refresh_token": [SECRET],
    }


@pytest.mark.parametrize("status", [404, 405])
async def test_where_post_is_not_known_get_is(tokens: Tokens, realm: Realm, status: int) -> None:
    realm.refuses_post = status
    assert await tokens.get(WANTED, IDENTITY) is not None
    assert [asked[0] for asked in realm.asked] == ["POST", "GET"]


async def test_what_is_kept_is_bounded(tokens: Tokens, realm: Realm) -> None:
    for number in range(1100):
        await tokens.get(TokenRequest(WANTED.realm, "", f"repository:r{number}:pull"), None)
    assert len(tokens._kept) == 1024


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'"x"',
        b'{"token":1}',
        b'{"token":"a b"}',
        b'{"token":"a\\r\\nX: y"}',
        b"\xff",
    ],
)
def test_what_is_no_token(body: bytes) -> None:
    assert parse_token(body, 0) is None


def test_a_token_does_not_show_itself() -> None:
    assert SECRET not in repr(Token(SECRET, 0, 0))


async def test_an_answer_without_a_token_is_an_error(tokens: Tokens, realm: Realm) -> None:
    realm.more = {"token": ""}
    with pytest.raises(UpstreamError, match="without a token"):
        await tokens.get(WANTED, None)
