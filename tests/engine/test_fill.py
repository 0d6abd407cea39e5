import asyncio
from collections.abc import Awaitable, Callable

import pytest

from entrepot.engine.fill import HOLD_BACK, Fill
from entrepot.errors import DigestMismatch, EntrepotError, StorageError, UpstreamError
from entrepot.oci.digest import Digest
from entrepot.storage.base import Draft
from tests.engine.filling import (
    BODY,
    BROKE,
    DIGEST,
    Reply,
    Script,
    Step,
    Trickle,
    fill_of,
    part,
    read_fill,
    whole,
)
from tests.support.broken_storage import BreakableStore
from tests.support.clock import ManualClock

pytestmark = pytest.mark.usefixtures("task_factory")

HALF = len(BODY) // 2
PIECES = [BODY[start : start + 10_000] for start in range(0, len(BODY), 10_000)]


@pytest.fixture
def store(clock: ManualClock) -> BreakableStore:
    return BreakableStore(clock)


@pytest.fixture
async def draft(store: BreakableStore) -> Draft:
    return await store.draft(DIGEST)


async def kept(store: BreakableStore, digest: Digest = DIGEST) -> bytes | None:
    content = await store.open(digest)
    return None if content is None else await content.read(0, 1 << 30)


async def run(fill: Fill) -> None:
    async with asyncio.timeout(5):
        await fill.run()


class TestWhatComesWell:
    async def test_is_kept_and_read(self, store: BreakableStore, draft: Draft) -> None:
        fill, script = fill_of(draft, whole(*PIECES))
        fill.attach()
        await run(fill)
        assert await read_fill(fill) == BODY
        assert await kept(store) == BODY
        assert (fill.is_complete, fill.has_failed, fill.size) == (True, False, len(BODY))
        assert script.offsets == [0]
        fill.detach()

    async def test_is_read_by_many_at_their_own_pace(
        self, draft: Draft, tasks: asyncio.TaskGroup
    ) -> None:
        gates = [asyncio.Event() for _ in PIECES]
        steps: list[Step] = []
        for gate, piece in zip(gates, PIECES, strict=True):
            steps += [gate, piece]
        fill, _ = fill_of(draft, whole(*steps))
        readers = []
        running = tasks.create_task(fill.run())
        for gate in gates:
            fill.attach()
            readers.append(tasks.create_task(read_fill(fill)))
            gate.set()
            await asyncio.sleep(0)
        await running
        assert set(await asyncio.gather(*readers)) == {BODY}

    async def test_of_no_announced_length(self, store: BreakableStore, draft: Draft) -> None:
        fill, _ = fill_of(draft, whole(*PIECES, size=None))
        await run(fill)
        assert (fill.size, await kept(store)) == (len(BODY), BODY)

    @pytest.mark.parametrize("length", ["", "many", "9" * 5000])
    async def test_of_a_length_that_is_none(
        self, store: BreakableStore, draft: Draft, length: str
    ) -> None:
        fill, _ = fill_of(draft, Reply(PIECES, headers={"Content-Length": length}))
        await run(fill)
        assert await kept(store) == BODY

    async def test_an_empty_blob(self, store: BreakableStore) -> None:
        empty = Digest.of(b"")
        fill, _ = fill_of(await store.draft(empty), whole(size=0), digest=empty)
        await run(fill)
        await fill.wait_begun()
        assert await kept(store, empty) == b""

    async def test_what_is_fetched_is_counted(self, draft: Draft) -> None:
        counted: list[int] = []
        script = Script([whole(*PIECES)])
        fill = Fill(DIGEST, draft, script, retries=0, fetched=counted.append)
        await run(fill)
        assert sum(counted) == len(BODY)


class TestWhatComesInSmallPieces:
    """16 KiB at each turn of the loop."""

    TURNS = 256

    async def test_is_taken_in_large_ones_once_it_has_begun(
        self, store: BreakableStore, tasks: asyncio.TaskGroup
    ) -> None:
        body = bytes(range(256)) * 64 * self.TURNS
        reply = Trickle(body, turns=self.TURNS)
        draft = await store.draft(Digest.of(body))
        fill, _ = fill_of(draft, reply, digest=Digest.of(body))
        tasks.create_task(reply.flow())
        await run(fill)
        assert await kept(store, Digest.of(body)) == body
        after_the_first_mib = len(reply.taken) - self.TURNS // 4
        assert after_the_first_mib < self.TURNS // 4
        assert max(reply.taken) >= 64 << 10

    async def test_is_all_waited_for_where_no_length_is_told(
        self, store: BreakableStore, tasks: asyncio.TaskGroup
    ) -> None:
        body = bytes(range(256)) * 64 * self.TURNS
        reply = Trickle(body, turns=self.TURNS, headers={})
        draft = await store.draft(Digest.of(body))
        fill, _ = fill_of(draft, reply, digest=Digest.of(body))
        tasks.create_task(reply.flow())
        await run(fill)
        assert (fill.size, max(reply.taken) >= 64 << 10) == (len(body), True)


