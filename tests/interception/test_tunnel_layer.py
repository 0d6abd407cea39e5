import pytest
from mitmproxy.connection import ConnectionState, Server
from mitmproxy.proxy import events
from mitmproxy.proxy.commands import Command, OpenConnection, RequestWakeup, SendData
from mitmproxy.proxy.context import Context

from entrepot.interception.tunnel_layer import HELD_MAX, EntrepotPaceHook, TunnelLayer
from tests.interception.conversation import (
    Conversation,
    closed,
    every,
    half_closed,
    only,
    status_of,
)

FIRST, SECOND, THIRD = ("2001:db8::1", 443), ("192.0.2.2", 443), ("192.0.2.3", 443)
GREETING = b"HTTP/1.1 200 Connection established\r\n\r\n"
TIMEOUT_S, ATTEMPT_S = 10.0, 0.25


class Tunnel(Conversation):
    """With what becomes of the connections that it asks for."""

    def __init__(
        self,
        *addresses: tuple[str, int],
        opening: bytes = b"",
        greeting: bytes = GREETING,
    ) -> None:
        self.attempts: list[OpenConnection] = []

        def layer(context: Context) -> TunnelLayer:
            return TunnelLayer(
                context,
                addresses,
                greeting=greeting,
                opening=opening,
                connect_timeout_s=TIMEOUT_S,
            )

        super().__init__(layer)

    def tell(self, event: events.Event) -> list[Command]:
        told = super().tell(event)
        self.attempts += every(told, OpenConnection)
        return told

    @property
    def tried(self) -> list[object]:
        return [attempt.connection.address for attempt in self.attempts]

    def server(self, number: int = 0) -> Server:
        return self.attempts[number].connection

    def answers(self, number: int = 0) -> list[Command]:
        self.server(number).state = ConnectionState.OPEN
        return self.tell(events.OpenConnectionCompleted(self.attempts[number], None))

    def fails(self, number: int = 0) -> list[Command]:
        return self.tell(events.OpenConnectionCompleted(self.attempts[number], "refused"))

    def hear_server(self, data: bytes, number: int = 0) -> list[Command]:
        return self.tell(events.DataReceived(self.server(number), data))


def sent_to(server: Server, told: list[Command]) -> bytes:
    return b"".join(each.data for each in every(told, SendData) if each.connection is server)


class TestConnecting:
    def test_the_client_hears_of_it_when_it_stands(self) -> None:
        tunnel = Tunnel(FIRST)
        assert tunnel.tried == [FIRST]
        assert tunnel.sent == b""
        tunnel.answers()
        assert tunnel.sent == GREETING
        assert tunnel.context.server is tunnel.server()

    def test_opening_data_comes_first_and_in_order(self) -> None:
        tunnel = Tunnel(FIRST, opening=b"one ")
        assert tunnel.hear(b"two ") == []
        tunnel.hear(b"three")
        assert sent_to(tunnel.server(), tunnel.answers()) == b"one two three"
        assert sent_to(tunnel.server(), tunnel.hear(b"four")) == b"four"

    def test_without_a_greeting_nothing_is_said(self) -> None:
        tunnel = Tunnel(FIRST, greeting=b"", opening=b"GET / HTTP/1.1\r\n\r\n")
        tunnel.answers()
        assert tunnel.sent == b""

    def test_a_client_that_sends_much_is_to_wait(self) -> None:
        tunnel = Tunnel(FIRST)
        assert every(tunnel.hear(bytes(HELD_MAX)), EntrepotPaceHook) == []
        for _ in range(3):
            assert not only(tunnel.hear(b"x"), EntrepotPaceHook).pace.may_read
        told = tunnel.answers()
        assert only(told, EntrepotPaceHook).pace.may_read
        assert len(sent_to(tunnel.server(), told)) == HELD_MAX + 3

    def test_a_client_that_leaves(self) -> None:
        tunnel = Tunnel(FIRST, SECOND)
        tunnel.ring()
        assert closed(tunnel.lose()) == [tunnel.client, tunnel.server(0), tunnel.server(1)]
        assert tunnel.answers() == []


