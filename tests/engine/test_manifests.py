"""The rules for tags, row by row, with real requests and time that the test makes pass."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from entrepot.config.kinds import Bytes, Seconds
from entrepot.config.model import Auth, Config, TagRule, Tags
from tests.support.broken_storage import BreakableStore
from tests.support.clock import ManualClock
from tests.support.content import Given
from tests.support.engine import (
    NAME,
    Answer,
    Rig,
    accepting,
    blob_path,
    config_for,
    impatient,
    manifest_path,
    open_engine,
)
from tests.support.faults import (
    AnswerWith,
    Chunked,
    Corrupt,
    Header,
    HeadWithoutLength,
    Hold,
    pull_limit_reached,
)
from tests.support.images import Manifest
from tests.support.registry import ScriptedRegistry

TAG = manifest_path("1.0")
TTL_S, MAX_STALE_S = 60, 1000
RULES = (
    TagRule(match="*:fixed", immutable=True),
    TagRule(match="*:never", never=True),
    TagRule(match="*:long", ttl=Seconds(600)),
    TagRule(match="*:zero", ttl=Seconds(0)),
)
TROUBLES = [
    AnswerWith(429),
    AnswerWith(500),
    AnswerWith(503),
    AnswerWith(408),
]


def settings(registry: ScriptedRegistry) -> Config:
    tags = Tags(ttl=Seconds(TTL_S), max_stale=Seconds(MAX_STALE_S), rules=RULES)
    # So that what is tested is the age of tags, and not of the word on who may read.
    return config_for(registry, tags=tags, auth=Auth(verdict_ttl=Seconds(10**6)))


@pytest.fixture
async def rig(registry: ScriptedRegistry, clock: ManualClock) -> AsyncIterator[Rig]:
    async with open_engine(registry, clock, config=settings(registry)) as rig:
        yield rig


class Pulls:
    """Of one repository, by a client that takes what there is."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.image = rig.registry.add_image("app", "1.0")

    async def get(self, reference: str = "1.0", *, method: str = "GET") -> Answer:
        return await self.rig.ask(manifest_path(reference), accepting(self.image), method=method)

    def move(self, tag: str = "1.0") -> Manifest:
        """The tag points to something else from now on."""
        return self.rig.registry.add_image("app", tag, seed=7)

    @property
    def asked(self) -> list[str]:
        """Methods, since this was last looked at."""
        found = [entry.method for entry in self.rig.registry.log.find("/v2/*/manifests/*")]
        self.rig.registry.forget()
        return found


@pytest.fixture
def pulls(rig: Rig) -> Pulls:
    return Pulls(rig)


class TestFresh:
    async def test_a_first_request_fetches(self, pulls: Pulls) -> None:
        answer = await pulls.get()
        assert (answer.status, answer.cache, answer.body) == (200, "miss", pulls.image.body)
        assert answer.headers["Content-Type"] == pulls.image.media_type
        assert answer.headers["Docker-Content-Digest"] == pulls.image.digest
        assert answer.headers["ETag"] == f'"{pulls.image.digest}"'
        assert answer.headers["Age"] == "0"
        assert pulls.asked == ["GET"]

    async def test_until_the_ttl_is_over_nobody_is_asked(
        self, pulls: Pulls, clock: ManualClock
    ) -> None:
        await pulls.get()
        pulls.move()
        clock.advance(TTL_S - 1)
        pulls.rig.registry.forget()
        answer = await pulls.get()
        assert (answer.cache, answer.body) == ("hit", pulls.image.body)
        assert answer.headers["Cache-Status"] == "Entrepot; hit"
        assert answer.headers["Age"] == str(TTL_S - 1)
        assert pulls.asked == []

    async def test_a_head_is_answered_from_what_a_get_left(self, pulls: Pulls) -> None:
        await pulls.get()
        pulls.rig.registry.forget()
        answer = await pulls.get(method="HEAD")
        assert (answer.status, answer.cache, answer.body) == (200, "hit", b"")
        assert answer.length == len(pulls.image.body)
        assert pulls.asked == []

    async def test_a_head_stays_a_head(self, pulls: Pulls, clock: ManualClock) -> None:
        answer = await pulls.get(method="HEAD")
        assert (answer.status, answer.length) == (200, len(pulls.image.body))
        clock.advance(TTL_S)
        assert (await pulls.get(method="HEAD")).cache == "revalidated"
        assert pulls.asked == ["HEAD", "HEAD"]

    async def test_what_only_a_head_asked_for_is_fetched_when_wanted(self, pulls: Pulls) -> None:
        await pulls.get(method="HEAD")
        answer = await pulls.get()
        assert (answer.cache, answer.body) == ("miss", pulls.image.body)
        assert pulls.asked == ["HEAD", "GET"]

    async def test_the_client_has_it_already(self, pulls: Pulls) -> None:
        headers = accepting(pulls.image) | {"If-None-Match": f'"{pulls.image.digest}"'}
        for _ in ("miss", "hit"):
            answer = await pulls.rig.ask(TAG, headers)
            assert (answer.status, answer.body) == (304, b"")

    async def test_what_is_accepted_is_another_binding(self, pulls: Pulls) -> None:
        await pulls.get()
        answer = await pulls.rig.ask(TAG, {"Accept": "application/x-unknown"})
        assert answer.status == 404

    async def test_the_query_of_mirrors_is_no_part_of_the_name(self, pulls: Pulls) -> None:
        await pulls.get()
        answer = await pulls.rig.ask(f"{TAG}?ns={NAME}", accepting(pulls.image))
        assert answer.cache == "hit"

    async def test_a_clock_set_back_makes_it_ask(self, pulls: Pulls, clock: ManualClock) -> None:
        await pulls.get()
        clock.advance(-1000)
        assert (await pulls.get()).cache == "revalidated"