class TestHoldBack:
    async def test_what_comes_before_the_last_piece_is_given_out_as_it_comes(
        self, draft: Draft, tasks: asyncio.TaskGroup
    ) -> None:
        gates = [asyncio.Event(), asyncio.Event()]
        early = HOLD_BACK + 1
        fill, _ = fill_of(
            draft, whole(BODY[:HOLD_BACK], gates[0], BODY[HOLD_BACK:early], gates[1], BODY[early:])
        )
        fill.attach()
        running = tasks.create_task(fill.run())
        await fill.wait_begun()
        waiting = tasks.create_task(fill.wait_beyond(0))
        for _ in range(5):
            await asyncio.sleep(0)
        assert (waiting.done(), fill.watermark) == (False, 0)
        gates[0].set()
        assert await waiting
        assert await fill.read(0, len(BODY)) == BODY[:early]
        gates[1].set()
        await running

    async def test_nothing_of_the_last_piece_before_it_is_verified(
        self, draft: Draft, tasks: asyncio.TaskGroup
    ) -> None:
        gate = asyncio.Event()
        fill, _ = fill_of(draft, whole(BODY, gate))
        fill.attach()
        running = tasks.create_task(fill.run())
        await fill.wait_begun()
        await fill.wait_beyond(0)
        assert fill.watermark == len(BODY) - HOLD_BACK
        assert await fill.read(0, len(BODY)) == BODY[:-HOLD_BACK]
        waiting = tasks.create_task(fill.wait_beyond(fill.watermark))
        await asyncio.sleep(0)
        assert not waiting.done()
        gate.set()
        await running
        assert await waiting
        assert fill.watermark == len(BODY)
        assert not await fill.wait_beyond(len(BODY))

    @pytest.mark.parametrize("size", [1, 1000, HOLD_BACK])
    async def test_what_is_all_last_piece_begins_when_it_is_right(
        self, store: BreakableStore, tasks: asyncio.TaskGroup, size: int
    ) -> None:
        body, gate = BODY[:size], asyncio.Event()
        draft = await store.draft(Digest.of(body))
        fill, _ = fill_of(draft, whole(body, gate, size=size), digest=Digest.of(body))
        running = tasks.create_task(fill.run())
        beginning = tasks.create_task(fill.wait_begun())
        for _ in range(5):
            await asyncio.sleep(0)
        assert not beginning.done()
        gate.set()
        await running
        await beginning


