import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from entrepot.config.kinds import Bytes, Seconds
from entrepot.config.model import Auth, Registry, Storage
from entrepot.engine import blobs as blobs_module
from entrepot.engine.fill import HOLD_BACK
from entrepot.engine.message import Body
from entrepot.errors import DigestMismatch, StorageError, UpstreamError
from entrepot.oci.digest import Digest
from entrepot.storage.base import ContentStore, Ledger
from entrepot.storage.disk import open_disk_store
from entrepot.storage.memory import MemoryLedger
from tests.support.broken_storage import BreakableStore
from tests.support.clock import ManualClock
from tests.support.content import Generated, Given
from tests.support.engine import (
    NAME,
    Answer,
    Rig,
    accepting,
    basic,
    blob_path,
    config_for,
    impatient,
    manifest_path,
    open_engine,
    read_all,
    read_body,
)
from tests.support.faults import (
    AnswerWith,
    Chunked,
    Corrupt,
    HeadWithoutLength,
    Hold,
    IgnoreRange,
    Truncate,
    WrongContentRange,
)
from tests.support.registry import ScriptedRegistry
from tests.support.token_service import Auth as RegistryAuth

ALICE = {"Authorization": basic("alice", "wonder")}
BOB = {"Authorization": basic("bob", "builder")}
BODY = bytes(range(256)) * 2000  # 512 kB
CONTENT = Given(BODY)
PATH = blob_path(CONTENT)
HELD_AT = 200_000


@pytest.fixture
def registry() -> Iterator[ScriptedRegistry]:
    auth = RegistryAuth(users={"alice": "wonder", "bob": "builder"})
    with ScriptedRegistry(auth=auth) as registry:
        registry.add_blob("app", CONTENT)
        yield registry


@pytest.fixture
def store(clock: ManualClock) -> BreakableStore:
    return BreakableStore(clock)


@pytest.fixture
async def rig(
    registry: ScriptedRegistry, clock: ManualClock, store: BreakableStore
) -> AsyncIterator[Rig]:
    config = config_for(
        registry,
        auth=Auth(verdict_ttl=Seconds(300)),
        upstream=impatient(retries=0),
    )
    async with open_engine(registry, clock, store=store, config=config) as rig:
        yield rig


async def fills_ended(rig: Rig) -> None:
    await rig.engine.blobs.wait_for_fills()


class TestWhole:
    async def test_a_first_request_fetches_and_keeps(self, rig: Rig) -> None:
        cold = await rig.ask(PATH)
        assert (cold.status, cold.cache, cold.body) == (200, "miss", BODY)
        assert cold.headers["Cache-Status"] == "Entrepot; fwd=uri-miss; stored"
        assert cold.headers["Docker-Content-Digest"] == CONTENT.digest
        assert cold.headers["Content-Type"] == "application/octet-stream"
        assert cold.headers["ETag"] == f'"{CONTENT.digest}"'
        assert cold.headers["Accept-Ranges"] == "bytes"
        assert cold.length == len(BODY)
        await fills_ended(rig)
        warm = await rig.ask(PATH)
        assert (warm.cache, warm.body, warm.length) == ("hit", BODY, len(BODY))
        assert warm.headers["Cache-Status"] == "Entrepot; hit"
        assert rig.registry.blob_gets() == 1
        assert sum(rig.fetched) == len(BODY)

    @pytest.mark.parametrize("size", [0, 1, 65_536, 65_537])
    async def test_of_any_size(self, rig: Rig, size: int) -> None:
        content = rig.registry.add_blob("app", Given(bytes(size)))
        for cache in ("miss", "hit"):
            answer = await rig.ask(blob_path(content))
            assert (answer.cache, answer.body, answer.length) == (cache, bytes(size), size)
            await fills_ended(rig)

    async def test_a_length_that_is_not_told(self, rig: Rig) -> None:
        rig.registry.fault(Chunked(), path=PATH)
        cold = await rig.ask(PATH)
        assert (cold.length, cold.body) == (None, BODY)
        assert "Accept-Ranges" not in cold.headers
        await fills_ended(rig)
        assert (await rig.ask(PATH)).length == len(BODY)

    @pytest.mark.parametrize("fault", [Corrupt(at=0), Corrupt(at=len(BODY) - 1)])
    async def test_of_another_digest_is_never_whole(self, rig: Rig, fault: Corrupt) -> None:
        rig.registry.fault(fault, path=PATH, times=1)
        response = await rig.open(PATH)
        assert not isinstance(response.body, bytes)
        with pytest.raises(DigestMismatch, match="not the bytes"):
            await read_body(response.body)
        await response.aclose()
        await fills_ended(rig)
        assert (await rig.ask(PATH)).body == BODY

    async def test_a_small_one_of_another_digest_is_an_error(self, rig: Rig) -> None:
        content = rig.registry.add_blob("app", Given(b"small"))
        rig.registry.fault(Corrupt(), path=blob_path(content), times=1)
        answer = await rig.ask(blob_path(content))
        assert (answer.status, answer.code) == (502, "UNAVAILABLE")

    async def test_what_is_not_there(self, rig: Rig, clock: ManualClock) -> None:
        missing = blob_path(Given(b"missing"))
        for _ in range(2):
            answer = await rig.ask(missing)
            assert (answer.status, answer.code) == (404, "BLOB_UNKNOWN")
        assert rig.registry.log.count(missing) == 1

    async def test_one_digest_is_one_blob_whatever_the_repository(self, rig: Rig) -> None:
        await rig.ask(PATH)
        rig.registry.add_blob("other", CONTENT)
        answer = await rig.ask(blob_path(CONTENT, "other"))
        assert (answer.cache, answer.body) == ("hit", BODY)
        assert rig.registry.blob_gets() == 1
        assert rig.registry.log.count("/v2/other/*", method="HEAD") == 1

    async def test_an_outage(self, rig: Rig) -> None:
        await rig.ask(PATH)
        await fills_ended(rig)
        rig.registry.die()
        assert (await rig.ask(PATH)).body == BODY
        assert (await rig.ask(blob_path(Given(b"other")))).status == 502