class TestRevalidation:
    async def test_one_head_makes_it_fresh_again(self, pulls: Pulls, clock: ManualClock) -> None:
        await pulls.get()
        clock.advance(TTL_S)
        answer = await pulls.get()
        assert (answer.cache, answer.body) == ("revalidated", pulls.image.body)
        assert answer.headers["Age"] == "0"
        assert (await pulls.get()).cache == "hit"
        assert pulls.asked == ["GET", "HEAD"]

    async def test_what_has_moved_is_fetched(self, pulls: Pulls, clock: ManualClock) -> None:
        await pulls.get()
        moved = pulls.move()
        clock.advance(TTL_S)
        answer = await pulls.get()
        assert (answer.cache, answer.body) == ("miss", moved.body)
        assert pulls.asked == ["GET", "HEAD", "GET"]

    async def test_unless_it_is_here(self, pulls: Pulls, clock: ManualClock) -> None:
        await pulls.get()
        moved = pulls.move()
        await pulls.get(moved.digest)
        clock.advance(TTL_S)
        answer = await pulls.get()
        assert (answer.cache, answer.body) == ("revalidated", moved.body)
        assert pulls.asked == ["GET", "GET", "HEAD"]

    @pytest.mark.usefixtures("task_factory")
    async def test_fifty_at_once_cost_one_head(self, pulls: Pulls, clock: ManualClock) -> None:
        await pulls.get()
        clock.advance(TTL_S)
        pulls.rig.registry.forget()
        answers = await asyncio.gather(*(pulls.get() for _ in range(50)))
        assert {answer.body for answer in answers} == {pulls.image.body}
        assert pulls.asked == ["HEAD"]

    @pytest.mark.usefixtures("task_factory")
    async def test_fifty_cold_cost_one_get(self, pulls: Pulls) -> None:
        answers = await asyncio.gather(*(pulls.get() for _ in range(50)))
        assert {answer.body for answer in answers} == {pulls.image.body}
        assert pulls.asked == ["GET"]

    @pytest.mark.parametrize("status", [405, 501])
    async def test_a_registry_that_knows_no_head(
        self, pulls: Pulls, clock: ManualClock, status: int
    ) -> None:
        pulls.rig.registry.fault(AnswerWith(status), method="HEAD")
        assert (await pulls.get(method="HEAD")).length == len(pulls.image.body)
        assert pulls.asked == ["HEAD", "GET"]
        clock.advance(TTL_S)
        assert (await pulls.get(method="HEAD")).status == 200
        assert pulls.asked == ["HEAD", "GET"]

    @pytest.mark.parametrize(
        "fault",
        [
            HeadWithoutLength(),
            Header("Docker-Content-Digest", None),
            Header("Docker-Content-Digest", "md5:0"),
            Header("Content-Type", None),
        ],
    )
    async def test_a_head_that_does_not_say_enough(
        self, pulls: Pulls, clock: ManualClock, fault: Header
    ) -> None:
        pulls.rig.registry.fault(fault, method="HEAD")
        await pulls.get()
        clock.advance(TTL_S)
        assert (await pulls.get()).body == pulls.image.body
        assert pulls.asked == ["GET", "HEAD", "GET"]

    async def test_a_get_that_names_no_digest(self, pulls: Pulls) -> None:
        pulls.rig.registry.fault(Header("Docker-Content-Digest", None))
        answer = await pulls.get()
        assert answer.headers["Docker-Content-Digest"] == pulls.image.digest