class TestWhatBreaksOff:
    async def test_is_resumed_where_it_was(self, store: BreakableStore, draft: Draft) -> None:
        fill, script = fill_of(draft, whole(BODY[:HALF], BROKE), part(BODY[HALF:], start=HALF))
        await run(fill)
        assert script.offsets == [0, HALF]
        assert await kept(store) == BODY

    async def test_without_a_word_too(self, store: BreakableStore, draft: Draft) -> None:
        fill, _ = fill_of(draft, whole(BODY[:HALF]), part(BODY[HALF:], start=HALF, size="*"))
        await run(fill)
        assert await kept(store) == BODY

    async def test_what_is_here_already_is_passed_over(
        self, store: BreakableStore, draft: Draft
    ) -> None:
        fill, _ = fill_of(draft, whole(BODY[:HALF], BROKE), whole(*PIECES))
        await run(fill)
        assert await kept(store) == BODY

    async def test_each_progress_gives_new_patience(
        self, store: BreakableStore, draft: Draft
    ) -> None:
        replies: list[Reply | Exception] = [whole(PIECES[0], BROKE)]
        for number in range(1, len(PIECES)):
            replies += [BROKE, BROKE, part(PIECES[number], BROKE, start=10_000 * number)]
        fill, _ = fill_of(draft, *replies, retries=3)
        await run(fill)
        assert await kept(store) == BODY

    async def test_no_progress_is_given_up_and_what_is_here_kept(
        self, store: BreakableStore, draft: Draft
    ) -> None:
        fill, script = fill_of(draft, whole(BODY[:HALF], BROKE), *[BROKE] * 10, retries=3)
        await run(fill)
        assert len(script.offsets) == 4
        assert fill.has_failed
        assert (await store.draft(DIGEST)).size == HALF

    @pytest.mark.parametrize("status", [403, 408, 429, 500, 503])
    async def test_trouble_passes(self, store: BreakableStore, draft: Draft, status: int) -> None:
        trouble = UpstreamError("later", status=status)
        fill, _ = fill_of(draft, whole(BODY[:HALF], BROKE), trouble, part(BODY[HALF:], start=HALF))
        await run(fill)
        assert await kept(store) == BODY

    @pytest.mark.parametrize("status", [400, 401, 404, 410])
    async def test_refusals_do_not(self, draft: Draft, status: int) -> None:
        refusal = UpstreamError("no", status=status)
        fill, script = fill_of(draft, whole(BODY[:HALF], BROKE), refusal)
        await run(fill)
        assert script.offsets == [0, HALF]
        with pytest.raises(UpstreamError, match="no"):
            await fill.wait_begun()

    @pytest.mark.parametrize("content_range", ["", "bytes 0-9/10", "bytes 5-4/3", "nonsense"])
    async def test_another_range_is_not_the_one_asked_for(
        self, store: BreakableStore, draft: Draft, content_range: str
    ) -> None:
        wrong = Reply([BODY[HALF:]], 206, {"Content-Range": content_range})
        fill, script = fill_of(
            draft, whole(BODY[:HALF], BROKE), wrong, part(BODY[HALF:], start=HALF)
        )
        await run(fill)
        assert script.offsets == [0, HALF, HALF]
        assert await kept(store) == BODY

    async def test_an_earlier_attempt_had_it_all(self, store: BreakableStore) -> None:
        earlier = await store.draft(DIGEST)
        await earlier.write(BODY)
        await earlier.suspend()
        fill, script = fill_of(await store.draft(DIGEST), UpstreamError("no", status=416))
        await run(fill)
        assert script.offsets == [len(BODY)]
        assert await kept(store) == BODY

    async def test_an_earlier_attempt_had_too_much(self, store: BreakableStore) -> None:
        earlier = await store.draft(DIGEST)
        await earlier.write(BODY + b"more")
        await earlier.suspend()
        fill, _ = fill_of(await store.draft(DIGEST), UpstreamError("no", status=416))
        await run(fill)
        assert isinstance(fill._error, DigestMismatch)
        assert (await store.draft(DIGEST)).size == 0

    async def test_nothing_there_and_nothing_here(self, draft: Draft) -> None:
        fill, _ = fill_of(draft, UpstreamError("no", status=416))
        await run(fill)
        with pytest.raises(UpstreamError):
            await fill.wait_begun()


class TestWhatIsWrong:
    @pytest.mark.parametrize(
        "replies",
        [
            pytest.param([whole(BODY[:-1] + b"!")], id="digest"),
            pytest.param([whole(BODY, b"more")], id="more than announced"),
            pytest.param([whole(BODY + b"more")], id="more than announced in one piece"),
            pytest.param([whole(BODY[:HALF], size=HALF)], id="shorter"),
            pytest.param([whole(BODY, b"more", size=None)], id="longer, unannounced"),
            pytest.param(
                [whole(BODY[:HALF], BROKE), part(BODY[HALF:], start=HALF, size=len(BODY) + 1)],
                id="another size when resumed",
            ),
            pytest.param(
                [whole(BODY[:HALF], BROKE, size=None), whole(BODY[:10], size=10)],
                id="less than was here already",
            ),
        ],
    )
    async def test_is_not_kept_and_never_whole(
        self, store: BreakableStore, draft: Draft, replies: list[Reply]
    ) -> None:
        fill, _ = fill_of(draft, *replies)
        fill.attach()
        await run(fill)
        with pytest.raises(DigestMismatch):
            await read_fill(fill)
        assert fill.watermark <= len(BODY) + 4 - HOLD_BACK
        assert await kept(store) is None
        assert (await store.draft(DIGEST)).size == 0
        fill.detach()


