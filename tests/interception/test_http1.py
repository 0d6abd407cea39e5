import json
import time
from collections.abc import Iterable
from contextlib import suppress
from email.utils import parsedate_to_datetime

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.interception.http1 import (
    CONTINUE,
    LAST_CHUNK,
    MAX_HEAD,
    MAX_HEADERS,
    MAX_TARGET,
    BadRequest,
    BodyData,
    BodyEnd,
    Event,
    Head,
    RequestParser,
    chunk,
    date,
    refusal,
    response_head,
)

HOST = b"Host: registry.test\r\n"


def parse(*pieces: bytes) -> list[Event]:
    parser = RequestParser()
    return [event for piece in pieces for event in parser.feed(piece)]


def head_of(data: bytes) -> Head:
    head = parse(data)[0]
    assert isinstance(head, Head)
    return head


def joined(parsed: Iterable[Event]) -> list[Event]:
    """Where a body is cut says nothing."""
    result: list[Event] = []
    for event in parsed:
        if isinstance(event, BodyData) and result and isinstance(result[-1], BodyData):
            result[-1] = BodyData(result[-1].data + event.data)
        else:
            result.append(event)
    return result


def refused(data: bytes) -> BadRequest:
    with pytest.raises(BadRequest) as raised:
        parse(data)
    return raised.value


