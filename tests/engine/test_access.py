import asyncio
from collections.abc import Iterator

import pytest

from entrepot.cache.entitlement import Standing
from entrepot.engine.identity import PROXY, Identity, own_identity
from entrepot.errors import UpstreamError
from entrepot.oci.digest import Digest
from entrepot.oci.reference import Repository
from tests.engine.asking import APP, OFFLINE_GRACE_S, VERDICT_TTL_S, Asking, asking
from tests.support.clock import ManualClock
from tests.support.content import Given
from tests.support.engine import NAME, Rig, accepting, basic, blob_path, manifest_path
from tests.support.faults import AnswerWith, Header, Hold
from tests.support.images import build_image
from tests.support.registry import ScriptedRegistry
from tests.support.token_service import Auth

CONTENT = Given(b"a layer")
DIGEST = Digest.parse(CONTENT.digest)
PATH = blob_path(CONTENT)
ALICE = own_identity(basic("alice", "wonder"), b"key")

FRESH, AGED, TOO_OLD = 0, VERDICT_TTL_S, VERDICT_TTL_S + OFFLINE_GRACE_S
PASSES, DEAD, RESTING = 200, None, "resting"
OUTCOMES = (PASSES, 401, 403, 404, 429, 500, DEAD, RESTING)
OUTAGES = (500, DEAD, RESTING)

Outcome = int | str | None


@pytest.fixture
def registry() -> Iterator[ScriptedRegistry]:
    """Open to all, but not to wrong passwords."""
    with ScriptedRegistry(auth=Auth(users={"alice": "wonder"})) as registry:
        yield registry


@pytest.fixture
def known(rig: Rig, clock: ManualClock, tasks: asyncio.TaskGroup) -> Asking:
    rig.registry.add_blob("app", CONTENT)
    return asking(rig, clock, tasks)


async def prepare(
    known: Asking, clock: ManualClock, age: int | None, outcome: Outcome, *, is_member: bool
) -> None:
    """The verdict is of this age, or there is none; and the upstream is as it is."""
    registry = known.rig.registry
    if is_member:
        await known.facts.add_members(NAME, APP, (DIGEST,))
    if age is not None:
        await known.facts.allow(NAME, APP, ALICE)
        clock.advance(age)
    if outcome in {DEAD, RESTING}:
        registry.die()
    if outcome == RESTING:
        with pytest.raises(UpstreamError):
            await known.origin.head(known.about("/v2/other/tags/list"))
        registry.revive()  # to be asked would be to be answered
    elif isinstance(outcome, int) and outcome != PASSES:
        registry.fault(AnswerWith(outcome), path=PATH)


async def said(known: Asking, identity: Identity = ALICE) -> Outcome:
    """200 where it may be had, else the status of the refusal."""
    try:
        await known.access.ensure(known.about(PATH, identity=identity), DIGEST)
    except UpstreamError as error:
        return error.status
    return PASSES


@pytest.mark.parametrize("outcome", OUTCOMES)
async def test_a_fresh_word_on_what_is_held_needs_no_asking(
    known: Asking, clock: ManualClock, outcome: Outcome
) -> None:
    await prepare(known, clock, FRESH, outcome, is_member=True)
    assert await said(known) == PASSES
    assert known.rig.registry.log.count(PATH) == 0


@pytest.mark.parametrize("outcome", OUTCOMES)
async def test_an_aged_word_on_what_is_held_bridges_outages_alone(
    known: Asking, clock: ManualClock, outcome: Outcome
) -> None:
    await prepare(known, clock, AGED, outcome, is_member=True)
    bridged = {500, DEAD, RESTING}  # a quota, maybe used up by others, is no outage
    assert await said(known) == (PASSES if outcome in bridged else outcome)
    asked = outcome not in {DEAD, RESTING}
    assert known.rig.registry.log.count(PATH, method="HEAD") == asked


@pytest.mark.parametrize("outcome", OUTCOMES)
@pytest.mark.parametrize(
    ("age", "is_member"),
    [(None, True), (None, False), (TOO_OLD, True), (TOO_OLD, False), (FRESH, False), (AGED, False)],
)
async def test_without_a_word_or_a_member_the_upstream_decides(
    known: Asking, clock: ManualClock, age: int | None, outcome: Outcome, *, is_member: bool
) -> None:
    await prepare(known, clock, age, outcome, is_member=is_member)
    expected = PASSES if outcome == RESTING else outcome  # asked all the same, and it is back
    assert await said(known) == expected
    if outcome != DEAD:
        assert known.rig.registry.log.count(PATH, method="HEAD") == 1