class TestABrokenStore:
    async def test_in_write_fails_the_fill(self, store: BreakableStore, draft: Draft) -> None:
        store.write_limit = HALF
        fill, _ = fill_of(draft, whole(*PIECES))
        fill.attach()
        await run(fill)
        assert fill.size == len(BODY)
        assert await fill.read(0, 100) == BODY[:100]
        with pytest.raises(StorageError, match="full"):
            await read_fill(fill)

    async def test_at_commit_takes_nothing_from_who_reads(
        self, store: BreakableStore, draft: Draft, caplog: pytest.LogCaptureFixture
    ) -> None:
        store.broken = {"commit"}
        fill, _ = fill_of(draft, whole(*PIECES))
        fill.attach()
        await run(fill)
        assert await read_fill(fill) == BODY
        assert await kept(store) is None
        assert "not kept" in caplog.text
        fill.detach()

    @pytest.mark.parametrize("ending", ["discard", "suspend"])
    @pytest.mark.parametrize(
        "replies", [[whole(b"x" * len(BODY))], [whole(BODY[:HALF]), BROKE], [ValueError("ours")]]
    )
    async def test_as_it_is_given_up_leaves_nobody_waiting(
        self,
        store: BreakableStore,
        draft: Draft,
        tasks: asyncio.TaskGroup,
        ending: str,
        replies: list[Reply | Exception],
    ) -> None:
        store.broken = {ending}
        fill, _ = fill_of(draft, *replies, retries=0)
        fill.attach()
        reading = tasks.create_task(_outcome(read_fill(fill)))
        beginning = tasks.create_task(_outcome(fill.wait_begun()))
        await run(fill)
        assert isinstance(await reading, EntrepotError)
        await beginning
        fill.detach()

    async def test_a_defect_of_ours_leaves_nobody_waiting(self, draft: Draft) -> None:
        fill, _ = fill_of(draft, ValueError("a defect"))
        await run(fill)
        with pytest.raises(StorageError):
            await fill.wait_begun()


async def _outcome(work: Awaitable[object]) -> object:
    try:
        return await work
    except EntrepotError as error:
        return error


