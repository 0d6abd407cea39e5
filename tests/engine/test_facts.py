import asyncio

import pytest

from entrepot.cache.record import Absence, Binding
from entrepot.engine import facts as facts_module
from entrepot.engine.facts import Facts
from entrepot.engine.identity import PROXY, Identity
from entrepot.oci.digest import Digest
from entrepot.oci.reference import Repository, Tag
from entrepot.storage.memory import MemoryLedger
from tests.support.broken_storage import BreakableLedger
from tests.support.clock import ManualClock

NAME = "registry.test"
APP, LATEST = Repository("app"), Tag("latest")
DIGEST = Digest.of(b"content")
ALICE = Identity("alice", "Basic YTphCg==")


@pytest.fixture
def ledger(clock: ManualClock) -> BreakableLedger:
    return BreakableLedger(clock)


@pytest.fixture
def facts(ledger: BreakableLedger, clock: ManualClock) -> Facts:
    return Facts(ledger, clock, keep_s=1000)


@pytest.fixture
def others(ledger: BreakableLedger, clock: ManualClock) -> Facts:
    """What another process knows, by way of the ledger alone."""
    return Facts(ledger, clock, keep_s=1000)


def binding(clock: ManualClock, digest: Digest = DIGEST) -> Binding:
    return Binding(digest, "a/b", 7, clock.now())


async def test_what_was_just_used_is_not_asked_of_the_ledger(
    facts: Facts, ledger: BreakableLedger, clock: ManualClock
) -> None:
    await facts.allow(NAME, APP, ALICE)
    ledger.calls.clear()
    assert await facts.verdict(NAME, APP, ALICE)
    assert ledger.calls == []
    clock.advance(1)
    assert await facts.verdict(NAME, APP, ALICE)
    assert [method for method, _ in ledger.calls] == ["get"]


async def test_that_there_is_nothing_is_remembered_as_long(
    facts: Facts, others: Facts, clock: ManualClock
) -> None:
    assert not await facts.is_member(NAME, APP, DIGEST)
    await others.add_members(NAME, APP, (DIGEST,))
    assert not await facts.is_member(NAME, APP, DIGEST)
    clock.advance(1)
    assert await facts.is_member(NAME, APP, DIGEST)


async def test_a_clock_that_was_set_back_makes_the_memory_old(
    facts: Facts, others: Facts, clock: ManualClock
) -> None:
    assert await facts.verdict(NAME, APP, ALICE) is None
    clock.advance(-100)
    await others.allow(NAME, APP, ALICE)
    assert await facts.verdict(NAME, APP, ALICE)


async def test_verdicts_are_of_one_identity_and_repository(facts: Facts) -> None:
    await facts.allow(NAME, APP, ALICE)
    assert await facts.verdict(NAME, APP, ALICE)
    assert await facts.verdict(NAME, APP, PROXY) is None
    assert await facts.verdict(NAME, Repository("app2"), ALICE) is None
    assert await facts.verdict("other.test", APP, ALICE) is None


async def test_a_tag_is_bound_by_what_is_accepted(facts: Facts, clock: ManualClock) -> None:
    await facts.bind(NAME, APP, LATEST, "a/b, c/d", binding(clock))
    assert await facts.tag(NAME, APP, LATEST, "c/d,a/b") == binding(clock)
    assert await facts.tag(NAME, APP, LATEST, "a/b") is None


async def test_unbinding_drops_all_that_was_accepted_and_no_other_tag(
    facts: Facts, others: Facts, clock: ManualClock
) -> None:
    for accept in ("a/b", "c/d", ""):
        await facts.bind(NAME, APP, LATEST, accept, binding(clock))
    for tag in ("latest2", "lates", "1.0"):
        await facts.bind(NAME, APP, Tag(tag), "", binding(clock))
    await facts.unbind(NAME, APP, LATEST)
    for known in (facts, others):
        assert [await known.tag(NAME, APP, LATEST, each) for each in ("a/b", "c/d", "")] == [
            None
        ] * 3
        assert all([await known.tag(NAME, APP, Tag(t), "") for t in ("latest2", "lates", "1.0")])


async def test_what_has_been_written_is_absent_for_nobody(facts: Facts, others: Facts) -> None:
    for identity in (PROXY, ALICE):
        await facts.mark_absent(NAME, "/v2/app/blobs/x", identity, "", status=404)
        await facts.mark_absent(NAME, "/v2/app/blobs/y", identity, "", status=404)
    await facts.unmark_absent(NAME, "/v2/app/blobs/x")
    for known in (facts, others):
        assert await known.absence(NAME, "/v2/app/blobs/x", ALICE, "") is None
        assert await known.absence(NAME, "/v2/app/blobs/x", PROXY, "") is None
        assert await known.absence(NAME, "/v2/app/blobs/y", ALICE, "")