async def test_a_quota_that_is_used_up_bridges_for_who_has_the_proxys_rights(
    known: Asking, clock: ManualClock
) -> None:
    """Not for others: their rights would live on for as long as others use it up."""
    await known.facts.allow(NAME, APP, PROXY)
    await prepare(known, clock, AGED, 429, is_member=True)
    assert await said(known, PROXY) == PASSES
    assert await said(known) == 429
    known.rig.registry.script.clear()
    assert await said(known) == PASSES  # asked, however long the quota is known to last


@pytest.mark.parametrize("status", [405, 501])
async def test_a_registry_that_knows_no_head(known: Asking, status: int) -> None:
    known.rig.registry.fault(AnswerWith(status), method="HEAD")
    assert await said(known) == PASSES
    assert [entry.method for entry in known.rig.registry.log.find(PATH)] == ["HEAD", "GET"]


async def test_a_registry_that_holds_something_else_there(known: Asking) -> None:
    known.rig.registry.fault(Header("Docker-Content-Digest", f"sha256:{'0' * 64}"))
    assert await said(known) == 404


async def test_a_word_that_was_given_is_kept(known: Asking) -> None:
    assert [await said(known) for _ in range(3)] == [PASSES] * 3
    assert known.rig.registry.log.count(PATH) == 1
    assert await known.access.standing(known.about(PATH, identity=ALICE)) is Standing.FRESH
    assert await known.access.standing(known.about(PATH)) is Standing.UNKNOWN


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refusal_takes_the_word_back(
    known: Asking, clock: ManualClock, status: int
) -> None:
    await prepare(known, clock, AGED, status, is_member=True)
    assert await said(known) == status
    known.rig.registry.die()
    clock.advance(10)
    assert await said(known) is DEAD


async def test_what_is_gone_stays_so_when_the_upstream_falls_silent(
    known: Asking, clock: ManualClock
) -> None:
    await known.facts.allow(NAME, APP, PROXY)
    await prepare(known, clock, AGED, 404, is_member=True)
    assert await said(known, PROXY) == 404
    known.rig.registry.die()
    assert await said(known, PROXY) == 404
    clock.advance(10)
    assert await said(known, PROXY) is DEAD


async def test_a_stranger_who_hears_404_takes_nothing_from_who_may_read(
    known: Asking, clock: ManualClock
) -> None:
    await known.facts.add_members(NAME, APP, (DIGEST,))
    known.rig.registry.fault(AnswerWith(404), path=PATH)
    assert await said(known) == 404
    assert await known.facts.is_member(NAME, APP, DIGEST)


async def test_a_no_is_repeated_for_a_moment_without_asking(
    known: Asking, clock: ManualClock
) -> None:
    undo = known.rig.registry.fault(AnswerWith(404), path=PATH)
    assert await said(known) == 404
    undo()
    clock.advance(9.9)
    assert await said(known) == 404
    assert known.rig.registry.log.count(PATH) == 1
    clock.advance(0.1)
    assert await said(known) == PASSES


async def test_a_no_to_one_is_none_to_another(known: Asking) -> None:
    known.rig.registry.fault(AnswerWith(404), path=PATH, times=1)
    assert await said(known) == 404
    await known.access.ensure(known.about(PATH), DIGEST)


async def test_a_clock_set_back_forgets_the_no(known: Asking, clock: ManualClock) -> None:
    known.rig.registry.fault(AnswerWith(404), path=PATH, times=1)
    assert await said(known) == 404
    clock.advance(-5)
    assert await said(known) == PASSES


@pytest.mark.usefixtures("task_factory")
async def test_many_who_ask_alike_are_one_question(known: Asking) -> None:
    assert await asyncio.gather(*(said(known) for _ in range(50))) == [PASSES] * 50
    assert known.rig.registry.log.count(PATH, method="HEAD") == 1


async def test_who_can_fall_back_on_something_does_not_wait_long(
    known: Asking, clock: ManualClock
) -> None:
    await prepare(known, clock, AGED, PASSES, is_member=True)
    known.rig.registry.fault(Hold(), path=PATH)
    async with asyncio.timeout(3):  # and not for the five seconds that an answer may take
        assert await said(known) == PASSES


async def test_manifests_are_asked_about_with_what_is_accepted(
    registry: ScriptedRegistry, known: Asking
) -> None:
    image = registry.add_image("app")
    path = manifest_path(image.digest)
    ask = known.about(path, accept=image.media_type)
    await known.access.ensure(ask, Digest.parse(image.digest))
    (seen,) = registry.log.find(path)
    assert seen.headers["accept"] == image.media_type


