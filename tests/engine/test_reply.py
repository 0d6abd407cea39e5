import pytest

from entrepot.engine.message import Response, Trace
from entrepot.engine.reply import CacheStatus, content_headers, mark, matches_etag, partial
from entrepot.oci.byte_range import ByteRange
from entrepot.oci.digest import Digest

DIGEST = Digest.of(b"content")


@pytest.mark.parametrize("status", CacheStatus)
def test_how_the_cache_took_part_is_said_to_clients_and_noted(status: CacheStatus) -> None:
    trace = Trace()
    headers = mark(trace, status)
    assert headers["Cache-Status"].startswith("Entrepot; ")
    assert trace.cache == status.word
    assert "Age" not in headers


@pytest.mark.parametrize(("age_s", "age"), [(0, "0"), (59.9, "59"), (-3, "0")])
def test_age_is_in_whole_seconds_and_never_negative(age_s: float, age: str) -> None:
    assert mark(Trace(), CacheStatus.HIT, age_s)["Age"] == age


def test_content_is_named() -> None:
    headers = content_headers(DIGEST, "a/b")
    assert headers["Content-Type"] == "a/b"
    assert headers["Docker-Content-Digest"] == str(DIGEST)
    assert headers["ETag"] == f'"{DIGEST}"'
    assert headers["Docker-Distribution-Api-Version"] == "registry/2.0"


def test_a_part() -> None:
    response = partial(Response(200, length=10), ByteRange(2, 5), 10)
    assert response.status == 206
    assert response.headers["Content-Range"] == "bytes 2-4/10"
    assert response.length == 3


@pytest.mark.parametrize(
    ("header", "matches"),
    [
        (None, False),
        ("", False),
        ("*", True),
        (f'"{DIGEST}"', True),
        (str(DIGEST), True),
        (f'W/"{DIGEST}"', True),
        (f'"other", "{DIGEST}"', True),
        ('"other"', False),
        (f'"{DIGEST}x"', False),
        ("Wed, 21 Oct 2015 07:28:00 GMT", False),
    ],
)
def test_etags(header: str | None, *, matches: bool) -> None:
    assert matches_etag(header, DIGEST) is matches