class TestHeads:
    async def test_are_the_upstreams_to_answer_until_it_is_here(self, rig: Rig) -> None:
        head = await rig.ask(PATH, method="HEAD")
        assert (head.status, head.length, head.cache) == (200, len(BODY), "pass")
        assert rig.registry.blob_gets() == 0
        await rig.ask(PATH)
        await fills_ended(rig)
        head = await rig.ask(PATH, method="HEAD")
        assert (head.status, head.length, head.cache) == (200, len(BODY), "hit")
        assert rig.registry.log.count(PATH, method="HEAD") == 1

    async def test_know_no_ranges(self, rig: Rig) -> None:
        await rig.ask(PATH)
        await fills_ended(rig)
        head = await rig.ask(PATH, {"Range": "bytes=0-9"}, method="HEAD")
        assert (head.status, head.length) == (200, len(BODY))

    async def test_without_a_length(self, rig: Rig) -> None:
        rig.registry.fault(HeadWithoutLength())
        head = await rig.ask(PATH, method="HEAD")
        assert head.status == 200

    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    async def test_who_has_it_gets_no_body(self, rig: Rig, method: str) -> None:
        headers = {"If-None-Match": f'"{CONTENT.digest}"'}
        for _ in ("not here", "here"):
            answer = await rig.ask(PATH, headers, method=method)
            assert (answer.status, answer.body) == (304, b"")
            await rig.ask(PATH)
            await fills_ended(rig)
        assert rig.registry.blob_gets() == 1


class TestHeadsOfWhoMayPush:
    """What they hear exists, they do not push."""

    @pytest.fixture
    async def rig(self, registry: ScriptedRegistry, clock: ManualClock) -> AsyncIterator[Rig]:
        async with open_engine(registry, clock, config=config_for(registry, push="allow")) as rig:
            yield rig

    async def test_are_the_upstreams_to_answer(self, rig: Rig) -> None:
        await rig.ask(PATH)
        await fills_ended(rig)
        assert (await rig.ask(PATH, method="HEAD")).cache == "pass"
        elsewhere = await rig.ask(blob_path(CONTENT, "new"), method="HEAD")
        assert elsewhere.status == 404

    async def test_unless_nobody_answers(self, rig: Rig) -> None:
        await rig.ask(PATH)
        await fills_ended(rig)
        rig.registry.die()
        head = await rig.ask(PATH, method="HEAD")
        assert (head.status, head.length) == (200, len(BODY))
        assert (await rig.ask(blob_path(Given(b"x")), method="HEAD")).status == 502


