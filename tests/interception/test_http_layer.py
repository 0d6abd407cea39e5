import asyncio

import pytest
from mitmproxy.proxy import events
from mitmproxy.proxy.commands import Command, RequestWakeup
from mitmproxy.proxy.context import Context

from entrepot.interception.http_layer import (
    LINGER_S,
    ClientExchange,
    EntrepotExchangeHook,
    ExchangeEnded,
    HttpLayer,
    Output,
    Place,
)
from tests.interception.conversation import (
    Conversation,
    closed,
    every,
    half_closed,
    only,
    status_of,
)

PLACE = Place("https", "registry.test:443")


def get(path: str = "/") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: registry.test\r\n\r\n".encode()


def put(length: int, body: bytes = b"") -> bytes:
    fields = f"Host: registry.test\r\nContent-Length: {length}"
    return f"PUT / HTTP/1.1\r\n{fields}\r\n\r\n".encode() + body


def make(header_timeout_s: float = 60) -> Conversation:
    def layer(context: Context) -> HttpLayer:
        return HttpLayer(context, PLACE, header_timeout_s=header_timeout_s)

    return Conversation(layer)


@pytest.fixture
def talk() -> Conversation:
    return make()


def asked(told: list[Command]) -> ClientExchange:
    """The exchange that was begun."""
    return only(told, EntrepotExchangeHook).exchange


def end(talk: Conversation, exchange: ClientExchange, *, keep_alive: bool = True) -> list[Command]:
    return talk.tell(ExchangeEnded(exchange, keep_alive))


def body_of(exchange: ClientExchange) -> bytes:
    assert exchange.body.is_complete

    async def read() -> bytes:
        return b"".join([piece async for piece in exchange.body.pieces(1, exchange.cancel)])

    return asyncio.run(read())


class TestRequests:
    def test_a_request_begins_an_exchange(self, talk: Conversation) -> None:
        exchange = asked(talk.hear(get("/v2/")))
        assert exchange.head.target == "/v2/"
        assert exchange.place == PLACE
        assert exchange.context is talk.context
        assert body_of(exchange) == b""

    def test_what_the_exchange_says_goes_to_the_client(self, talk: Conversation) -> None:
        exchange = asked(talk.hear(get()))
        talk.tell(Output(exchange, b"HTTP/1.1 200 OK\r\n"))
        talk.tell(Output(exchange, b"\r\n"))
        assert talk.sent == b"HTTP/1.1 200 OK\r\n\r\n"

    def test_the_next_comes_down_the_same_connection(self, talk: Conversation) -> None:
        first = asked(talk.hear(get("/1")))
        assert end(talk, first) == []
        assert asked(talk.hear(get("/2"))).head.target == "/2"

    def test_bodies_come_as_they_arrive(self, talk: Conversation) -> None:
        exchange = asked(talk.hear(put(6, b"ab")))
        assert not exchange.body.is_complete
        assert talk.hear(b"cd") == []
        assert talk.hear(b"ef") == []
        assert body_of(exchange) == b"abcdef"

    def test_a_head_in_pieces(self, talk: Conversation) -> None:
        whole = get()
        for byte in whole[:-1]:
            assert every(talk.hear(bytes([byte])), EntrepotExchangeHook) == []
        assert asked(talk.hear(whole[-1:])).head.method == "GET"

    def test_other_events_are_nothing_to_it(self, talk: Conversation) -> None:
        assert talk.opening == []
        assert talk.tell(events.Event()) == []


class TestPipelining:
    """No client of registries does it; what comes early waits for its turn."""

    def test_answers_come_in_order(self, talk: Conversation) -> None:
        told = talk.hear(get("/1") + get("/2") + get("/3"))
        targets = []
        for number in range(3):
            exchange = asked(told)
            targets.append(exchange.head.target)
            talk.tell(Output(exchange, b"%d" % number))
            told = end(talk, exchange)
        assert targets == ["/1", "/2", "/3"]
        assert talk.sent == b"012"

    def test_a_body_belongs_to_the_request_before_it(self, talk: Conversation) -> None:
        first = asked(talk.hear(put(2, b"ab") + put(2, b"cd")))
        second = asked(end(talk, first))
        assert body_of(second) == b"cd"

    def test_the_last_exchange_drops_what_waits_behind_it(self, talk: Conversation) -> None:
        first = asked(talk.hear(get("/1") + get("/2")))
        assert closed(end(talk, first, keep_alive=False)) == [talk.client]

    def test_a_flood_ends_the_connection(self, talk: Conversation) -> None:
        told = talk.hear(get() * 100)
        assert closed(told) == [talk.client]
        assert asked(told).ended_because == "the client went away"

    def test_what_a_former_exchange_says_is_not_for_the_next(self, talk: Conversation) -> None:
        first = asked(talk.hear(get("/1") + get("/2")))
        end(talk, first)
        assert talk.tell(Output(first, b"late")) == []
        assert end(talk, first, keep_alive=False) == []


