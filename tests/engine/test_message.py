import pytest

from entrepot.engine.message import Headers, Request, Response


def test_names_are_found_in_any_case_and_repeated_ones_joined() -> None:
    headers = Headers([("Accept", "a/b"), ("ACCEPT", "c/d"), ("Host", "x")])
    assert headers["accept"] == headers["Accept"] == "a/b, c/d"
    assert "HOST" in headers
    odd: object = 5
    assert odd not in headers
    assert list(headers) == ["accept", "host"]
    assert len(headers) == 2


def test_values_do_not_show() -> None:
    assert repr(Headers([("Authorization", "Basic abc")])) == "Headers(authorization)"


@pytest.mark.parametrize(("query", "target"), [("", "/v2/"), ("n=1", "/v2/?n=1")])
def test_the_target_is_path_and_query(query: str, target: str) -> None:
    assert Request(method="GET", path="/v2/", query=query).target == target


class Closing:
    is_closed = False

    async def read(self, size: int) -> bytes:
        return b""

    async def aclose(self) -> None:
        self.is_closed = True


async def test_the_length_is_of_what_is_sent_or_would_be() -> None:
    assert Response(200, body=b"abc").content_length == 3
    assert Response(200, body=b"", length=7).content_length == 7  # to a HEAD
    assert Response(200, body=Closing()).content_length is None
    assert Response(200, body=Closing(), length=7).content_length == 7


async def test_closing_a_response_closes_its_body() -> None:
    body = Closing()
    await Response(200, body=body).aclose()
    assert body.is_closed
    await Response(200, body=b"abc").aclose()
