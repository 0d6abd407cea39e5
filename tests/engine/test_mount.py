import pytest

from entrepot.cache.permission import UNLIMITED, Grant, LocalAccess, RepositoryRules
from entrepot.config.local import AccessRule, LocalRegistry
from entrepot.config.model import Registry, RepositoryRule
from entrepot.engine.message import Headers, Request
from entrepot.engine.mount import without_foreign_mount

RULES = RepositoryRules(Registry(rules=(RepositoryRule(match="secret/*", pull="deny"),)))
GRANT = Grant("registry.test", "", RULES)
FORM = "application/x-www-form-urlencoded"


def begun(query: str, content_type: str = "") -> Request:
    headers = Headers([("Content-Type", content_type)] if content_type else [])
    request = Request(method="POST", path="/v2/app/blobs/uploads/", query=query, headers=headers)
    return without_foreign_mount(request, GRANT)


@pytest.mark.parametrize(
    "query",
    [
        "",
        "mount=sha256:a&from=open/app",
        "mount=sha256:a&from=open%2Fapp",
        "from=open/app&mount=sha256:a&from=other",
        "digest=sha256:a&_state=x%3D%26from%3Dsecret",
    ],
)
def test_what_may_be_pulled_is_mounted(query: str) -> None:
    assert begun(query).query == query


@pytest.mark.parametrize(
    ("query", "left"),
    [
        ("mount=sha256:a&from=secret/app", ""),
        ("mount=sha256:a&from=secret%2fapp&x=1", "x=1"),
        ("%6dount=sha256:a&%66rom=secret/app", ""),
        ("mount=sha256:a&from=open/app&from=secret/app", ""),
        ("mount=sha256:a&mount=sha256:b&from=secret/app&n=%20", "n=%20"),
        ("mount=sha256:a", ""),  # from wherever it is
        ("mount=sha256:a&from=", ""),
        ("mount=sha256:a&from=Secret/App", ""),
        ("mount=sha256:a&from=secret/app/../../open/app", ""),
        ("x=1;mount=sha256:a;from=secret/app", "x=1"),
        ("Mount=sha256:a&From=secret/app", ""),
        ("+mount=sha256:a&+from=secret/app", ""),
    ],
)
def test_what_may_not_is_begun_as_any_other_upload(query: str, left: str) -> None:
    assert begun(query).query == left


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        (FORM, "application/octet-stream"),
        (f"{FORM}; charset=utf-8", "application/octet-stream"),
        ("Multipart/Form-Data; boundary=x", "application/octet-stream"),
        ("application/octet-stream", "application/octet-stream"),
        ("text/plain", "text/plain"),
    ],
)
def test_a_body_holds_no_parameters(given: str, sent: str) -> None:
    for query in ("", "mount=sha256:a&from=secret/app", "mount=sha256:a&from=open/app"):
        assert begun(query, given).headers["content-type"] == sent


def test_it_is_by_user() -> None:
    rule = AccessRule(match="team/*", users=("amy",), allow=("pull",))
    access = LocalAccess(LocalRegistry(access=(rule, AccessRule(match="team/*"))))
    query = "mount=sha256:a&from=team/app"
    request = Request(method="POST", path="/v2/app/blobs/uploads/", query=query)
    left = [
        without_foreign_mount(request, grant).query
        for grant in (Grant("x", "amy", access), Grant("x", "bob", access), UNLIMITED)
    ]
    assert left == [query, "", query]