class TestStale:
    @pytest.fixture(autouse=True)
    async def _cached(self, pulls: Pulls, clock: ManualClock) -> None:
        await pulls.get()
        clock.advance(TTL_S)
        pulls.rig.registry.forget()

    @pytest.mark.parametrize("trouble", TROUBLES)
    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    async def test_is_served_in_trouble_and_said_so(
        self, pulls: Pulls, trouble: AnswerWith, method: str
    ) -> None:
        pulls.rig.registry.fault(trouble)
        answer = await pulls.get(method=method)
        assert (answer.status, answer.cache) == (200, "stale")
        assert answer.length == len(pulls.image.body)
        assert answer.headers["Age"] == str(TTL_S)
        assert "detail=upstream-unavailable" in answer.headers["Cache-Status"]
        assert answer.trace.error

    async def test_who_is_dead_is_not_asked_again_and_again(self, pulls: Pulls) -> None:
        pulls.rig.registry.die()
        statuses = [(await pulls.get()).headers["Cache-Status"] for _ in range(3)]
        assert statuses == [
            "Entrepot; fwd=stale; detail=upstream-unavailable",
            "Entrepot; hit; detail=upstream-unavailable",
            "Entrepot; hit; detail=upstream-unavailable",
        ]

    async def test_who_is_back_is_asked_after_a_pause(
        self, pulls: Pulls, clock: ManualClock
    ) -> None:
        pulls.rig.registry.die()
        await pulls.get()
        pulls.rig.registry.revive()
        clock.advance(30)
        assert (await pulls.get()).cache == "revalidated"

    async def test_silence_is_not_waited_out(self, pulls: Pulls) -> None:
        pulls.rig.registry.fault(Hold())
        async with asyncio.timeout(3):
            assert (await pulls.get()).cache == "stale"

    async def test_to_the_last_second(self, pulls: Pulls, clock: ManualClock) -> None:
        clock.advance(MAX_STALE_S - 1)
        pulls.rig.registry.die()
        assert (await pulls.get()).cache == "stale"
        clock.advance(1)
        assert (await pulls.get()).status == 502

    @pytest.mark.parametrize(
        ("status", "code"),
        [(404, "MANIFEST_UNKNOWN"), (403, "DENIED"), (400, "UNSUPPORTED")],
    )
    async def test_a_no_is_an_answer(self, pulls: Pulls, status: int, code: str) -> None:
        pulls.rig.registry.fault(AnswerWith(status))
        answer = await pulls.get()
        assert (answer.status, answer.code) == (status, code)

    async def test_what_is_gone_is_not_served_once_it_is_dead(
        self, pulls: Pulls, clock: ManualClock
    ) -> None:
        pulls.rig.registry.delete_tag("app", "1.0")
        assert (await pulls.get()).status == 404
        pulls.rig.registry.die()
        clock.advance(100)
        assert (await pulls.get()).status == 502

    async def test_the_limit_met_after_it_has_moved(self, pulls: Pulls, clock: ManualClock) -> None:
        """HEAD is free on Docker Hub and tells that it has moved; GET is refused then."""
        pulls.move()
        pulls.rig.registry.fault(pull_limit_reached(), method="GET")
        for _ in range(3):
            answer = await pulls.get()
            assert (answer.cache, answer.body) == ("stale", pulls.image.body)
            clock.advance(TTL_S)

    async def test_heads_in_between_do_not_lose_it(self, pulls: Pulls) -> None:
        moved = pulls.move()
        head = await pulls.get(method="HEAD")
        assert head.headers["Docker-Content-Digest"] == moved.digest
        pulls.rig.registry.fault(pull_limit_reached(), method="GET")
        assert (await pulls.get()).body == pulls.image.body

    async def test_a_wrong_body_does_not_replace_it(self, pulls: Pulls) -> None:
        pulls.move()
        pulls.rig.registry.fault(Corrupt(5), method="GET")
        assert (await pulls.get()).body == pulls.image.body