class TestReadersAndTheEnd:
    @pytest.fixture
    def closed(self, draft: Draft, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        calls: list[str] = []
        close = draft.close

        def noted() -> None:
            calls.append("close")
            close()

        monkeypatch.setattr(draft, "close", noted)
        return calls

    async def test_the_last_to_leave_closes(self, draft: Draft, closed: list[str]) -> None:
        fill, _ = fill_of(draft, whole(*PIECES))
        fill.attach()
        fill.attach()
        await run(fill)
        fill.detach()
        assert closed == []
        assert fill.attach()
        fill.detach()
        assert closed == []
        fill.detach()
        assert closed == ["close"]

    async def test_nobody_is_there_at_the_end(self, draft: Draft, closed: list[str]) -> None:
        fill, _ = fill_of(draft, whole(*PIECES))
        await run(fill)
        assert closed == ["close"]
        assert not fill.attach()

    async def test_the_last_leaves_before_the_end(
        self, store: BreakableStore, draft: Draft, closed: list[str], tasks: asyncio.TaskGroup
    ) -> None:
        gate = asyncio.Event()
        fill, _ = fill_of(draft, whole(BODY, gate))
        fill.attach()
        running = tasks.create_task(fill.run())
        await fill.wait_begun()
        fill.detach()
        assert closed == []
        assert fill.attach()
        fill.detach()
        gate.set()
        await running
        assert closed == ["close"]
        assert await kept(store) == BODY

    async def test_the_last_leaves_between_verification_and_commit(
        self, store: BreakableStore, draft: Draft, closed: list[str], tasks: asyncio.TaskGroup
    ) -> None:
        """It has all it wanted; the file must stay open until it is admitted."""
        gate, commit = asyncio.Event(), draft.commit

        async def slow(media_type: str) -> None:
            await gate.wait()
            await commit(media_type)

        draft.commit = slow  # type: ignore[method-assign]  # the step that is to be slow
        fill, _ = fill_of(draft, whole(*PIECES))
        fill.attach()
        running = tasks.create_task(fill.run())
        assert await read_fill(fill) == BODY
        fill.detach()
        assert closed == []
        gate.set()
        await running
        assert closed == ["close"]
        assert await kept(store) == BODY

    async def test_statistics(self, draft: Draft) -> None:
        fill, _ = fill_of(draft, whole(*PIECES))
        fill.attach()
        await run(fill)
        statistics = fill.statistics()
        assert statistics.digest == DIGEST
        assert (statistics.size, statistics.watermark, statistics.readers) == (
            len(BODY),
            len(BODY),
            1,
        )


class CancelledAt:
    """Cancels the task of a fill at one of the steps that it waits for, before or after the step
    has been done.
    """

    def __init__(self, step: int, *, is_after: bool) -> None:
        self.steps = 0
        self._cancels_at = step
        self._is_after = is_after
        self.task: asyncio.Task[None] | None = None

    async def __call__[**P, T](
        self, work: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        self.steps += 1
        if self.steps != self._cancels_at:
            return await work(*args, **kwargs)
        if not self._is_after:
            self._cancel()
            await asyncio.sleep(0)
        result = await work(*args, **kwargs)
        self._cancel()
        await asyncio.sleep(0)
        return result

    def _cancel(self) -> None:
        assert self.task is not None
        self.task.cancel()


class SteppedDraft:
    def __init__(self, draft: Draft, step: CancelledAt) -> None:
        self._draft = draft
        self._step = step

    @property
    def size(self) -> int:
        return self._draft.size

    async def expect(self, size: int) -> None:
        await self._step(self._draft.expect, size)

    async def write(self, data: bytes) -> None:
        await self._step(self._draft.write, data)

    async def read(self, offset: int, size: int) -> bytes:
        return await self._draft.read(offset, size)

    async def verify(self) -> None:
        await self._step(self._draft.verify)

    async def commit(self, media_type: str) -> None:
        await self._step(self._draft.commit, media_type)

    async def suspend(self) -> None:
        await self._step(self._draft.suspend)

    async def discard(self) -> None:
        await self._step(self._draft.discard)

    def close(self) -> None:
        self._draft.close()


SCENARIOS: dict[str, list[Reply | Exception]] = {
    "well": [whole(*PIECES[:13], BROKE), part(*PIECES[13:], start=130_000)],
    "wrong": [whole(BODY[:-1], b"!")],
    "given up": [whole(BODY[:HALF], BROKE), BROKE, BROKE],
}


@pytest.mark.parametrize("is_after", [False, True])
@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("step_number", range(1, 36))
async def test_cancelled_anywhere_it_keeps_nothing_wrong_and_nobody_waits(
    store: BreakableStore,
    tasks: asyncio.TaskGroup,
    step_number: int,
    scenario: str,
    *,
    is_after: bool,
) -> None:
    step = CancelledAt(step_number, is_after=is_after)
    draft = SteppedDraft(await store.draft(DIGEST), step)
    script = Script(list(SCENARIOS[scenario]))

    async def fetch(offset: int) -> object:
        return await step(script, offset)

    fill = Fill(DIGEST, draft, fetch, retries=1, fetched=lambda _: None, pause_s=0)  # type: ignore[arg-type]  # as in Script
    fill.attach()
    step.task = tasks.create_task(_cancellable(fill))
    reading = tasks.create_task(_outcome(read_fill(fill)))
    async with asyncio.timeout(5):
        await asyncio.wait([step.task])
        read = await reading
    fill.detach()
    assert isinstance(read, EntrepotError) or read == BODY
    if scenario != "well":
        assert isinstance(read, EntrepotError)
    assert await kept(store) in {None, BODY}
    if fill.is_complete:
        assert read == BODY
    again = await store.draft(DIGEST)
    assert await again.read(0, len(BODY)) in {BODY[: again.size], BODY[:-1] + b"!"}


async def _cancellable(fill: Fill) -> None:
    try:
        await fill.run()
    except asyncio.CancelledError:
        assert fill.is_complete or fill.has_failed


async def test_cancelled_it_keeps_what_is_here_for_another_start(
    store: BreakableStore, draft: Draft, tasks: asyncio.TaskGroup
) -> None:
    fill, _ = fill_of(draft, whole(BODY[:HALF], asyncio.Event()))
    fill.attach()
    running = tasks.create_task(_cancellable(fill))
    await fill.wait_begun()
    await fill.wait_beyond(0)
    running.cancel()
    await running
    with pytest.raises(UpstreamError, match="shutting down"):
        await read_fill(fill)
    fill.detach()
    again, script = fill_of(await store.draft(DIGEST), part(BODY[HALF:], start=HALF))
    await run(again)
    assert script.offsets == [HALF]
    assert await kept(store) == BODY
