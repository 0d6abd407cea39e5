"""What is pushed is kept when the upstream has it, and a push never fails for the store's sake."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from entrepot.config.model import Storage
from entrepot.engine import intake as intake_module
from entrepot.engine import pushes as pushes_module
from entrepot.engine.message import Request
from entrepot.oci.digest import Digest
from tests.support.broken_storage import BreakableIntake, BreakableStore
from tests.support.clock import ManualClock
from tests.support.content import Given
from tests.support.engine import (
    NAME,
    Answer,
    Rig,
    accepting,
    basic,
    blob_path,
    config_for,
    manifest_path,
    open_engine,
)
from tests.support.faults import AnswerWith, Header
from tests.support.images import build_image
from tests.support.registry import ScriptedRegistry
from tests.support.token_service import Auth

BEGIN = "/v2/app/blobs/uploads/"
LAYER = Given(bytes(range(256)) * 20_000)
OTHER = Given(b"another layer")


@pytest.fixture
def store(clock: ManualClock) -> BreakableStore:
    return BreakableStore(clock)


@pytest.fixture
async def rig(
    registry: ScriptedRegistry, clock: ManualClock, store: BreakableStore
) -> AsyncIterator[Rig]:
    config = config_for(registry, push="allow")
    async with open_engine(registry, clock, store=store, config=config) as rig:
        yield rig


async def begin(rig: Rig, headers: dict[str, str] | None = None) -> str:
    answer = await rig.ask(BEGIN, headers, method="POST", body=b"")
    assert answer.status == 202
    return answer.headers["Location"]


async def patch(rig: Rig, place: str, body: bytes, start: int | None = None) -> Answer:
    headers = {} if start is None else {"Content-Range": f"{start}-{start + len(body) - 1}"}
    return await rig.ask(place, headers, method="PATCH", body=body)


async def put(rig: Rig, place: str, digest: str, body: bytes = b"") -> Answer:
    return await rig.ask(f"{place}?digest={digest}", method="PUT", body=body)


async def without_end(body: bytes) -> AsyncIterator[bytes]:
    yield body
    await asyncio.Event().wait()


async def status_of(rig: Rig, method: str, path: str, body: AsyncIterator[bytes], size: int) -> int:
    request = Request(method=method, path=path, host=NAME, body=body, content_length=size)
    site = rig.engine.sites.by_authority(NAME)
    assert site is not None
    response = await rig.engine.service.respond(request, site)
    await response.aclose()
    return response.status


async def push(rig: Rig, content: Given = LAYER) -> None:
    place = await begin(rig)
    half = content.size // 2
    assert (await patch(rig, place, content.body[:half], 0)).status == 202
    assert (await patch(rig, place, content.body[half:], half)).status == 202
    assert (await put(rig, place, content.digest)).status == 201


async def blob_gets(rig: Rig, content: Given = LAYER) -> int:
    """Of a pull, whose content is right whatever it took."""
    before = rig.registry.blob_gets()
    answer = await rig.ask(blob_path(content))
    assert (answer.status, answer.body) == (200, content.body)
    return rig.registry.blob_gets() - before


class TestLayers:
    async def test_in_chunks(self, rig: Rig) -> None:
        await push(rig)
        assert await blob_gets(rig) == 0

    async def test_with_the_last_part_in_the_put(self, rig: Rig) -> None:
        place = await begin(rig)
        await patch(rig, place, LAYER.body[:1000])
        assert (await put(rig, place, LAYER.digest, LAYER.body[1000:])).status == 201
        assert await blob_gets(rig) == 0

    async def test_all_at_once(self, rig: Rig) -> None:
        path = f"{BEGIN}?digest={LAYER.digest}"
        assert (await rig.ask(path, method="POST", body=LAYER.body)).status == 201
        assert await blob_gets(rig) == 0

    async def test_whose_end_the_upstream_sees_before_we_do(self, rig: Rig) -> None:
        """It answers to the last byte that was announced, while nobody has asked for more yet."""
        place = await begin(rig)
        assert await status_of(rig, "PATCH", place, without_end(LAYER.body), LAYER.size) == 202
        assert (await put(rig, place, LAYER.digest)).status == 201
        assert await blob_gets(rig) == 0

    async def test_to_where_the_upstream_sends_them(self, rig: Rig) -> None:
        answers = {
            BEGIN: AnswerWith(202, b"", (("Location", "/uploads/1?state=a"),)),
            "/uploads/1": AnswerWith(202, b"", (("Location", "/uploads/2?state=b"),)),
            "/uploads/2": AnswerWith(201, b"", (("Docker-Content-Digest", LAYER.digest),)),
        }
        for path, answer in answers.items():
            rig.registry.fault(answer, path=path)
        await rig.ask(BEGIN, method="POST", body=b"")
        await patch(rig, "/uploads/1?state=a", LAYER.body)
        await rig.ask(f"/uploads/2?state=b&digest={LAYER.digest}", method="PUT")
        rig.registry.add_blob("app", LAYER)
        assert await blob_gets(rig) == 0

    async def test_what_is_not_to_be_kept_is_not(
        self, registry: ScriptedRegistry, clock: ManualClock
    ) -> None:
        config = replace(config_for(registry, push="allow"), storage=Storage(keep_pushes=False))
        async with open_engine(registry, clock, config=config) as rig:
            await push(rig)
            assert await blob_gets(rig) == 1

    @pytest.mark.parametrize(
        ("location", "gets"),
        [
            (f"/v2/app/blobs/{LAYER.digest}", 0),
            (f"https://registry.test/v2/app/blobs/{LAYER.digest}?x=1", 0),
            (f"/v2/apps/blobs/{LAYER.digest}", 1),
            (f"/v2/app/blobs/{OTHER.digest}", 1),
            ("/v2/app/blobs/uploads/1", 1),
            ("/v2/app//", 1),
            ("https://[/", 1),
            ("", 1),
        ],
    )
    async def test_whose_place_alone_says_what_they_are(
        self, rig: Rig, location: str, gets: int
    ) -> None:
        rig.registry.add_blob("app", LAYER)
        said = AnswerWith(201, b"", (("Location", location),))
        rig.registry.fault(said, method="POST")
        path = f"{BEGIN}?digest={LAYER.digest}"
        assert (await rig.ask(path, method="POST", body=LAYER.body)).status == 201
        assert await blob_gets(rig) == gets


class TestWhatDoesNotFit:
    async def test_a_gap(self, rig: Rig) -> None:
        place = await begin(rig)
        await patch(rig, place, LAYER.body[:1000], 0)
        await patch(rig, place, LAYER.body[1000:], 2000)
        assert (await put(rig, place, LAYER.digest)).status == 201
        assert await blob_gets(rig) == 1

    async def test_an_upstream_that_has_less(self, rig: Rig) -> None:
        rig.registry.fault(Header("Range", "0-999"), method="PATCH")
        place = await begin(rig)
        await patch(rig, place, LAYER.body)
        assert (await put(rig, place, LAYER.digest)).status == 201
        assert await blob_gets(rig) == 1

    @pytest.mark.parametrize("status", [400, 416, 500])
    async def test_a_step_that_was_refused(self, rig: Rig, status: int) -> None:
        place = await begin(rig)
        rig.registry.fault(AnswerWith(status), method="PATCH", times=1)
        assert (await patch(rig, place, LAYER.body[:1000])).status == status
        assert (await put(rig, place, LAYER.digest, LAYER.body[1000:])).status == 201
        assert await blob_gets(rig) == 1

    async def test_a_cancelled_one(self, rig: Rig, store: BreakableStore) -> None:
        place = await begin(rig)
        await patch(rig, place, LAYER.body)
        assert (await rig.ask(place, method="DELETE")).status == 204
        assert (await put(rig, place, LAYER.digest)).status == 404
        assert [entry async for entry in store.entries()] == []

    async def test_what_the_upstream_says_is_something_else(
        self, rig: Rig, store: BreakableStore
    ) -> None:
        rig.registry.fault(Header("Docker-Content-Digest", OTHER.digest), method="PUT")
        await push(rig)
        assert await blob_gets(rig) == 1

    async def test_what_it_does_not_say_at_all(self, rig: Rig, store: BreakableStore) -> None:
        answer = AnswerWith(201, b"", (("Location", "/somewhere"),))
        rig.registry.fault(answer, method="PUT")
        await push(rig)
        assert [entry async for entry in store.entries()] == []


class TestStores:
    @pytest.mark.parametrize("broken", ["intake", "write", "commit", "discard"])
    async def test_one_that_fails_fails_no_push(
        self, rig: Rig, store: BreakableStore, broken: str
    ) -> None:
        store.broken = {broken}
        await push(rig)
        await rig.engine.pushes.wait_admitted(Digest.parse(LAYER.digest))
        store.broken = set()
        assert await blob_gets(rig) == (0 if broken == "discard" else 1)

    async def test_one_that_is_full(self, rig: Rig, store: BreakableStore) -> None:
        store.write_limit = LAYER.size // 2
        await push(rig)
        store.write_limit = None
        assert await blob_gets(rig) == 1

    async def test_in_one_that_is_full_no_place_is_taken(
        self, rig: Rig, store: BreakableStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Not even while the push goes on, which may be for hours."""
        store.write_limit = LAYER.size // 2
        discarded, discard = asyncio.Event(), BreakableIntake.discard

        async def noted(self: BreakableIntake) -> None:
            await discard(self)
            discarded.set()

        async def pieces() -> AsyncIterator[bytes]:
            yield LAYER.body[:-1]
            await discarded.wait()
            yield LAYER.body[-1:]

        monkeypatch.setattr(BreakableIntake, "discard", noted)
        place = await begin(rig)
        async with asyncio.timeout(20):
            assert await status_of(rig, "PATCH", place, pieces(), LAYER.size) == 202

    async def test_one_that_stands_still_is_not_waited_for(
        self, rig: Rig, store: BreakableStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(intake_module, "_PATIENCE_S", 0.01)
        monkeypatch.setattr(pushes_module, "_BACKLOG", 1 << 20)
        moving = asyncio.Event()
        write = BreakableIntake.write

        async def stuck(self: BreakableIntake, data: bytes) -> None:
            await moving.wait()
            await write(self, data)

        monkeypatch.setattr(BreakableIntake, "write", stuck)
        async with asyncio.timeout(20):
            await push(rig)
        moving.set()
        assert await blob_gets(rig) == 1

    async def test_one_that_lags_behind_is_caught_up_with(
        self, rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As the thread that writes does on a busy machine."""
        monkeypatch.setattr(intake_module, "_PATIENCE_S", 0.0)
        monkeypatch.setattr(intake_module, "_PATIENCE_SHARE", 0.0)
        moving, write = asyncio.Event(), BreakableIntake.write

        async def late(self: BreakableIntake, data: bytes) -> None:
            await moving.wait()
            await write(self, data)

        monkeypatch.setattr(BreakableIntake, "write", late)
        place = await begin(rig)
        assert (await patch(rig, place, LAYER.body[: 4 << 20])).status == 202
        moving.set()
        assert (await put(rig, place, LAYER.digest, LAYER.body[4 << 20 :])).status == 201
        assert await blob_gets(rig) == 0

    async def test_what_is_being_admitted_is_waited_for(
        self, rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        moving, commit = asyncio.Event(), BreakableIntake.commit

        async def slow(self: BreakableIntake, digest: Digest, media_type: str) -> None:
            await moving.wait()
            await commit(self, digest, media_type)

        monkeypatch.setattr(BreakableIntake, "commit", slow)
        await push(rig)
        async with asyncio.TaskGroup() as tasks:
            pull = tasks.create_task(rig.ask(blob_path(LAYER)))
            asyncio.get_running_loop().call_later(0.05, moving.set)
        assert (pull.result().body, pull.result().cache) == (LAYER.body, "hit")
        assert rig.registry.blob_gets() == 0


class TestBounds:
    async def test_of_too_many_the_one_that_waits_longest_is_given_up(
        self, rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pushes_module, "_MAX", 2)
        contents = [Given(bytes([number]) * 1000) for number in range(3)]
        places = [await begin(rig) for _ in contents]
        for place, content in zip(places, contents, strict=True):
            assert (await put(rig, place, content.digest, content.body)).status == 201
        assert [await blob_gets(rig, content) for content in contents] == [1, 0, 0]

    async def test_one_that_nobody_goes_on_with(
        self, rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pushes_module, "_KEEP_S", 0)
        place = await begin(rig)
        await asyncio.sleep(0)
        assert (await put(rig, place, LAYER.digest, LAYER.body)).status == 201
        assert await blob_gets(rig) == 1

    async def test_what_is_under_way_at_the_end_leaves_nothing(
        self, registry: ScriptedRegistry, clock: ManualClock, store: BreakableStore
    ) -> None:
        config = config_for(registry, push="allow")
        async with open_engine(registry, clock, store=store, config=config) as rig:
            await patch(rig, await begin(rig), LAYER.body)
        assert [entry async for entry in store.entries()] == []


class TestManifests:
    async def test_one_that_was_pushed_is_there(self, rig: Rig) -> None:
        image = build_image([])
        for blob in image.blobs:
            rig.registry.add_blob("app", blob)
        headers = {"Content-Type": image.media_type}
        answer = await rig.ask(manifest_path("1.0"), headers, method="PUT", body=image.body)
        assert answer.status == 201
        answer = await rig.ask(manifest_path(image.digest), accepting(image))
        assert (answer.body, answer.headers["Content-Type"]) == (image.body, image.media_type)
        assert rig.registry.manifest_gets() == 0

    @pytest.mark.parametrize("digest", [OTHER.digest, "none"])
    async def test_but_only_as_what_the_upstream_says_it_is(self, rig: Rig, digest: str) -> None:
        image = build_image([])
        rig.registry.add("app", None, image)
        rig.registry.fault(Header("Docker-Content-Digest", digest), method="PUT")
        await rig.ask(manifest_path("1.0"), method="PUT", body=image.body)
        await rig.ask(manifest_path(image.digest), accepting(image))
        assert rig.registry.manifest_gets() == 1

    async def test_one_beyond_the_limit_passes(self, rig: Rig, store: BreakableStore) -> None:
        body = b'{"schemaVersion": 2}' + b" " * (2 << 20)
        answer = await rig.ask(manifest_path("1.0"), method="PUT", body=body)
        assert answer.status == 201
        assert [entry async for entry in store.entries()] == []


class TestRights:
    @pytest.fixture
    async def rig(self, clock: ManualClock, store: BreakableStore) -> AsyncIterator[Rig]:
        users = {"alice": "wonder", "bob": "builder"}
        with ScriptedRegistry(auth=Auth("basic", users)) as registry:
            registry.make_private("app", "alice")
            registry.add_image("bobs", "1.0")
            config = config_for(registry, push="allow")
            async with open_engine(registry, clock, store=store, config=config) as rig:
                yield rig

    async def test_a_push_lets_nobody_read(self, rig: Rig) -> None:
        alice, bob = ({"Authorization": basic(*each)} for each in PEOPLE)
        path = f"{BEGIN}?digest={LAYER.digest}"
        assert (await rig.ask(path, alice, method="POST", body=LAYER.body)).status == 201
        for headers in (bob, None):
            assert (await rig.ask(blob_path(LAYER), headers)).status in {401, 403, 404}
        assert (await rig.ask(blob_path(LAYER), alice)).body == LAYER.body
        assert rig.registry.blob_gets() == 0

    async def test_a_query_proves_nothing(self, rig: Rig) -> None:
        """Servers may take another digest than we do: from a form in the body, to begin with."""
        alice, bob = ({"Authorization": basic(*each)} for each in PEOPLE)
        path = f"{BEGIN}?digest={LAYER.digest}"
        assert (await rig.ask(path, alice, method="POST", body=LAYER.body)).status == 201
        said = AnswerWith(201, b"", (("Docker-Content-Digest", OTHER.digest),))
        undo = rig.registry.fault(said, method="POST")
        path = f"/v2/bobs/blobs/uploads/?digest={LAYER.digest}"
        assert (await rig.ask(path, bob, method="POST", body=OTHER.body)).status == 201
        undo()
        assert (await rig.ask(blob_path(LAYER, "bobs"), bob)).status == 404


PEOPLE = (("alice", "wonder"), ("bob", "builder"))