class TestRules:
    @pytest.mark.parametrize(
        ("tag", "advanced", "asked"),
        [
            ("1.0", TTL_S, ["HEAD"]),
            ("long", 599, []),
            ("long", 600, ["HEAD"]),
            ("zero", 0, ["HEAD"]),
            ("fixed", 10**5, []),
            ("never", 0, ["GET"]),
        ],
    )
    async def test_what_is_asked_for_the_second_time(
        self, pulls: Pulls, clock: ManualClock, tag: str, advanced: int, asked: list[str]
    ) -> None:
        pulls.rig.registry.add("app", tag, pulls.image)
        await pulls.get(tag)
        pulls.rig.registry.forget()
        clock.advance(advanced)
        answer = await pulls.get(tag)
        assert (answer.status, answer.body) == (200, pulls.image.body)
        assert pulls.asked == asked

    async def test_never_is_not_even_kept_for_an_outage(self, pulls: Pulls) -> None:
        pulls.rig.registry.add("app", "never", pulls.image)
        answer = await pulls.get("never")
        assert answer.headers["Cache-Status"] == "Entrepot; fwd=bypass"
        assert answer.headers["Docker-Content-Digest"] == pulls.image.digest
        assert (await pulls.get("never", method="HEAD")).length == len(pulls.image.body)
        pulls.rig.registry.die()
        assert (await pulls.get("never")).status == 502

    async def test_never_believes_no_absence(self, pulls: Pulls) -> None:
        assert (await pulls.get("never")).status == 404
        pulls.rig.registry.add("app", "never", pulls.image)
        assert (await pulls.get("never")).status == 200

    @pytest.mark.parametrize("tag", ["1.1", "fixed"])
    async def test_a_tag_that_is_not_there_is_refused_for_ten_seconds(
        self, pulls: Pulls, clock: ManualClock, tag: str
    ) -> None:
        assert (await pulls.get(tag)).status == 404
        pulls.rig.registry.add("app", tag, pulls.image)
        clock.advance(9)
        answer = await pulls.get(tag)
        assert (answer.status, answer.code, answer.cache) == (404, "MANIFEST_UNKNOWN", "negative")
        clock.advance(1)
        assert (await pulls.get(tag)).status == 200
        assert pulls.asked == ["GET", "GET"]

    async def test_with_no_ttl_there_is_no_refusal_kept(self, pulls: Pulls) -> None:
        assert (await pulls.get("zero")).status == 404
        pulls.rig.registry.add("app", "zero", pulls.image)
        assert (await pulls.get("zero")).status == 200


class TestImmutable:
    @pytest.fixture
    async def rig(self, registry: ScriptedRegistry, clock: ManualClock) -> AsyncIterator[Rig]:
        tags = Tags(rules=RULES)
        config = config_for(registry, tags=tags, auth=Auth(verdict_ttl=Seconds(300)))
        async with open_engine(registry, clock, config=config) as rig:
            yield rig

    async def test_does_not_move_when_the_word_on_who_may_read_is_renewed(
        self, pulls: Pulls, clock: ManualClock
    ) -> None:
        pulls.rig.registry.add("app", "fixed", pulls.image)
        await pulls.get("fixed")
        pulls.move("fixed")
        pulls.rig.registry.forget()
        for _ in range(3):
            clock.advance(300)
            answer = await pulls.get("fixed")
            assert (answer.cache, answer.body) == ("hit", pulls.image.body)
        assert pulls.asked == ["HEAD"] * 3

    async def test_is_refused_to_who_may_no_longer_read(
        self, pulls: Pulls, clock: ManualClock
    ) -> None:
        pulls.rig.registry.add("app", "fixed", pulls.image)
        await pulls.get("fixed")
        pulls.rig.registry.fault(AnswerWith(403))
        clock.advance(300)
        assert (await pulls.get("fixed")).status == 403
        pulls.rig.registry.die()
        clock.advance(100)
        assert (await pulls.get("fixed")).status == 502

    async def test_is_served_in_an_outage(self, pulls: Pulls, clock: ManualClock) -> None:
        pulls.rig.registry.add("app", "fixed", pulls.image)
        await pulls.get("fixed")
        pulls.rig.registry.die()
        clock.advance(10**6)
        assert (await pulls.get("fixed")).body == pulls.image.body