class TestSeveralAddresses:
    """RFC 8305: nobody waits for a dead address, nor for a slow one alone."""

    def test_one_that_fails_is_followed_at_once(self) -> None:
        tunnel = Tunnel(FIRST, SECOND)
        tunnel.fails()
        assert tunnel.tried == [FIRST, SECOND]
        tunnel.answers(1)
        assert tunnel.sent == GREETING
        assert tunnel.context.server is tunnel.server(1)

    def test_beside_a_slow_one_the_next_is_tried(self) -> None:
        tunnel = Tunnel(FIRST, SECOND, THIRD)
        assert [timer.delay for timer in tunnel.timers] == [TIMEOUT_S, ATTEMPT_S]
        tunnel.ring()
        tunnel.ring()
        assert tunnel.tried == [FIRST, SECOND, THIRD]
        assert len(tunnel.timers) == 3  # after the last there is nothing to try

    def test_the_first_to_answer_has_it_and_the_others_are_closed(self) -> None:
        tunnel = Tunnel(FIRST, SECOND, THIRD)
        tunnel.ring()
        told = tunnel.answers(1)
        assert closed(told) == [tunnel.server(0)]
        assert tunnel.tried == [FIRST, SECOND]
        assert tunnel.ring() == []

    def test_one_that_answers_too_late_is_closed(self) -> None:
        tunnel = Tunnel(FIRST, SECOND)
        tunnel.ring()
        tunnel.answers(1)
        assert closed(tunnel.answers(0)) == [tunnel.server(0)]
        assert tunnel.lose(tunnel.server(0)) == []
        assert tunnel.fails(0) == []
        assert tunnel.sent == GREETING

    def test_a_failure_beside_others_is_not_the_end(self) -> None:
        tunnel = Tunnel(FIRST, SECOND)
        tunnel.ring()
        assert tunnel.fails(0) == []
        tunnel.answers(1)
        assert tunnel.sent == GREETING

    def test_a_timer_that_is_left_over_does_no_harm(self) -> None:
        tunnel = Tunnel(FIRST, SECOND)
        tunnel.fails()
        assert tunnel.ring() == []

    def test_all_dead(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level("INFO")
        tunnel = Tunnel(FIRST, SECOND)
        tunnel.fails(0)
        told = tunnel.fails(1)
        assert status_of(tunnel.sent) == 504
        assert closed(told) == [tunnel.client]
        assert "to 2001:db8::1 port 443, 192.0.2.2 port 443 got 504" in caplog.text

    def test_none_in_time(self) -> None:
        tunnel = Tunnel(FIRST, SECOND)
        deadline = tunnel.timers[0]
        tunnel.ring()
        told = tunnel.ring(deadline)
        assert status_of(tunnel.sent) == 504
        assert closed(told) == [tunnel.client, tunnel.server(0), tunnel.server(1)]
        assert tunnel.answers(0) == []

    def test_the_deadline_is_for_connecting_alone(self) -> None:
        tunnel = Tunnel(FIRST)
        tunnel.answers()
        assert tunnel.ring(tunnel.timers[0]) == []


class TestStanding:
    @pytest.fixture
    def tunnel(self) -> Tunnel:
        tunnel = Tunnel(FIRST)
        tunnel.answers()
        tunnel.taken()
        return tunnel

    def test_bytes_go_both_ways(self, tunnel: Tunnel) -> None:
        assert sent_to(tunnel.server(), tunnel.hear(b"\x00up")) == b"\x00up"
        tunnel.hear_server(b"down\xff")
        assert tunnel.sent == b"down\xff"

    def test_a_client_that_has_said_all_still_hears(self, tunnel: Tunnel) -> None:
        told = tunnel.lose()
        assert half_closed(told) == [tunnel.server()]
        assert closed(told) == []
        tunnel.hear_server(b"answer")
        assert tunnel.sent == b"answer"
        assert closed(tunnel.lose(tunnel.server())) == [tunnel.client, tunnel.server()]

    def test_so_does_a_server(self, tunnel: Tunnel) -> None:
        assert half_closed(tunnel.lose(tunnel.server())) == [tunnel.client]
        assert sent_to(tunnel.server(), tunnel.hear(b"more")) == b"more"
        assert closed(tunnel.lose()) == [tunnel.client, tunnel.server()]

    def test_after_its_end_nothing_happens(self, tunnel: Tunnel) -> None:
        tunnel.lose()
        tunnel.lose(tunnel.server())
        assert tunnel.hear(b"late") == []

    def test_other_events_are_nothing_to_it(self, tunnel: Tunnel) -> None:
        assert tunnel.tell(events.Event()) == []


def test_nothing_is_asked_for_by_a_timer_once_it_stands() -> None:
    tunnel = Tunnel(FIRST, SECOND)
    tunnel.answers()
    assert every(tunnel.ring(), RequestWakeup) == []
    assert tunnel.tried == [FIRST]