class TestHead:
    def test_what_it_holds(self) -> None:
        head = head_of(b"GET /v2/?n=1 HTTP/1.1\r\nHost: registry.test\r\nX-Two:  a b \r\n\r\n")
        assert (head.method, head.target) == ("GET", "/v2/?n=1")
        assert head.headers == [("host", "registry.test"), ("x-two", "a b")]
        assert head.keep_alive
        assert not head.is_http10
        assert not head.has_body

    @pytest.mark.parametrize(
        ("version", "connection", "is_kept"),
        [
            (b"1.1", b"", True),
            (b"1.1", b"Connection: close\r\n", False),
            (b"1.1", b"Connection: keep-alive\r\n", True),
            (b"1.0", b"", False),
            (b"1.0", b"Connection: keep-alive\r\n", True),
        ],
    )
    def test_whether_the_connection_is_kept(
        self, *, version: bytes, connection: bytes, is_kept: bool
    ) -> None:
        head = head_of(b"GET / HTTP/" + version + b"\r\n" + HOST + connection + b"\r\n")
        assert head.keep_alive is is_kept
        assert head.is_http10 is (version == b"1.0")

    @pytest.mark.parametrize(
        ("version", "expected"), [(b"1.1", True), (b"1.0", False)], ids=["1.1", "1.0"]
    )
    def test_100_continue_is_for_those_who_know_it(self, *, version: bytes, expected: bool) -> None:
        fields = HOST + b"Content-Length: 3\r\nExpect: 100-Continue\r\n\r\n"
        assert head_of(b"PUT / HTTP/" + version + b"\r\n" + fields).expects_continue is expected

    def test_without_an_expectation(self) -> None:
        assert not head_of(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n").expects_continue

    def test_http_1_0_needs_no_host(self) -> None:
        assert head_of(b"GET / HTTP/1.0\r\n\r\n").headers == []

    def test_values_are_bytes_beyond_ascii_too(self) -> None:
        head = head_of(b"GET / HTTP/1.1\r\n" + HOST + b"X: \xe4\ttab\r\n\r\n")
        assert head.headers[1] == ("x", "ä\ttab")


class TestBody:
    def test_by_length(self) -> None:
        head, *body = parse(b"PUT / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n\r\nhel", b"lo")
        assert isinstance(head, Head)
        assert head.content_length == 5
        assert head.has_body
        assert joined(body) == [BodyData(b"hello"), BodyEnd()]

    def test_of_no_length(self) -> None:
        head, *body = parse(b"PUT / HTTP/1.1\r\n" + HOST + b"Content-Length: 0\r\n\r\n")
        assert isinstance(head, Head)
        assert head.content_length == 0
        assert not head.has_body
        assert body == [BodyEnd()]

    def test_in_chunks_with_extension_and_trailer(self) -> None:
        head, *body = parse(
            b"PUT / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: Chunked\r\n\r\n"
            b"5;a=b\r\nhello\r\n1\r\n!\r\n0\r\nX-Sum: 1\r\n\r\n"
        )
        assert isinstance(head, Head)
        assert head.is_chunked
        assert head.has_body
        assert joined(body) == [BodyData(b"hello!"), BodyEnd()]

    def test_requests_that_follow_each_other_at_once(self) -> None:
        one = b"PUT /1 HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\n\r\nx"
        two = b"GET /2 HTTP/1.1\r\n" + HOST + b"\r\n"
        kinds = [type(event) for event in parse(one + two)]
        assert kinds == [Head, BodyData, BodyEnd, Head, BodyEnd]


class TestIsInHead:
    """What the header time-out goes by."""

    def test_only_between_the_first_byte_and_the_last(self) -> None:
        parser = RequestParser()
        assert not parser.is_in_head
        parser.feed(b"\r\n")
        assert not parser.is_in_head
        parser.feed(b"PUT / HTTP/1.1\r\n" + HOST)
        assert parser.is_in_head
        parser.feed(b"Content-Length: 2\r\n\r\n")
        assert not parser.is_in_head
        parser.feed(b"ab")
        assert not parser.is_in_head

    def test_for_a_head_that_begins_with_the_end_of_another(self) -> None:
        parser = RequestParser()
        parser.feed(b"GET / HTTP/1.1\r\n" + HOST + b"\r\nG")
        assert parser.is_in_head


@pytest.mark.parametrize(
    "fields",
    [
        b"",
        HOST * 2,
        HOST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        HOST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
        HOST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        HOST + b"Transfer-Encoding: identity\r\n",
        HOST + b"Transfer-Encoding: gzip, chunked\r\n",
        HOST + b"Transfer-Encoding: chunked, identity\r\n",
        HOST + b"Content-Length: 3\r\nContent-Length: 4\r\n",
        HOST + b"Content-Length: +3\r\n",
        HOST + b"Content-Length: 3, 3\r\n",
        HOST + b"Content-Length: 0x3\r\n",
        HOST + b"Content-Length: " + b"9" * 19 + b"\r\n",
        HOST + b"X: a\x00b\r\n",
        HOST + b"X: a\x7fb\r\n",
        HOST + b"X: a\x0bb\r\n",
        HOST + b"X: a\r\n folded\r\n",
        HOST + b"X : a\r\n",
        HOST + b"X\xe4: a\r\n",
        HOST + b"no colon\r\n",
        HOST + b"Connection: upgrade\r\nUpgrade: h2c\r\n",
    ],
)
def test_heads_that_could_be_read_in_two_ways(fields: bytes) -> None:
    assert refused(b"POST / HTTP/1.1\r\n" + fields + b"\r\nabc").status == 400


def test_chunks_are_not_for_http_1_0() -> None:
    assert refused(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n").status == 400


@pytest.mark.parametrize(
    "line",
    [
        b"GET /\xc3\xa4 HTTP/1.1",
        b"GET /\x01 HTTP/1.1",
        b"GET  HTTP/1.1",
        b"GET / HTTP/2.0",
        b"GET /",
        b"get / HTTP/1.1",
        b"M-SEARCH / HTTP/1.1",  # known to llhttp, to no registry
        b"CONNECT a:443 HTTP/1.1",
        b"PRI * HTTP/2.0",
        b"\x16\x03\x01\x02\x00",
    ],
)
def test_request_lines_that_are_none(line: bytes) -> None:
    assert refused(line + b"\r\n" + HOST + b"\r\n").status == 400


class TestBounds:
    def test_a_target(self) -> None:
        def asking(length: int) -> bytes:
            return b"GET /" + b"a" * (length - 1) + b" HTTP/1.1\r\n" + HOST + b"\r\n"

        assert len(head_of(asking(MAX_TARGET)).target) == MAX_TARGET
        assert refused(asking(MAX_TARGET + 1)).status == 414

    def test_the_number_of_fields(self) -> None:
        def asking(count: int) -> bytes:
            return b"GET / HTTP/1.1\r\n" + HOST + b"X: y\r\n" * (count - 1) + b"\r\n"

        assert len(head_of(asking(MAX_HEADERS)).headers) == MAX_HEADERS
        assert refused(asking(MAX_HEADERS + 1)).status == 431

    def test_their_size(self) -> None:
        field = b"X: " + b"y" * 30_000 + b"\r\n"
        assert refused(b"GET / HTTP/1.1\r\n" + HOST + field * 3 + b"\r\n").status == 431

    @pytest.mark.parametrize(
        "start",
        [
            b"GET / HTTP/1.1\r\nX: ",
            b"PUT / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: ",
            b"PUT / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n5;",
        ],
        ids=["head", "trailer", "chunk extension"],
    )
    def test_what_does_not_end(self, start: bytes) -> None:
        """In small pieces: each is within bounds."""
        parser = RequestParser()
        parser.feed(start)
        with pytest.raises(BadRequest) as raised:  # noqa: PT012 - the loop is the attack
            for _ in range(MAX_HEAD // 1000 + 2):
                parser.feed(b"y" * 1000)
        assert raised.value.status == 431

    def test_nothing_but_line_ends(self) -> None:
        parser = RequestParser()
        with pytest.raises(BadRequest):  # noqa: PT012 - as above
            for _ in range(MAX_HEAD):
                parser.feed(b"\r\n")

    def test_a_long_body_is_none_of_these(self) -> None:
        length = 10 * MAX_HEAD
        head = b"PUT / HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % length
        (_, *body) = joined(parse(head, *[b"x" * 1000] * (length // 1000), b"x" * (length % 1000)))
        assert body == [BodyData(b"x" * length), BodyEnd()]


token = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=10).map(lambda t: f"x-{t}")
value = st.text(st.characters(min_codepoint=0x21, max_codepoint=0xFF, exclude_characters="\x7f"))


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Valid ones, with what clients send and what they could."""
    target = "/" + draw(st.text("abc/%?=&0123456789", max_size=20))
    fields = [("host", "registry.test"), *draw(st.lists(st.tuples(token, value), max_size=5))]
    body = draw(st.binary(max_size=50))
    framing = draw(st.sampled_from(["none", "length", "chunks"]))
    if framing == "length":
        fields.append(("content-length", str(len(body))))
    elif framing == "chunks":
        fields.append(("transfer-encoding", "chunked"))
    lines = [f"{draw(st.sampled_from(['GET', 'PUT', 'HEAD']))} {target} HTTP/1.1"]
    lines += [f"{name}: {text}" for name, text in fields]
    head = "\r\n".join([*lines, "", ""]).encode("latin-1")
    if framing == "none":
        return head
    return head + (body if framing == "length" else (chunk(body) if body else b"") + LAST_CHUNK)


@given(st.lists(requests(), min_size=1, max_size=3), st.data())
def test_however_it_is_split_it_says_the_same(asked: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(asked)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(whole)), max_size=10)))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    expected = joined(parse(whole))
    assert sum(isinstance(event, Head) for event in expected) == len(asked)
    assert joined(parse(*pieces)) == expected
    assert joined(parse(*[bytes([byte]) for byte in whole])) == expected


@given(st.lists(st.binary(max_size=100), max_size=5))
def test_whatever_comes_is_taken_or_refused(pieces: list[bytes]) -> None:
    with suppress(BadRequest):
        parse(*pieces)


@given(requests(), st.data())
def test_so_is_what_was_spoilt(asked: bytes, data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(asked) - 1))
    with suppress(BadRequest):
        parse(asked[:position] + data.draw(st.binary(max_size=3)) + asked[position + 1 :])


def answer_of(data: bytes, method: str = "GET") -> tuple[h11.Response, bytes]:
    """As another parser reads it, which takes nothing that is not HTTP/1.1."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("host", "registry.test")]))
    client.send(h11.EndOfMessage())
    client.receive_data(data)
    response, body = client.next_event(), b""
    assert isinstance(response, h11.Response)
    while isinstance(event := client.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage), event
    assert client.trailing_data == (b"", False)
    return response, body


class TestResponse:
    @given(
        st.integers(200, 599).filter(lambda status: status not in {204, 304}),
        st.lists(st.tuples(token, st.text(max_size=20)), max_size=5),
        st.binary(max_size=100),
    )
    def test_another_parser_reads_the_same(
        self, status: int, fields: list[tuple[str, str]], body: bytes
    ) -> None:
        headers = dict(fields) | {"content-length": str(len(body))}
        response, received = answer_of(response_head(status, headers) + body)
        assert response.status_code == status
        assert received == body
        assert [name.decode() for name, _ in response.headers] == list(headers)

    @given(st.lists(st.binary(min_size=1, max_size=50), max_size=5))
    def test_so_it_does_in_chunks(self, pieces: list[bytes]) -> None:
        data = response_head(200, {"Transfer-Encoding": "chunked"})
        data += b"".join(chunk(piece) for piece in pieces) + LAST_CHUNK
        assert answer_of(data)[1] == b"".join(pieces)

    @given(st.text())
    def test_no_value_makes_a_second_header(self, text: str) -> None:
        head = response_head(200, {"X-One": text, "Content-Length": "0"})
        assert head.count(b"\r") == head.count(b"\n") == 4
        assert answer_of(head)[0].headers.raw_items()[0][0] == b"X-One"

    def test_what_cannot_be_said_is_left_out(self) -> None:
        assert b"X: \r\n" in response_head(200, {"X": "a\r\nSet-Cookie: b"})

    def test_reasons(self) -> None:
        assert response_head(404, {}).startswith(b"HTTP/1.1 404 Not Found\r\n")
        assert response_head(299, {}).startswith(b"HTTP/1.1 299 Status\r\n")

    @pytest.mark.parametrize(
        ("status", "code"),
        [
            (400, "UNSUPPORTED"),
            (403, "DENIED"),
            (407, "DENIED"),
            (429, "TOOMANYREQUESTS"),
            (500, "UNAVAILABLE"),
            (504, "UNAVAILABLE"),
        ],
    )
    def test_a_refusal_is_an_oci_error(self, status: int, code: str) -> None:
        response, body = answer_of(refusal(status, 'not "so"'))
        assert response.status_code == status
        assert (b"connection", b"close") in response.headers
        assert json.loads(body)["errors"] == [{"code": code, "message": 'not "so"'}]

    def test_continue_is_provisional(self) -> None:
        client = h11.Connection(h11.CLIENT)
        client.send(h11.Request(method="GET", target="/", headers=[("host", "a")]))
        client.receive_data(CONTINUE)
        event = client.next_event()
        assert isinstance(event, h11.InformationalResponse)
        assert event.status_code == 100


def test_a_date_is_now() -> None:
    before = int(time.time())
    said = parsedate_to_datetime(date())
    assert before <= said.timestamp() <= time.time()
    assert date().endswith(" GMT")
