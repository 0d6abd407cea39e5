import asyncio
import os
import random
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from mitmproxy.connection import Client as ClientConnection
from mitmproxy.connection import ConnectionState
from mitmproxy.proxy.events import DataReceived, Event
from mitmproxy.proxy.mode_specs import ProxyMode
from OpenSSL import SSL

from entrepot.config.kinds import Bytes, Seconds
from entrepot.config.model import Clients, Storage
from entrepot.engine.body import ContentBody, FillBody, PassedBody, Window
from entrepot.engine.fill import HOLD_BACK, Fill
from entrepot.engine.message import Request, Response
from entrepot.interception.lane import (
    SLICE,
    Buffers,
    Lane,
    Sent,
    Stint,
    WaitingRoom,
    read_cached,
)
from entrepot.oci.byte_range import ByteRange
from entrepot.oci.digest import Digest
from entrepot.oci.media_type import OCTET_STREAM
from entrepot.storage.disk import DiskStore, open_disk_store
from entrepot.storage.disk.reading import OpenFile
from tests.engine.filling import BROKE, Step, fill_of, whole
from tests.interception.leaves import HOST, Leaves
from tests.interception.sockets import Street
from tests.interception.stage import GET
from tests.support.clock import ManualClock

MIB = 1 << 20
BODY = random.Random(1).randbytes(8 * MIB)
DIGEST = Digest.of(BODY)
BOTH = pytest.mark.parametrize("is_tls", [True, False], ids=["tls", "plain"])


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[DiskStore]:
    store = open_disk_store(tmp_path, Storage(min_free=Bytes(0)), ManualClock())
    yield store
    await store.aclose()


@pytest.fixture
async def stored(store: DiskStore) -> DiskStore:
    draft = await store.draft(DIGEST)
    await draft.write(BODY)
    await draft.commit(OCTET_STREAM)
    draft.close()
    return store


def serving(store: DiskStore, *, is_tls: bool = True, span: ByteRange | None = None) -> Street:
    wanted = span or ByteRange(0, len(BODY))

    async def answer(request: Request) -> Response:
        if request.path == "/small":
            return Response(200, {}, b"small")
        content = await store.open(DIGEST)
        assert content is not None
        return Response(200, {}, ContentBody(content, wanted), len(wanted))

    return Street(answer, is_tls=is_tls)


SMALL = GET.replace(b"/v2/", b"/small")


