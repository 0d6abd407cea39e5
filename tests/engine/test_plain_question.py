from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from entrepot.engine.plain_question import plain_question
from entrepot.engine.realms import Realm

REALM = Realm("bearer", "https://auth.test/token?fixed=1", "registry.test")
SCOPE = "repository:team/app:pull,push"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_of_a_query_the_scopes_are_left(method: str) -> None:
    query = f"service=%00&account=%ff&scope={SCOPE}&scope=repository:other:pull%20{SCOPE}"
    asked, url, form = plain_question(REALM, method, query, b"")
    assert (asked, form) == ("GET", b"")
    assert url.startswith("https://auth.test/token?")
    assert parse_qs(urlsplit(url).query) == {
        "fixed": ["1"],
        "service": ["registry.test"],
        "scope": [SCOPE, "repository:other:pull"],
    }


@pytest.mark.parametrize(
    "scope",
    [
        "repository:app%00:pull",
        "repository:app:pull,%27",
        "repository:%c3%a4:pull",
        "repository:app:",
        "registry:catalog:*",
        "x" * 9000,
        "repository:" + "a" * 256 + ":pull",
    ],
)
def test_nothing_is_left_that_may_be_made_up(scope: str) -> None:
    _, url, _ = plain_question(REALM, "GET", f"scope={scope}", b"")
    assert "scope" not in url


@pytest.mark.parametrize(
    ("shown", "grant"),
    [
        ({"username": "ann", "password": b"p\xe4ss"}, "password"),
        ({"refresh_token": b"a+b"}, "refresh_token"),
    ],
)
def test_of_a_form_the_credentials_are_left_to_the_byte(
    shown: dict[str, bytes], grant: str
) -> None:
    form = {**shown, "grant_type": "made up", "scope": SCOPE, "client_id": "x", "odd": b"\0"}
    method, url, content = plain_question(REALM, "POST", "odd=1", urlencode(form).encode())
    assert (method, url) == ("POST", REALM.url)
    expected = {
        "grant_type": grant,
        "service": "registry.test",
        "client_id": "entrepot",
        "scope": SCOPE,
        **shown,
    }
    assert content.decode() == urlencode(expected)