class TestWhoMayRead:
    """Tags are shared by all; the word on who may read is each identity's own."""

    @pytest.fixture
    async def rig(self, registry: ScriptedRegistry, clock: ManualClock) -> AsyncIterator[Rig]:
        auth = Auth(verdict_ttl=Seconds(30), offline_grace=Seconds(1000))
        async with open_engine(registry, clock, config=config_for(registry, auth=auth)) as rig:
            yield rig

    async def test_a_fresh_tag_needs_a_fresh_word(self, pulls: Pulls, clock: ManualClock) -> None:
        await pulls.get()
        clock.advance(30)
        assert (await pulls.get()).cache == "revalidated"
        assert pulls.asked == ["GET", "HEAD"]

    async def test_an_aged_word_bridges_an_outage(self, pulls: Pulls, clock: ManualClock) -> None:
        await pulls.get()
        pulls.rig.registry.die()
        clock.advance(1029)
        assert [(await pulls.get()).status for _ in range(2)] == [200, 200]
        clock.advance(1)
        assert (await pulls.get()).status == 502


class TestByDigest:
    async def test_is_fetched_once_and_for_all(self, pulls: Pulls, clock: ManualClock) -> None:
        assert (await pulls.get(pulls.image.digest)).cache == "miss"
        clock.advance(10**5)
        answer = await pulls.get(pulls.image.digest)
        assert (answer.cache, answer.body) == ("hit", pulls.image.body)
        assert pulls.asked == ["GET"]

    async def test_heads(self, pulls: Pulls) -> None:
        head = await pulls.get(pulls.image.digest, method="HEAD")
        assert (head.status, head.length) == (200, len(pulls.image.body))
        await pulls.get(pulls.image.digest)
        assert (await pulls.get(pulls.image.digest, method="HEAD")).cache == "hit"
        assert pulls.asked == ["HEAD", "GET"]

    async def test_a_head_that_names_another_digest_is_not_believed(self, pulls: Pulls) -> None:
        pulls.rig.registry.fault(Header("Docker-Content-Digest", f"sha256:{'0' * 64}"))
        head = await pulls.get(pulls.image.digest, method="HEAD")
        assert head.headers["Docker-Content-Digest"] == pulls.image.digest
        assert pulls.asked == ["HEAD", "GET"]

    @pytest.mark.parametrize(("status", "said"), [(405, 200), (501, 200), (403, 403)])
    async def test_a_registry_that_knows_no_head(
        self, pulls: Pulls, status: int, said: int
    ) -> None:
        pulls.rig.registry.fault(AnswerWith(status), method="HEAD")
        head = await pulls.get(pulls.image.digest, method="HEAD")
        assert (head.status, head.body) == (said, b"")

    async def test_a_wrong_body_is_an_error_and_not_kept(self, pulls: Pulls) -> None:
        pulls.rig.registry.fault(Corrupt(5), method="GET", path="*/manifests/*", times=1)
        assert (await pulls.get(pulls.image.digest)).status == 502
        assert (await pulls.get(pulls.image.digest)).body == pulls.image.body

    async def test_absence(self, pulls: Pulls, clock: ManualClock) -> None:
        digest = f"sha256:{'0' * 64}"
        for _ in range(2):
            assert (await pulls.get(digest)).code == "MANIFEST_UNKNOWN"
        assert pulls.asked == ["GET"]
        clock.advance(10)
        await pulls.get(digest)
        assert pulls.asked == ["GET"]

    async def test_children_of_an_index(self, rig: Rig) -> None:
        index = rig.registry.add_image("app", "1.0", platforms=("linux/amd64", "linux/arm64"))
        assert (await rig.ask(TAG, accepting(index))).body == index.body
        for child in index.children:
            answer = await rig.ask(manifest_path(child.digest), accepting(child))
            assert (answer.body, answer.headers["Content-Type"]) == (child.body, child.media_type)

    async def test_a_manifest_that_was_fetched_as_a_layer_is_a_manifest(self, pulls: Pulls) -> None:
        """Anybody can push the bytes of a manifest as a layer."""
        pulls.rig.registry.add_blob("theirs", Given(pulls.image.body))
        answer = await pulls.rig.ask(blob_path(pulls.image.digest, "theirs"))
        assert answer.headers["Content-Type"] == "application/octet-stream"
        answer = await pulls.get(pulls.image.digest)
        assert answer.headers["Content-Type"] == pulls.image.media_type