RANGES = [
    ("bytes=0-9", 0, 10),
    ("bytes=100-199", 100, 200),
    ("bytes=500000-", 500_000, len(BODY)),
    ("bytes=-100", len(BODY) - 100, len(BODY)),
    (f"bytes=100-{10**9}", 100, len(BODY)),
]


def assert_part(answer: Answer, start: int, stop: int) -> None:
    assert (answer.status, answer.length) == (206, stop - start)
    assert answer.body == BODY[start:stop]
    assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{len(BODY)}"


class TestRanges:
    @pytest.mark.parametrize(("header", "start", "stop"), RANGES)
    async def test_of_what_is_coming_and_of_what_is_here(
        self, rig: Rig, header: str, start: int, stop: int
    ) -> None:
        for cache in ("miss", "hit"):
            answer = await rig.ask(PATH, {"Range": header})
            assert answer.cache == cache
            assert_part(answer, start, stop)
            await fills_ended(rig)
        assert rig.registry.log.find(PATH)[0].headers.get("range") is None

    @pytest.mark.parametrize("header", ["bytes=9-5", "bytes=0-1,3-4", "lines=1-2", "bytes=-"])
    async def test_that_are_none_are_passed_over(self, rig: Rig, header: str) -> None:
        for _ in ("miss", "hit"):
            answer = await rig.ask(PATH, {"Range": header})
            assert (answer.status, answer.body) == (200, BODY)
            await fills_ended(rig)

    async def test_beyond_the_end(self, rig: Rig) -> None:
        for _ in ("miss", "hit"):
            answer = await rig.ask(PATH, {"Range": f"bytes={len(BODY)}-"})
            assert (answer.status, answer.body) == (416, b"")
            assert answer.headers["Content-Range"] == f"bytes */{len(BODY)}"
            await fills_ended(rig)

    @pytest.mark.parametrize(
        ("if_range", "status"),
        [(f'"{CONTENT.digest}"', 206), ('"other"', 200), ("Wed, 21 Oct 2015 07:28:00 GMT", 200)],
    )
    async def test_only_of_what_the_client_has_a_part_of(
        self, rig: Rig, if_range: str, status: int
    ) -> None:
        for _ in ("miss", "hit"):
            answer = await rig.ask(PATH, {"Range": "bytes=5-9", "If-Range": if_range})
            assert answer.status == status
            await fills_ended(rig)

    async def test_in_the_middle_of_a_fill(self, rig: Rig, tasks: asyncio.TaskGroup) -> None:
        gate = rig.registry.gate()
        rig.registry.fault(Hold(HELD_AT, gate), path=PATH)
        whole = tasks.create_task(rig.ask(PATH))
        await held(rig)
        near = await rig.ask(PATH, {"Range": "bytes=10-19"})
        assert (near.cache, near.body) == ("collapsed", BODY[10:20])
        late = tasks.create_task(rig.ask(PATH, {"Range": "bytes=-10"}))
        gate.open()
        assert (await late).body == BODY[-10:]
        assert (await whole).body == BODY
        assert rig.registry.blob_gets() == 1

    async def test_far_ahead_of_a_fill_does_not_wait_for_it(
        self, rig: Rig, tasks: asyncio.TaskGroup, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(blobs_module, "_FAR", 100_000)
        gate = rig.registry.gate()
        rig.registry.fault(Hold(HELD_AT, gate), path=PATH, times=1)
        whole = tasks.create_task(rig.ask(PATH))
        await held(rig)
        far = await rig.ask(PATH, {"Range": "bytes=500000-500009"})
        assert far.headers["Cache-Status"] == "Entrepot; fwd=bypass"
        assert_part(far, 500_000, 500_010)
        gate.open()
        assert (await whole).body == BODY


async def read_exactly(body: Body, size: int) -> bytes:
    pieces = bytearray()
    while len(pieces) < size:
        piece = await body.read(size - len(pieces))
        assert piece, "the body ended early"
        pieces += piece
    return bytes(pieces)


async def held(rig: Rig, sent: int = HELD_AT) -> None:
    await rig.registry.log.wait_until_async(lambda: rig.registry.blob_bytes >= sent)


@pytest.mark.usefixtures("task_factory")
class TestOneFetchForAll:
    async def test_fifty_cold(self, rig: Rig) -> None:
        answers = await asyncio.gather(*(rig.ask(PATH) for _ in range(50)))
        assert {answer.body for answer in answers} == {BODY}
        assert rig.registry.blob_gets() == 1
        assert sorted(answer.cache for answer in answers) == ["collapsed"] * 49 + ["miss"]

    @pytest.mark.parametrize("status", [401, 403, 404, 429, 500])
    async def test_fifty_who_are_refused_alike(self, rig: Rig, status: int) -> None:
        gate = rig.registry.gate()
        rig.registry.fault(Hold(gate=gate), path=PATH)
        rig.registry.fault(AnswerWith(status), path=PATH)
        async with asyncio.TaskGroup() as tasks:
            asking = [tasks.create_task(rig.ask(PATH)) for _ in range(50)]
            await rig.registry.log.wait_until_async(lambda: rig.registry.blob_gets() == 1)
            gate.open()
        assert {(await task).status for task in asking} == {status}
        assert rig.registry.blob_gets() == 1

    async def test_the_starter_is_refused_and_another_is_not(self, rig: Rig) -> None:
        rig.registry.make_private("app", "alice")
        gate = rig.registry.gate()
        rig.registry.fault(Hold(gate=gate), path=PATH, times=1)
        async with asyncio.TaskGroup() as tasks:
            refused = tasks.create_task(rig.ask(PATH, BOB))
            await rig.registry.log.wait_until_async(lambda: rig.registry.blob_gets() == 1)
            allowed = tasks.create_task(rig.ask(PATH, ALICE))
            await asyncio.sleep(0)
            gate.open()
        assert (await refused).status == 401
        assert (await allowed).body == BODY

    async def test_who_joins_needs_a_word_of_its_own(self, rig: Rig) -> None:
        rig.registry.make_private("app", "alice")
        gate = rig.registry.gate()
        rig.registry.fault(Hold(HELD_AT, gate), path=PATH)
        async with asyncio.TaskGroup() as tasks:
            first = tasks.create_task(rig.ask(PATH, ALICE))
            await held(rig)
            assert (await rig.ask(PATH, BOB)).status == 401
            assert (await rig.ask(PATH)).status == 401
            gate.open()
        assert (await first).body == BODY
        assert rig.registry.blob_gets() == 1

    async def test_whose_word_takes_long_still_has_it(self, rig: Rig) -> None:
        """The fill ends while Bob is asked about, and all its readers are gone by then."""
        begun, asked = rig.registry.gate(), rig.registry.gate()
        rig.registry.fault(Hold(HELD_AT, begun), path=PATH, method="GET")
        rig.registry.fault(Hold(gate=asked), path=PATH, method="HEAD")
        async with asyncio.TaskGroup() as tasks:
            first = tasks.create_task(rig.ask(PATH, ALICE))
            await held(rig)
            second = tasks.create_task(rig.ask(PATH, BOB))
            await rig.registry.log.wait_until_async(
                lambda: rig.registry.log.count(PATH, method="HEAD") == 1
            )
            begun.open()
            assert (await first).body == BODY
            await fills_ended(rig)
            asked.open()
        assert (await second).body == BODY
        assert rig.registry.blob_gets() == 1

    async def test_who_leaves_ends_nothing(self, rig: Rig) -> None:
        gate = rig.registry.gate()
        rig.registry.fault(Hold(HELD_AT, gate), path=PATH)
        response = await rig.open(PATH)
        await held(rig)
        await response.aclose()
        assert [fill.readers for fill in rig.engine.blobs.fills()] == [0]
        gate.open()
        await fills_ended(rig)
        assert rig.engine.blobs.fills() == ()
        assert (await rig.ask(PATH)).cache == "hit"

    async def test_an_outage_is_the_same_to_all_who_ask_that_registry(self, rig: Rig) -> None:
        gate = rig.registry.gate()
        rig.registry.fault(Hold(gate=gate), path=PATH)
        rig.registry.fault(AnswerWith(500), path=PATH)
        # Who brings nothing waits for what `/v2/` asks for, unless that is known, and would come
        # too late for the first answer.
        await rig.ask("/v2/")
        async with asyncio.TaskGroup() as tasks:
            asking = [tasks.create_task(rig.ask(PATH, who)) for who in (ALICE, BOB, {})]
            await rig.registry.log.wait_until_async(lambda: rig.registry.blob_gets() == 1)
            gate.open()
        assert {(await task).status for task in asking} == {500}
        assert rig.registry.blob_gets() == 1


async def test_a_registry_that_is_dead_takes_nothing_from_another(
    registry: ScriptedRegistry, clock: ManualClock, tasks: asyncio.TaskGroup
) -> None:
    with ScriptedRegistry() as dead:
        entries = {
            NAME: Registry(endpoints=(registry.url,)),
            "dead.test": Registry(endpoints=(dead.url,)),
        }
        config = config_for(registry, upstream=impatient())
        config = type(config)(registries=entries, upstream=config.upstream)
        gate = dead.gate()
        dead.fault(Hold(gate=gate), path=PATH)
        dead.fault(AnswerWith(503), path=PATH)
        async with open_engine(registry, clock, config=config) as rig:
            first = tasks.create_task(rig.ask(PATH, host="dead.test"))
            await dead.log.wait_until_async(lambda: dead.blob_gets() == 1)
            second = tasks.create_task(rig.ask(PATH))
            await asyncio.sleep(0)
            gate.open()
            assert (await first).status == 503
            assert (await second).body == BODY


class TestAnothersUpstream:
    """Who joins a fill of another registry's depends on that one no more than it must."""

    @pytest.fixture
    def other(self) -> Iterator[ScriptedRegistry]:
        with ScriptedRegistry() as other:
            other.add_blob("app", CONTENT)
            yield other

    @pytest.fixture
    async def both(
        self, registry: ScriptedRegistry, other: ScriptedRegistry, clock: ManualClock
    ) -> AsyncIterator[Rig]:
        entries = {
            NAME: Registry(endpoints=(registry.url,)),
            "other.test": Registry(endpoints=(other.url,)),
        }
        config = config_for(registry, upstream=impatient(retries=0))
        config = type(config)(registries=entries, upstream=config.upstream)
        async with open_engine(registry, clock, config=config) as rig:
            yield rig

    @pytest.mark.parametrize("headers", [{}, {"Range": "bytes=10-300000"}])
    async def test_that_breaks_off_takes_nothing(
        self, both: Rig, other: ScriptedRegistry, headers: dict[str, str]
    ) -> None:
        gate = other.gate()
        other.fault(Hold(30_000, gate), path=PATH)  # too little to be read
        other.fault(Truncate(after=40_000), path=PATH)
        first = await both.open(PATH, host="other.test")
        second = await both.open(PATH, headers)
        assert second.trace.cache == "collapsed"
        gate.open()
        await fills_ended(both)
        for response in (first, second):
            assert not isinstance(response.body, bytes)
        with pytest.raises(UpstreamError):
            await read_all(first)
        assert await read_all(second) == (BODY[10:300_001] if headers else BODY)
        for response in (first, second):
            await response.aclose()

    async def test_whose_bytes_were_wrong_breaks_who_has_read_of_them(
        self, both: Rig, other: ScriptedRegistry
    ) -> None:
        gate = other.gate()
        other.fault(Corrupt(at=5), path=PATH)
        other.fault(Hold(HELD_AT, gate), path=PATH)
        first = await both.open(PATH, host="other.test")
        second = await both.open(PATH)
        assert not isinstance(second.body, bytes)
        assert await second.body.read(10)
        gate.open()
        with pytest.raises(DigestMismatch):
            await read_all(second)
        for response in (first, second):
            await response.aclose()

    async def test_that_announced_another_size_is_not_made_up_for(
        self, both: Rig, other: ScriptedRegistry
    ) -> None:
        """The client was told that size, and would take what comes for whole."""
        gate = other.gate()
        other.fault(AnswerWith(200, BODY[:100_000]), path=PATH)
        other.fault(Hold(30_000, gate), path=PATH)
        first = await both.open(PATH, host="other.test")
        second = await both.open(PATH)
        gate.open()
        await fills_ended(both)
        with pytest.raises(UpstreamError):
            await read_all(second)
        for response in (first, second):
            await response.aclose()


class TestBrokenStore:
    @pytest.mark.parametrize(
        "broken", ["open", "draft", "write", "read", "verify", "commit", "discard"]
    )
    async def test_fails_no_pull(self, rig: Rig, store: BreakableStore, broken: str) -> None:
        store.broken = {broken}
        for _ in range(2):
            assert (await rig.ask(PATH)).body == BODY
            await fills_ended(rig)

    @pytest.mark.parametrize("is_chunked", [False, True])
    async def test_nor_does_a_full_one(
        self, rig: Rig, store: BreakableStore, *, is_chunked: bool
    ) -> None:
        if is_chunked:
            rig.registry.fault(Chunked(), path=PATH)
        store.write_limit = 100_000
        answers = await asyncio.gather(*(rig.ask(PATH) for _ in range(5)))
        assert {answer.body for answer in answers} == {BODY}

    async def test_ranges_pass_it_by(self, rig: Rig, store: BreakableStore) -> None:
        store.broken = {"draft"}
        answer = await rig.ask(PATH, {"Range": "bytes=10-19"})
        assert_part(answer, 10, 20)
        multiple = await rig.ask(PATH, {"Range": "bytes=0-1,3-4"})
        assert (multiple.status, multiple.body) == (200, BODY)
        beyond = await rig.ask(PATH, {"Range": f"bytes={10**9}-"})
        assert beyond.status == 416

    @pytest.mark.parametrize("fault", [IgnoreRange(), WrongContentRange()])
    async def test_what_cannot_be_continued_is_not_whole(
        self, rig: Rig, store: BreakableStore, fault: IgnoreRange
    ) -> None:
        gate = rig.registry.gate()
        rig.registry.fault(Hold(HELD_AT, gate), path=PATH, times=1)
        rig.registry.fault(fault, path=PATH)
        store.write_limit = HELD_AT + 100_000
        response = await rig.open(PATH)
        gate.open()
        assert not isinstance(response.body, bytes)
        with pytest.raises(UpstreamError, match=r"range|middle"):
            await read_body(response.body)
        await response.aclose()

    async def test_content_that_cannot_be_read_breaks_the_transfer(
        self, rig: Rig, store: BreakableStore
    ) -> None:
        await rig.ask(PATH)
        await fills_ended(rig)
        store.broken = {"content.read"}
        response = await rig.open(PATH)
        assert not isinstance(response.body, bytes)
        with pytest.raises(StorageError, match="broken"):
            await read_body(response.body)
        await response.aclose()


async def test_long_layers_hold_up_no_manifest(
    registry: ScriptedRegistry, clock: ManualClock
) -> None:
    image = registry.add_image("app", "1", (200_000, 200_001, 200_002))
    layers = [blob_path(blob) for blob in image.blobs if blob.size >= 200_000]
    gate = registry.gate()
    registry.fault(Hold(100_000, gate), path="/v2/app/blobs/*")
    config = config_for(registry, connections=3, upstream=impatient(header_timeout=Seconds(0.5)))
    async with open_engine(registry, clock, config=config) as rig:
        held = [await rig.open(path) for path in layers[:2]]
        assert (await rig.ask(layers[2])).status == 504
        assert (await rig.ask(manifest_path("1"), accepting(image))).status == 200
        gate.open()
        for response in held:
            await response.aclose()


async def test_an_upstream_that_breaks_off_for_good(rig: Rig) -> None:
    rig.registry.fault(Truncate(after=HELD_AT), path=PATH, times=1)
    response = await rig.open(PATH)
    assert not isinstance(response.body, bytes)
    with pytest.raises(UpstreamError, match=r"before it was whole|too early|broke"):
        await read_body(response.body)
    await response.aclose()
    await fills_ended(rig)
    assert (await rig.ask(PATH)).body == BODY
    ranges = [entry.headers.get("range") for entry in rig.registry.log.find(PATH)]
    assert ranges == [None, f"bytes={HELD_AT}-"]


async def test_a_stop_keeps_what_is_here(
    registry: ScriptedRegistry, clock: ManualClock, store: BreakableStore
) -> None:
    undo = registry.fault(Hold(HELD_AT), path=PATH)
    ledger = MemoryLedger(clock)
    async with open_engine(registry, clock, store=store, ledger=ledger) as rig:
        response = await rig.open(PATH)
        assert not isinstance(response.body, bytes)
        # All that may be read: then all that was sent has come in.
        assert await read_exactly(response.body, HELD_AT - HOLD_BACK) == BODY[: HELD_AT - HOLD_BACK]
    with pytest.raises(UpstreamError, match="shutting down"):
        await read_body(response.body)
    await response.aclose()
    undo()
    async with open_engine(registry, clock, store=store, ledger=ledger) as rig:
        assert (await rig.ask(PATH)).body == BODY
    ranges = [entry.headers.get("range") for entry in registry.log.find(PATH)]
    assert ranges == [None, f"bytes={HELD_AT}-"]


@pytest.mark.parametrize("size", [1000, 100_000])
async def test_what_an_earlier_attempt_left_wrong_is_fetched_anew(
    rig: Rig, store: BreakableStore, size: int
) -> None:
    content = rig.registry.add_blob("app", Given(bytes(size)))
    draft = await store.draft(Digest.parse(content.digest))
    await draft.write(b"!" * (size + 1))
    await draft.suspend()
    assert (await rig.ask(blob_path(content))).body == bytes(size)


async def test_a_layer_larger_than_the_cache_takes_nothing_from_it(
    registry: ScriptedRegistry, clock: ManualClock, tmp_path: Path
) -> None:
    settings = Storage(max_size=Bytes(len(BODY) + 1), min_free=Bytes(0))
    store = open_disk_store(tmp_path, settings, clock)
    large = registry.add_blob("app", Generated(1, 2 * len(BODY)))
    async with open_engine(registry, clock, store=store, ledger=store.ledger) as rig:
        await rig.ask(PATH)
        await fills_ended(rig)
        answer = await rig.ask(blob_path(large))
        assert (answer.cache, len(answer.body)) == ("bypass", large.size)
        assert (await rig.ask(PATH)).cache == "hit"
    await store.aclose()


class TestOverADisk:
    """The same engine over the store that it has in earnest."""

    @pytest.fixture
    async def stores(
        self, clock: ManualClock, tmp_path: Path
    ) -> AsyncIterator[tuple[ContentStore, Ledger]]:
        store = open_disk_store(tmp_path, Storage(min_free=Bytes(0)), clock)
        yield store, store.ledger
        await store.aclose()

    @pytest.fixture
    async def rig(
        self,
        registry: ScriptedRegistry,
        clock: ManualClock,
        stores: tuple[ContentStore, Ledger],
        task_factory: None,
    ) -> AsyncIterator[Rig]:
        store, ledger = stores
        async with open_engine(registry, clock, store=store, ledger=ledger) as rig:
            yield rig

    @pytest.mark.parametrize("size", [0, 1000, 65_537, 3_000_000])
    async def test_cold_and_warm(self, rig: Rig, size: int) -> None:
        content = rig.registry.add_blob("app", Generated(size, size))
        body = b"".join(content.chunks(0, size))
        answers = await asyncio.gather(*(rig.ask(blob_path(content)) for _ in range(10)))
        assert {answer.body for answer in answers} == {body}
        await fills_ended(rig)
        assert (await rig.ask(blob_path(content))).cache == "hit"
        assert rig.registry.blob_gets(content.digest) == 1

    async def test_an_image(self, rig: Rig) -> None:
        image = rig.registry.add_image("app", "1.0", (100_000, 300))
        headers = {"Accept": image.media_type}
        for cache in ("miss", "hit"):
            answer = await rig.ask("/v2/app/manifests/1.0", headers)
            assert (answer.cache, answer.body) == (cache, image.body)

    async def test_resumed_after_a_stop(self, rig: Rig) -> None:
        rig.registry.fault(Truncate(after=HELD_AT), path=PATH, times=1)
        assert (await rig.ask(PATH)).body == BODY

    async def test_wrong_bytes_are_never_whole(self, rig: Rig) -> None:
        rig.registry.fault(Corrupt(at=5), path=PATH, times=1)
        response = await rig.open(PATH)
        assert not isinstance(response.body, bytes)
        with pytest.raises(DigestMismatch, match="not the bytes"):
            await read_body(response.body)
        await response.aclose()
        await fills_ended(rig)
        assert (await rig.ask(PATH)).body == BODY