class TestStored:
    @BOTH
    async def test_it_comes_whole_and_by_the_lane(self, stored: DiskStore, *, is_tls: bool) -> None:
        street = serving(stored, is_tls=is_tls)
        async with street.open(), street.client() as client:
            await client.ask()
            assert await client.read(len(BODY)) == BODY
            await street.ended()
            assert street.runner.lane.carried > len(BODY) // 2
        assert street.observed[0].sent == len(BODY)
        assert street.observed[0].is_whole

    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    async def test_in_each_version_of_tls(self, stored: DiskStore, version: ssl.TLSVersion) -> None:
        street = serving(stored)
        street.version = version
        async with street.open(), street.client() as client:
            await client.ask()
            assert await client.read(len(BODY)) == BODY
            await street.ended()
            assert street.runner.lane.carried

    @BOTH
    @pytest.mark.parametrize(
        "span", [ByteRange(1, 2 * MIB), ByteRange(MIB - 1, len(BODY)), ByteRange(5, 70_005)]
    )
    async def test_a_range(self, stored: DiskStore, span: ByteRange, *, is_tls: bool) -> None:
        street = serving(stored, is_tls=is_tls, span=span)
        async with street.open(), street.client() as client:
            await client.ask()
            assert await client.read(len(span)) == BODY[span.start : span.stop]
            assert await client.ask(SMALL)
            assert await client.read(5) == b"small"
            assert street.runner.lane.carried

    @BOTH
    async def test_the_connection_serves_on(self, stored: DiskStore, *, is_tls: bool) -> None:
        street = serving(stored, is_tls=is_tls)
        async with street.open(), street.client() as client:
            for _ in range(3):
                await client.ask()
                assert await client.read(len(BODY)) == BODY
                await client.ask(SMALL)
                assert await client.read(5) == b"small"
        assert len(street.handlers) == 1

    @BOTH
    async def test_what_the_client_asks_meanwhile_comes_next(
        self, stored: DiskStore, *, is_tls: bool
    ) -> None:
        street = serving(stored, is_tls=is_tls)
        async with street.open(), street.client() as client:
            await client.ask()
            begun = await client.read(100_000)
            client.writer.write(SMALL + SMALL)
            assert begun + await client.read(len(BODY) - len(begun)) == BODY
            for _ in range(2):
                await client.head()
                assert await client.read(5) == b"small"

    @BOTH
    async def test_many_at_once(self, stored: DiskStore, *, is_tls: bool) -> None:
        street = serving(stored, is_tls=is_tls)
        async with street.open(), AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(street.client()) for _ in range(12)]

            async def take(number: int) -> bytes:
                await clients[number].ask()
                return await clients[number].read(len(BODY))

            taken = await asyncio.gather(*(take(number) for number in range(len(clients))))
            assert all(body == BODY for body in taken)
        assert threading.active_count() < 30

    @BOTH
    async def test_what_the_page_cache_has_not_goes_through_the_layers(
        self, stored: DiskStore, monkeypatch: pytest.MonkeyPatch, *, is_tls: bool
    ) -> None:
        monkeypatch.setattr("entrepot.interception.lane.read_cached", lambda *_: 0)
        street = serving(stored, is_tls=is_tls)
        async with street.open(), street.client() as client:
            await client.ask()
            assert await client.read(len(BODY)) == BODY
            assert street.runner.lane.carried == 0

    @BOTH
    async def test_a_file_that_became_shorter_is_a_broken_transfer(
        self, stored: DiskStore, tmp_path: Path, *, is_tls: bool
    ) -> None:
        (file,) = (tmp_path / "cache/content").glob("*/*")
        street = serving(stored, is_tls=is_tls)
        answer = street.answer

        async def cut(request: Request) -> Response:
            response = await answer(request)
            file.chmod(0o600)
            os.truncate(file, 3 * MIB)
            return response

        street.answer = cut
        async with street.open(), street.client() as client:
            await client.ask()
            assert await client.rest() == BODY[: 3 * MIB]
        assert not street.observed[0].is_whole


class TestClientsThatDoNotTakeIt:
    @BOTH
    async def test_one_that_stops_reading_is_given_up(
        self, stored: DiskStore, *, is_tls: bool
    ) -> None:
        street = serving(stored, is_tls=is_tls)
        street.clients = Clients(send_timeout=Seconds(0.1))
        async with street.open(), street.client() as client:
            await client.ask()
            await street.ended()
        assert street.observed[0].trace.error == "the client reads nothing"
        assert not street.observed[0].is_whole

    @BOTH
    async def test_a_slow_one_gets_it_all(self, stored: DiskStore, *, is_tls: bool) -> None:
        street = serving(stored, is_tls=is_tls)
        async with street.open(), street.client() as client:
            await client.ask()
            taken = bytearray()
            while len(taken) < len(BODY):
                taken += await client.read(min(200_000, len(BODY) - len(taken)))
                await asyncio.sleep(0.001)
            assert taken == BODY

    @BOTH
    @pytest.mark.parametrize("how", ["abort", "close"])
    async def test_one_that_goes_away_ends_it(
        self, stored: DiskStore, how: str, *, is_tls: bool
    ) -> None:
        street = serving(stored, is_tls=is_tls)
        async with street.open():
            async with street.client() as client:
                await client.ask()
                await client.read(100_000)
                getattr(client.writer.transport, how)()
            await street.ended()
            async with asyncio.timeout(5):
                while street.handlers[0].transports:  # noqa: ASYNC110 - nobody tells of it
                    await asyncio.sleep(0.001)
        assert not street.observed[0].is_whole

    async def test_garbage_meanwhile(self, stored: DiskStore) -> None:
        street = serving(stored)
        async with street.open(), street.client() as client:
            await client.ask()
            await client.read(100_000)
            raw = os.dup(client.writer.get_extra_info("socket").fileno())
            try:
                os.write(raw, b"\x17\x03\x03\x00\x20" + bytes(32))  # a record that nobody encrypted
            finally:
                os.close(raw)
            await street.ended()
        assert street.clashes == []

    @BOTH
    async def test_an_exchange_that_is_cancelled_leaves_no_thread_behind(
        self, stored: DiskStore, *, is_tls: bool
    ) -> None:
        street = serving(stored, is_tls=is_tls)
        async with street.open(), street.client() as client:
            await client.ask()
            await client.read(100_000)
            street.exchanges[0].cancel("stopped by the test")
            await street.ended()
            assert len(await client.rest()) < len(BODY)
        assert street.observed[0].trace.error == "stopped by the test"