class TestHeadsOfWhoMayPush:
    @pytest.fixture
    async def rig(self, registry: ScriptedRegistry, clock: ManualClock) -> AsyncIterator[Rig]:
        async with open_engine(registry, clock, config=config_for(registry, push="allow")) as rig:
            yield rig

    @pytest.mark.parametrize("reference", ["1.0", ""])
    async def test_are_the_upstreams_to_answer(self, pulls: Pulls, reference: str) -> None:
        reference = reference or pulls.image.digest
        await pulls.get(reference)
        head = await pulls.get(reference, method="HEAD")
        assert (head.status, head.cache, head.length) == (200, "pass", len(pulls.image.body))
        pulls.rig.registry.delete_tag("app", "1.0")
        del pulls.rig.registry._answers.repositories["app"].manifests[pulls.image.digest]
        assert (await pulls.get(reference, method="HEAD")).status == 404

    @pytest.mark.parametrize(
        "fault", [AnswerWith(405), AnswerWith(503), Header("Docker-Content-Digest", None)]
    )
    async def test_unless_it_cannot(self, pulls: Pulls, fault: AnswerWith) -> None:
        await pulls.get()
        pulls.rig.registry.fault(fault, method="HEAD")
        assert (await pulls.get(method="HEAD")).cache == "hit"


class TestTooLarge:
    @pytest.fixture
    async def rig(self, registry: ScriptedRegistry, clock: ManualClock) -> AsyncIterator[Rig]:
        config = config_for(registry, upstream=impatient(max_manifest=Bytes(100)))
        async with open_engine(registry, clock, config=config) as rig:
            yield rig

    @pytest.mark.parametrize("is_chunked", [False, True])
    async def test_passes_and_is_not_kept(self, pulls: Pulls, *, is_chunked: bool) -> None:
        if is_chunked:
            pulls.rig.registry.fault(Chunked(), method="GET")
        for reference in ("1.0", pulls.image.digest) * 2:
            answer = await pulls.get(reference)
            assert (answer.status, answer.body) == (200, pulls.image.body)
            assert answer.headers["Cache-Status"] == "Entrepot; fwd=bypass"
        pulls.rig.registry.die()
        assert (await pulls.get(pulls.image.digest)).status == 502


class TestBrokenStore:
    @pytest.fixture
    def store(self, clock: ManualClock) -> BreakableStore:
        return BreakableStore(clock)

    @pytest.fixture
    async def rig(
        self, registry: ScriptedRegistry, clock: ManualClock, store: BreakableStore
    ) -> AsyncIterator[Rig]:
        async with open_engine(registry, clock, store=store, config=settings(registry)) as rig:
            yield rig

    @pytest.mark.parametrize("broken", ["open", "put", "content.read", "content.short"])
    async def test_fails_no_pull(
        self, pulls: Pulls, store: BreakableStore, clock: ManualClock, broken: str
    ) -> None:
        store.broken = {broken}
        for _ in range(2):
            for reference in ("1.0", pulls.image.digest):
                assert (await pulls.get(reference)).body == pulls.image.body
            clock.advance(11)

    async def test_what_was_evicted_is_fetched(
        self, pulls: Pulls, store: BreakableStore, clock: ManualClock
    ) -> None:
        await pulls.get()
        store._stored.clear()
        clock.advance(11)
        answer = await pulls.get()
        assert (answer.cache, answer.body) == ("miss", pulls.image.body)


async def test_an_upstream_that_is_dead_at_first_contact(pulls: Pulls) -> None:
    headers = await pulls.rig.login()
    pulls.rig.registry.die()
    answer = await pulls.rig.ask(TAG, headers | accepting(pulls.image))
    assert (answer.status, answer.code) == (502, "UNAVAILABLE")


async def test_when_to_come_back_is_passed_on(pulls: Pulls) -> None:
    pulls.rig.registry.fault(pull_limit_reached(7), method="GET", path=TAG)
    answer = await pulls.get()
    assert (answer.status, answer.code) == (429, "TOOMANYREQUESTS")
    assert answer.headers["Retry-After"] == "7"


@pytest.mark.parametrize("path", [TAG, manifest_path(f"sha256:{'0' * 64}")])
@pytest.mark.usefixtures("task_factory")
async def test_who_leaves_takes_nothing_from_others(
    pulls: Pulls, tasks: asyncio.TaskGroup, path: str
) -> None:
    pulls.rig.registry.add_image("app", None)
    gate = pulls.rig.registry.gate()
    pulls.rig.registry.fault(Hold(gate=gate), path=path)

    def ask() -> asyncio.Task[Answer]:
        return tasks.create_task(pulls.rig.ask(path, accepting(pulls.image)))

    first, second = ask(), ask()
    await pulls.rig.registry.log.wait_until_async(lambda: pulls.rig.registry.manifest_gets() == 1)
    first.cancel()
    gate.open()
    assert (await second).status in {200, 404}
    assert pulls.rig.registry.manifest_gets() == 1