class TestEnds:
    def test_the_last_answer_ends_the_connection(self, talk: Conversation) -> None:
        exchange = asked(talk.hear(get()))
        assert closed(end(talk, exchange, keep_alive=False)) == [talk.client]

    async def test_a_client_that_leaves_cancels_its_exchange(self, talk: Conversation) -> None:
        exchange = asked(talk.hear(put(5, b"ab")))
        async with asyncio.TaskGroup() as tasks:
            exchange.task = task = tasks.create_task(asyncio.Event().wait())
            assert closed(talk.lose()) == [talk.client]
        assert task.cancelled()
        with pytest.raises(ConnectionResetError):
            [piece async for piece in exchange.body.pieces(1, exchange.cancel)]

    def test_a_client_that_leaves_between_requests(self, talk: Conversation) -> None:
        assert closed(talk.lose()) == [talk.client]

    def test_an_end_that_comes_after_the_client_left(self, talk: Conversation) -> None:
        exchange = asked(talk.hear(get()))
        talk.lose()
        assert talk.tell(Output(exchange, b"late")) == []
        assert end(talk, exchange) == []


class TestUnreadBodies:
    """Of requests that were answered before they were whole."""

    def test_the_rest_is_not_taken_for_a_request(self, talk: Conversation) -> None:
        exchange = asked(talk.hear(put(100)))
        told = end(talk, exchange, keep_alive=True)
        assert half_closed(told) == [talk.client]
        assert every(talk.hear(get()), EntrepotExchangeHook) == []

    def test_it_may_come_and_is_not_kept(self, talk: Conversation) -> None:
        exchange = asked(talk.hear(put(1 << 30)))
        paces: list[bool] = []
        exchange.body.pace = paces.append
        while not paces:
            talk.hear(bytes(65_536))
        end(talk, exchange)
        assert paces == [False, True]

    def test_one_that_is_whole_does_not_stop_the_next_request(self, talk: Conversation) -> None:
        exchange = asked(talk.hear(put(2_000_000)))
        paces: list[bool] = []
        exchange.body.pace = paces.append
        talk.hear(bytes(2_000_000))
        assert end(talk, exchange) == []
        assert paces[-1] is True
        assert asked(talk.hear(get("/2"))).head.target == "/2"


class TestLingering:
    """After the last word the client is heard out: closing at once would lose that word."""

    @pytest.fixture
    def refused(self, talk: Conversation) -> Conversation:
        told = talk.hear(b"BOGUS\r\n\r\n")
        assert half_closed(told) == [talk.client]
        assert closed(told) == []
        return talk

    def test_it_lasts_for_a_time(self, refused: Conversation) -> None:
        assert refused.timers[-1].delay == LINGER_S
        assert closed(refused.ring()) == [refused.client]

    def test_or_until_the_client_has_gone(self, refused: Conversation) -> None:
        assert closed(refused.lose()) == [refused.client]

    def test_what_it_says_meanwhile_counts_for_nothing(self, refused: Conversation) -> None:
        refused.taken()
        assert refused.hear(get()) == []
        assert refused.sent == b""

    def test_other_timers_do_not_shorten_it(self) -> None:
        talk = make()
        talk.hear(b"GET / HT")
        timer = talk.timers[0]
        talk.hear(b"\x01")
        assert talk.ring(timer) == []


class TestBadRequests:
    def test_they_are_answered(self, talk: Conversation) -> None:
        talk.hear(b"GET / HTTP/1.1\r\n\r\n")
        assert status_of(talk.sent) == 400

    def test_but_not_into_the_answer_to_another(self, talk: Conversation) -> None:
        exchange = asked(talk.hear(put(10)))
        told = talk.hear(b"x" * 10 + b"\x01")
        assert closed(told) == [talk.client]
        assert talk.sent == b""
        assert exchange.ended_because


class TestHeaderTimeout:
    def test_a_head_that_is_not_whole_in_time(self) -> None:
        talk = make(header_timeout_s=0)
        talk.hear(b"GET / HT")
        told = talk.ring()
        assert status_of(talk.sent) == 408
        assert half_closed(told) == [talk.client]

    def test_one_that_is(self) -> None:
        talk = make(header_timeout_s=0)
        talk.hear(b"GET / HT")
        talk.hear(b"TP/1.1\r\nHost: a\r\n\r\n")
        assert talk.ring() == []

    def test_it_is_for_heads_alone(self) -> None:
        talk = make(header_timeout_s=0)
        talk.hear(put(10, b"x"))
        assert talk.timers == []

    def test_for_one_that_waits_behind_another(self) -> None:
        talk = make(header_timeout_s=0)
        exchange = asked(talk.hear(get() + b"GET /2"))
        end(talk, exchange)
        talk.ring()
        assert status_of(talk.sent) == 408

    def test_time_runs_for_each_head_anew_by_one_timer(self) -> None:
        talk = make()
        for _ in range(10):
            talk.hear(get()[:-3])
            end(talk, asked(talk.hear(get()[-3:])))
        assert [timer.delay for timer in talk.timers] == [60]
        talk.hear(b"G")
        (again,) = every(talk.ring(), RequestWakeup)
        assert 0 < again.delay <= 60
        assert talk.hear(b"ET") == []