class TestSharedLayers:
    """Content is stored once, whatever repositories hold it."""

    @pytest.fixture(autouse=True)
    async def _elsewhere(self, known: Asking, clock: ManualClock) -> None:
        """Alice got it from another repository, and may read this one, too."""
        await known.facts.add_members(NAME, Repository("base"), (DIGEST,))
        await known.facts.allow(NAME, Repository("base"), ALICE)
        await known.facts.allow(NAME, APP, ALICE)

    async def test_are_asked_for_while_the_upstream_answers(self, known: Asking) -> None:
        known.rig.registry.fault(AnswerWith(404), path=PATH)
        assert await said(known) == 404

    async def test_are_served_in_an_outage(self, known: Asking) -> None:
        known.rig.registry.die()
        assert [await said(known) for _ in range(2)] == [PASSES, PASSES]

    async def test_not_to_who_may_not_read_there(self, known: Asking) -> None:
        await known.facts.revoke(NAME, Repository("base"), ALICE)
        known.rig.registry.die()
        assert [await said(known) for _ in range(2)] == [DEAD, DEAD]

    async def test_not_for_the_word_of_another_registry(self, known: Asking) -> None:
        await known.facts.drop_member(NAME, Repository("base"), DIGEST)
        await known.facts.add_members("other.test", Repository("base"), (DIGEST,))
        await known.facts.allow("other.test", Repository("base"), ALICE)
        known.rig.registry.die()
        assert await said(known) is DEAD

    async def test_not_to_who_may_not_read_here(self, known: Asking) -> None:
        await known.facts.revoke(NAME, APP, ALICE)
        known.rig.registry.die()
        assert await said(known) is DEAD

    async def test_not_after_the_other_word_is_too_old(
        self, known: Asking, clock: ManualClock
    ) -> None:
        clock.advance(TOO_OLD)
        await known.facts.allow(NAME, APP, ALICE)
        known.rig.registry.die()
        assert await said(known) is DEAD


async def test_a_manifest_that_names_what_its_author_has_not_opens_nothing(
    registry: ScriptedRegistry, rig: Rig
) -> None:
    """Registries do not ask for layers with URLs, nor some for any, when a manifest is pushed."""
    secret = registry.add_blob("private", CONTENT)
    registry.make_private("private", "alice")
    theirs = registry.add("public", "1.0", build_image([CONTENT]))
    registry._answers.repository("public").blobs.discard(secret.digest)
    headers = {"Authorization": basic("alice", "wonder")}
    assert (await rig.ask(blob_path(secret, "private"), headers)).status == 200
    assert (await rig.ask(manifest_path("1.0", "public"), accepting(theirs))).status == 200
    for path in (blob_path(secret, "public"), blob_path(secret, "private")):
        assert (await rig.ask(path)).status in {401, 404}


@pytest.mark.parametrize("age", [FRESH, AGED])
@pytest.mark.parametrize("outcome", OUTCOMES)
async def test_what_is_open_to_all_is_so_to_who_brings_credentials(
    known: Asking, clock: ManualClock, age: int, outcome: Outcome
) -> None:
    """As far as the upstream cannot judge those: the word on others is only that on nobody."""
    await known.facts.allow(NAME, APP, PROXY)
    clock.advance(age)
    await prepare(known, clock, None, outcome, is_member=True)
    ask = known.about(PATH, identity=ALICE)
    assert await known.access.standing(ask) is Standing.AGED
    if outcome == PASSES or outcome in OUTAGES:
        await known.access.ensure(ask, DIGEST)
    else:
        with pytest.raises(UpstreamError):
            await known.access.ensure(ask, DIGEST)


@pytest.mark.parametrize("one", [ALICE, PROXY])
async def test_what_is_open_to_somebody_is_so_to_nobody_else(
    known: Asking, clock: ManualClock, one: Identity
) -> None:
    await known.facts.allow(NAME, APP, own_identity(basic("bob", "builder"), b"key"))
    await prepare(known, clock, None, DEAD, is_member=True)
    assert await known.access.standing(known.about(PATH, identity=one)) is Standing.UNKNOWN
    with pytest.raises(UpstreamError):
        await known.access.ensure(known.about(PATH, identity=one), DIGEST)


async def test_nor_is_it_for_longer_than_to_all(known: Asking, clock: ManualClock) -> None:
    await known.facts.allow(NAME, APP, PROXY)
    clock.advance(TOO_OLD)
    ask = known.about(PATH, identity=ALICE)
    assert await known.access.standing(ask) is Standing.UNKNOWN