async def test_an_absence_says_who_was_refused_what(facts: Facts, clock: ManualClock) -> None:
    await facts.mark_absent(NAME, "/v2/app/x", ALICE, "", status=403)
    assert await facts.absence(NAME, "/v2/app/x", ALICE, "") == Absence(403, clock.now())
    assert await facts.absence(NAME, "/v2/app/x", PROXY, "") is None


async def test_members_are_written_once(facts: Facts, ledger: BreakableLedger) -> None:
    for _ in range(3):
        await facts.add_members(NAME, APP, (DIGEST,))
    assert [method for method, _ in ledger.calls] == ["put"]


async def test_a_member_that_was_not_one_a_moment_ago_is_written(
    facts: Facts, others: Facts
) -> None:
    assert not await facts.is_member(NAME, APP, DIGEST)
    await facts.add_members(NAME, APP, (DIGEST,))
    assert await others.is_member(NAME, APP, DIGEST)
    await facts.drop_member(NAME, APP, DIGEST)
    assert not await facts.is_member(NAME, APP, DIGEST)


async def test_a_broken_ledger_knows_nothing_and_fails_nobody(
    facts: Facts, ledger: BreakableLedger, clock: ManualClock
) -> None:
    ledger.break_down()
    await facts.allow(NAME, APP, ALICE)
    await facts.bind(NAME, APP, LATEST, "", binding(clock))
    assert await facts.verdict(NAME, APP, ALICE)  # for the moment, from memory
    clock.advance(1)
    assert await facts.verdict(NAME, APP, ALICE) is None
    assert await facts.tag(NAME, APP, LATEST, "") is None
    assert await facts.absence(NAME, "/v2/", ALICE, "") is None


async def test_records_of_another_kind_are_not_taken_for_what_was_asked(
    facts: Facts, ledger: BreakableLedger
) -> None:
    for record in (b"", b"{", b'{"v": 1, "kind": "Absence", "status": 404, "checked_at": 1}'):
        for key in ("verdict/registry.test/app#alice",):
            await ledger.inner.put(key, record, 100)
        assert await facts.verdict(NAME, APP, ALICE) is None