class TestOneAtATime:
    async def test_threads_and_layers_never_use_a_connection_together(
        self, stored: DiskStore
    ) -> None:
        """The client speaks all the time, so that the layers have something to decrypt."""
        street = serving(stored)

        async def chatter(writer: asyncio.StreamWriter) -> None:
            while True:
                writer.write(b"\r\n")  # which a parser skips before a request
                await asyncio.sleep(0)

        async with street.open(), street.client() as client, asyncio.TaskGroup() as group:
            talking = group.create_task(chatter(client.writer))
            for _ in range(4):
                await client.ask()
                assert await client.read(len(BODY)) == BODY
            talking.cancel()
        assert street.clashes == []
        assert any(name.startswith("entrepot-lane") for name in street.users)
        assert "MainThread" in street.users


def filling(fill: Fill, *, is_tls: bool, span: ByteRange | None = None) -> Street:
    async def bypass(start: int, stop: int | None) -> PassedBody:
        raise AssertionError

    async def answer(_: Request) -> Response:
        length = fill.size if span is None else len(span)
        return Response(200, {}, FillBody(fill, span, bypass), length)

    return Street(answer, is_tls=is_tls)


def pieces(*, held: asyncio.Event, end: Step | None = None) -> list[Step]:
    """Half of the body, what is waited for, and the other half or what comes in its place."""
    half = len(BODY) // 2
    steps: list[Step] = [BODY[i : i + 300_000] for i in range(0, half, 300_000)]
    steps[-1] = BODY[(half - 1) // 300_000 * 300_000 : half]
    rest: list[Step] = [BODY[i : i + 300_000] for i in range(half, len(BODY), 300_000)]
    return [*steps, held, *([end] if end is not None else rest)]


class TestFills:
    @BOTH
    async def test_what_is_here_then_what_comes(self, store: DiskStore, *, is_tls: bool) -> None:
        held = asyncio.Event()
        reply = whole(*pieces(held=held), size=len(BODY))
        fill, _ = fill_of(await store.draft(DIGEST), reply, digest=DIGEST)
        street = filling(fill, is_tls=is_tls)
        async with street.open(), street.client() as client, asyncio.TaskGroup() as group:
            group.create_task(fill.run())
            await fill.wait_begun()
            await client.ask()
            here = len(BODY) // 2 - HOLD_BACK
            assert await client.read(here) == BODY[:here]
            held.set()
            assert await client.read(len(BODY) - here) == BODY[here:]
            await street.ended()
            assert street.runner.lane.carried > len(BODY) // 4

    @BOTH
    async def test_one_that_breaks_breaks_the_transfer(
        self, store: DiskStore, *, is_tls: bool
    ) -> None:
        held = asyncio.Event()
        reply = whole(*pieces(held=held, end=BROKE), size=len(BODY))
        fill, _ = fill_of(await store.draft(DIGEST), reply, digest=DIGEST, retries=0)
        street = filling(fill, is_tls=is_tls)
        async with street.open(), street.client() as client, asyncio.TaskGroup() as group:
            group.create_task(fill.run())
            await fill.wait_begun()
            await client.ask()
            here = len(BODY) // 2 - HOLD_BACK
            assert await client.read(here) == BODY[:here]
            held.set()
            rest = await client.rest()
            assert len(rest) <= HOLD_BACK
            assert BODY[here:].startswith(rest)
        assert not street.observed[0].is_whole

    @BOTH
    async def test_the_last_piece_of_what_is_wrong_never_comes(
        self, store: DiskStore, *, is_tls: bool
    ) -> None:
        held = asyncio.Event()
        reply = whole(*pieces(held=held), size=len(BODY))
        wrong = Digest.of(b"other")
        fill, _ = fill_of(await store.draft(wrong), reply, digest=wrong)
        street = filling(fill, is_tls=is_tls)
        async with street.open(), street.client() as client, asyncio.TaskGroup() as group:
            group.create_task(fill.run())
            await fill.wait_begun()
            await client.ask()
            await client.read(MIB)
            held.set()
            assert len(await client.rest()) <= len(BODY) - HOLD_BACK - MIB
        assert not street.observed[0].is_whole


class TestStint:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        file = tmp_path / "blob"
        file.write_bytes(BODY)
        return file

    def run(
        self, file: Path, window: Callable[[Window], Window], *, is_wanted: bool = True
    ) -> Sent:
        opened = OpenFile(os.open(file, os.O_RDONLY))
        near, far = socket.socketpair()
        near.setblocking(False)
        with near, far:
            stint = Stint(window(Window(opened, 0, len(BODY))), near.fileno(), None, step=16_384)
            sent = stint.run(Buffers(), lambda _: is_wanted)
            near.shutdown(socket.SHUT_WR)
            taken = b""
            while piece := far.recv(MIB):
                taken += piece
        opened.close()
        assert taken == BODY[: sent.count]
        return sent

    def test_it_stops_when_the_kernel_takes_no_more(self, file: Path) -> None:
        sent = self.run(file, lambda window: window)
        assert sent.is_full
        assert 0 < sent.count < len(BODY)

    def test_it_sends_no_more_than_its_window(self, file: Path) -> None:
        sent = self.run(file, lambda window: replace(window, size=10_000))
        assert (sent.count, sent.is_full) == (10_000, False)

    def test_it_begins_nothing_that_is_not_wanted(self, file: Path) -> None:
        assert self.run(file, lambda window: window, is_wanted=False).count == 0

    @pytest.mark.parametrize("is_direct", [True, False], ids=["direct", "public"])
    @pytest.mark.parametrize("room", [SLICE * 5 // 4, 100_000], ids=["enough", "little"])
    def test_what_is_encrypted_and_not_taken_is_left_to_be_sent(
        self, file: Path, monkeypatch: pytest.MonkeyPatch, room: int, *, is_direct: bool
    ) -> None:
        """`little`: as with records so small that all of them do not fit."""
        monkeypatch.setattr("entrepot.interception.lane._SEALED", room)
        buffers = Buffers()
        if not is_direct:
            buffers._bio_read = None
        opened = OpenFile(os.open(file, os.O_RDONLY))
        near, far = socket.socketpair()
        near.setblocking(False)
        server, client = _shaken()
        with near, far:
            stint = Stint(Window(opened, 0, len(BODY)), near.fileno(), server, step=SLICE)
            sent = stint.run(buffers, lambda _: True)
            near.shutdown(socket.SHUT_WR)
            sealed = b""
            while piece := far.recv(MIB):
                sealed += piece
        opened.close()
        assert sent.is_full
        assert _opened(client, sealed + sent.rest) == BODY[: sent.count]

    def test_pyopenssl_has_what_is_called_directly(self) -> None:
        """Else it is only slower: a warning to who raises its version."""
        buffers = Buffers()
        assert buffers._bio_read is not None
        assert buffers._pointer is not None
        assert _shaken()[0]._from_ssl is not None

    def test_what_a_connection_left_that_broke_goes_to_no_other(self, file: Path) -> None:
        buffers, (broken, _), (server, client) = Buffers(), _shaken(), _shaken()
        broken.sendall(b"not for the next one")
        buffers.take(broken)
        opened = OpenFile(os.open(file, os.O_RDONLY))
        near, far = socket.socketpair()
        with near, far:
            sent = Stint(Window(opened, 0, 10_000), near.fileno(), server, step=SLICE).run(
                buffers, lambda _: True
            )
            sealed = far.recv(MIB)
        opened.close()
        assert sent == Sent(10_000)
        assert _opened(client, sealed) == BODY[:10_000]

    def test_a_connection_that_broke(self, file: Path) -> None:
        opened = OpenFile(os.open(file, os.O_RDONLY))
        server, _ = _shaken()
        server.bio_write(b"\x17\x03\x03\x00\x20" + bytes(32))
        with pytest.raises(SSL.Error):
            server.recv(1)
        near, far = socket.socketpair()
        with near, far, pytest.raises(ConnectionResetError, match="TLS"):
            Stint(Window(opened, 0, MIB), near.fileno(), server, step=SLICE).run(
                Buffers(), lambda _: True
            )
        opened.close()


def _shaken() -> tuple[SSL.Connection, SSL.Connection]:
    """A server's and a client's end, in memory, that have made their handshake."""
    leaf = Leaves().leaf(HOST)
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.use_certificate(leaf.certificate)
    context.use_privatekey(leaf.key)
    server, client = (
        SSL.Connection(context, None),
        SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), None),
    )
    server.set_accept_state()
    client.set_connect_state()
    ends = [(client, server), (server, client)]
    for _ in range(3):
        for one, other in ends:
            for step in (one.do_handshake, lambda: other.bio_write(one.bio_read(MIB))):  # noqa: B023 - called at once
                try:
                    step()
                except SSL.WantReadError:
                    continue
    return server, client


def _opened(client: SSL.Connection, sealed: bytes) -> bytes:
    taken = bytearray()
    for start in range(0, len(sealed), 16_384):
        client.bio_write(sealed[start : start + 16_384])
        while True:
            try:
                taken += client.recv(65_536)
            except SSL.WantReadError:
                break
    return bytes(taken)


class _Held(Stint):
    """One that takes until it is told."""

    def __init__(self) -> None:
        self.is_begun = threading.Event()
        self.may_end = threading.Event()
        self.is_ended = False

    def run(self, buffers: Buffers, is_wanted: Callable[[int], bool]) -> Sent:
        self.is_begun.set()
        assert self.may_end.wait(10)
        return Sent(1)


async def test_who_is_cancelled_waits_for_the_thread() -> None:
    lane, stint = Lane(1), _Held()
    async with asyncio.TaskGroup() as group:
        running = group.create_task(lane.run(stint))
        assert await asyncio.to_thread(stint.is_begun.wait, 10)
        for _ in range(3):
            running.cancel()
            await asyncio.sleep(0)
        assert not running.done()
        assert stint.is_ended
        stint.may_end.set()
    assert running.cancelled()
    assert lane.carried == 0
    lane.close()


async def test_one_whose_turn_did_not_come_is_never_begun() -> None:
    lane, first, second = Lane(1), _Held(), _Held()
    async with asyncio.TaskGroup() as group:
        ahead = group.create_task(lane.run(first))
        assert await asyncio.to_thread(first.is_begun.wait, 10)
        behind = group.create_task(lane.run(second))
        await asyncio.sleep(0)
        assert not lane._may_go_on(2 * MIB)
        behind.cancel()
        await asyncio.wait([behind])
        assert not second.is_begun.is_set()
        assert lane._may_go_on(2 * MIB)
        first.may_end.set()
    assert await ahead == Sent(1)
    lane.close()


def test_a_waiting_room_asks_the_client_to_wait_when_much_comes() -> None:
    paused: list[bool] = []
    stint = _Held()
    room = WaitingRoom(stint, lambda: paused.append(True))
    client = ClientConnection(
        peername=("192.0.2.7", 1),
        sockname=("192.0.2.1", 2),
        timestamp_start=0,
        proxy_mode=ProxyMode.parse("regular"),
        state=ConnectionState.OPEN,
    )
    events: list[Event] = [DataReceived(client, bytes(30_000)) for _ in range(4)]
    for number, event in enumerate(events):
        assert list(room.handle_event(event)) == []
        assert room.is_full == (number > 1)
    assert stint.is_ended
    assert paused == [True]
    assert room.events == events


def test_a_file_system_that_cannot_tell_is_read_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "RWF_NOWAIT", 1 << 30, raising=False)  # which no kernel knows
    (tmp_path / "blob").write_bytes(b"hello")
    descriptor = os.open(tmp_path / "blob", os.O_RDONLY)
    target = memoryview(bytearray(4))
    try:
        assert read_cached(descriptor, target, 1) == 4
    finally:
        os.close(descriptor)
    assert bytes(target) == b"ello"