class TestALedgerThatDoesNotForget:
    async def test_a_revoked_verdict_is_not_believed(
        self, facts: Facts, ledger: BreakableLedger, clock: ManualClock
    ) -> None:
        await facts.allow(NAME, APP, ALICE)
        ledger.broken = {"delete"}
        await facts.revoke(NAME, APP, ALICE)
        for _ in range(3):
            assert await facts.verdict(NAME, APP, ALICE) is None
            clock.advance(2)

    async def test_it_is_forgotten_when_the_ledger_can(
        self, facts: Facts, others: Facts, ledger: BreakableLedger, clock: ManualClock
    ) -> None:
        await facts.allow(NAME, APP, ALICE)
        ledger.broken = {"delete"}
        await facts.revoke(NAME, APP, ALICE)
        ledger.recover()
        assert await facts.verdict(NAME, APP, ALICE) is None
        assert await others.verdict(NAME, APP, ALICE) is None

    async def test_a_later_word_is_believed(
        self, facts: Facts, ledger: BreakableLedger, clock: ManualClock
    ) -> None:
        await facts.allow(NAME, APP, ALICE)
        ledger.broken = {"delete"}
        await facts.revoke(NAME, APP, ALICE)
        clock.advance(10)
        await facts.allow(NAME, APP, ALICE)
        clock.advance(10)
        assert await facts.verdict(NAME, APP, ALICE)

    @pytest.mark.parametrize("broken", ["scan", "delete"])
    async def test_a_tag_that_was_written_is_not_served_as_it_was(
        self, facts: Facts, ledger: BreakableLedger, clock: ManualClock, broken: str
    ) -> None:
        await facts.bind(NAME, APP, LATEST, "a/b", binding(clock))
        ledger.broken = {broken}
        await facts.unbind(NAME, APP, LATEST)
        clock.advance(2)
        assert await facts.tag(NAME, APP, LATEST, "a/b") is None
        ledger.recover()
        assert await facts.tag(NAME, APP, LATEST, "a/b") is None

    async def test_beyond_what_can_be_noted_nothing_older_is_believed(
        self,
        facts: Facts,
        ledger: BreakableLedger,
        clock: ManualClock,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(facts_module, "_MEMORY_ENTRIES", 3)
        repositories = [Repository(f"app{number}") for number in range(5)]
        for repository in repositories:
            await facts.allow(NAME, repository, ALICE)
        ledger.broken = {"delete"}
        for repository in repositories[:4]:
            await facts.revoke(NAME, repository, ALICE)
        clock.advance(2)
        assert [await facts.verdict(NAME, each, ALICE) for each in repositories] == [None] * 5
        await facts.allow(NAME, APP, ALICE)
        clock.advance(2)
        assert await facts.verdict(NAME, APP, ALICE)


class SlowLedger(MemoryLedger):
    """Holds back what it has read, as a thread does."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.has_read = asyncio.Event()
        self.may_answer = asyncio.Event()

    async def get(self, key: str) -> bytes | None:
        value = await super().get(key)
        self.has_read.set()
        await self.may_answer.wait()
        return value


async def test_what_was_read_before_a_revocation_is_not_remembered_after_it(
    clock: ManualClock, tasks: asyncio.TaskGroup
) -> None:
    ledger = SlowLedger(clock)
    await Facts(ledger, clock, keep_s=1000).allow(NAME, APP, ALICE)
    facts = Facts(ledger, clock, keep_s=1000)
    asking = tasks.create_task(facts.verdict(NAME, APP, ALICE))
    await ledger.has_read.wait()
    await facts.revoke(NAME, APP, ALICE)
    ledger.may_answer.set()
    await asking
    assert await facts.verdict(NAME, APP, ALICE) is None


async def test_what_was_read_before_a_word_does_not_replace_it(
    clock: ManualClock, tasks: asyncio.TaskGroup
) -> None:
    ledger = SlowLedger(clock)
    facts = Facts(ledger, clock, keep_s=1000)
    asking = tasks.create_task(facts.verdict(NAME, APP, ALICE))
    await ledger.has_read.wait()
    await facts.allow(NAME, APP, ALICE)
    ledger.may_answer.set()
    assert await asking is None
    assert await facts.verdict(NAME, APP, ALICE)


async def test_the_memory_is_bounded(
    facts: Facts, ledger: BreakableLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facts_module, "_MEMORY_ENTRIES", 2)
    for number in range(3):
        await facts.allow(NAME, Repository(f"app{number}"), ALICE)
    ledger.calls.clear()
    for number in range(2, -1, -1):
        await facts.verdict(NAME, Repository(f"app{number}"), ALICE)
    assert [key for _, key in ledger.calls] == ["verdict/registry.test/app0#alice"]


async def test_who_holds_content_is_known_unless_it_was_to_be_forgotten(
    facts: Facts, ledger: BreakableLedger
) -> None:
    for repository in (APP, Repository("base"), Repository("other")):
        await facts.add_members(NAME, repository, (DIGEST,))
    await facts.drop_member(NAME, Repository("other"), DIGEST)
    ledger.broken = {"delete"}
    await facts.drop_member(NAME, Repository("base"), DIGEST)
    assert await facts.holders(DIGEST) == [(NAME, APP)]
    assert await facts.holders(Digest.of(b"other")) == []
    ledger.break_down()
    assert await facts.holders(DIGEST) == []


async def test_some_bindings_of_a_tag_or_of_all_tags_are_forgotten(
    facts: Facts, others: Facts, clock: ManualClock
) -> None:
    other = Digest.of(b"other")
    for tag, accept, digest in (("1", "a/b", DIGEST), ("1", "c/d", other), ("2", "", DIGEST)):
        await facts.bind(NAME, APP, Tag(tag), accept, binding(clock, digest))
    assert len(await facts.bindings(NAME, APP, Tag("1"))) == 2
    await facts.unbind_where(NAME, APP, Tag("1"), lambda known: known.digest == DIGEST)
    assert [known.digest for known in await others.bindings(NAME, APP, Tag("1"))] == [other]
    await facts.unbind_where(NAME, APP, None, lambda known: known.digest == DIGEST)
    assert await others.bindings(NAME, APP, Tag("2")) == []
    assert await others.bindings(NAME, APP, Tag("1"))


async def test_which_they_are_a_broken_ledger_does_not_tell(
    facts: Facts, ledger: BreakableLedger, clock: ManualClock
) -> None:
    await facts.bind(NAME, APP, LATEST, "", binding(clock))
    ledger.broken = {"scan"}
    assert await facts.bindings(NAME, APP, LATEST) == []
    await facts.unbind_where(NAME, APP, None, lambda _: True)
    assert await facts.tag(NAME, APP, LATEST, "")
    await facts.unbind_where(NAME, APP, LATEST, lambda _: False)
    assert await facts.tag(NAME, APP, LATEST, "") is None


async def test_what_is_known_of_one_token_is_kept_no_longer_than_it_is_of_use(
    ledger: BreakableLedger, clock: ManualClock
) -> None:
    facts = Facts(ledger, clock, keep_s=1000, passing_s=100)
    token = Identity("token", "Bearer t", is_passing=True)
    for identity in (ALICE, token):
        await facts.allow(NAME, APP, identity)
    clock.advance(100)
    assert await facts.verdict(NAME, APP, ALICE) is not None
    assert await facts.verdict(NAME, APP, token) is None
    assert len([row async for row in ledger.scan("verdict/")]) == 1
