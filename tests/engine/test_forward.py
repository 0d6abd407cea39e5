from collections.abc import AsyncIterator, Iterator

import pytest

from entrepot.config.kinds import Secret
from entrepot.config.model import Tags
from tests.support.clock import ManualClock
from tests.support.content import Given, sha256
from tests.support.engine import (
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

ALICE = basic("alice", "wonder")


@pytest.fixture
async def pushing(registry: ScriptedRegistry, clock: ManualClock) -> AsyncIterator[Rig]:
    async with open_engine(registry, clock, config=config_for(registry, push="allow")) as rig:
        yield rig


class TestPushDenied:
    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("PUT", manifest_path("1.0")),
            ("DELETE", manifest_path("1.0")),
            ("DELETE", blob_path(sha256(b""))),
            ("POST", "/v2/app/blobs/uploads/"),
            ("PATCH", "/v2/app/blobs/uploads/1"),
            ("POST", "/v2/"),
            ("POST", "/v2/app/tags/list"),
            ("PATCH", "/v2/app/blobs/upload/1"),
            ("PUT", "/v2/app/unknown"),
            ("PUT", "/%762/app/unknown"),
            ("PUT", "//v2/app/manifests/1.0"),
            ("PUT", "/./v2/app/manifests/1.0"),
            ("PUT", "/x/%2e%2e/v2/app/manifests/1.0"),
        ],
    )
    async def test_writes_go_nowhere(self, rig: Rig, method: str, path: str) -> None:
        answer = await rig.ask(path, method=method, body=b"{}")
        assert (answer.status, answer.code) == (405, "UNSUPPORTED")
        assert "push: deny" in answer.body.decode()
        assert rig.registry.log.count(path, method=method) == 0

    async def test_what_is_not_of_the_api_passes(self, rig: Rig) -> None:
        rig.registry.fault(AnswerWith(200, b"done"), path="/api/login")
        answer = await rig.ask("/api/login", method="POST", body=b"{}")
        assert (answer.status, answer.body, answer.cache) == (200, b"done", "pass")


async def push_blob(rig: Rig, content: Given) -> None:
    begun = await rig.ask("/v2/app/blobs/uploads/", method="POST", body=b"")
    assert begun.status == 202
    place = begun.headers["Location"]
    half = content.size // 2
    assert (await rig.ask(place, method="PATCH", body=content.body[:half])).status == 202
    path = f"{place}?digest={content.digest}"
    assert (await rig.ask(path, method="PUT", body=content.body[half:])).status == 201


class TestPush:
    async def test_uploads_pass_streamed(self, pushing: Rig) -> None:
        content = Given(bytes(300_000))
        await push_blob(pushing, content)
        answer = await pushing.ask(blob_path(content))
        assert answer.body == content.body

    async def test_what_was_not_there_is_there_once_pushed(self, pushing: Rig) -> None:
        """Clients ask whether it exists before they push it."""
        content = Given(b"layer")
        for method in ("HEAD", "GET"):
            assert (await pushing.ask(blob_path(content), method=method)).status == 404
        await push_blob(pushing, content)
        for method in ("HEAD", "GET"):
            assert (await pushing.ask(blob_path(content), method=method)).status == 200

    async def test_so_are_mounted_blobs(self, pushing: Rig) -> None:
        content = pushing.registry.add_blob("base", Given(b"layer"))
        assert (await pushing.ask(blob_path(content))).status == 404
        path = f"/v2/app/blobs/uploads/?mount={content.digest}&from=base"
        assert (await pushing.ask(path, method="POST")).status == 201
        assert (await pushing.ask(blob_path(content))).status == 200

    async def test_so_are_manifests_under_both_names(self, pushing: Rig) -> None:
        image = build_image([])
        pushing.registry.add("app", "old", build_image([], seed=1))
        for blob in image.blobs:
            pushing.registry.add_blob("app", blob)
        paths = [manifest_path("1.0"), manifest_path(image.digest)]
        for path in paths:
            assert (await pushing.ask(path, accepting(image))).status == 404
        headers = {"Content-Type": image.media_type}
        put = await pushing.ask(paths[0], headers, method="PUT", body=image.body)
        assert put.status == 201
        for path in paths:
            answer = await pushing.ask(path, accepting(image))
            assert (answer.status, answer.body) == (200, image.body)

    async def test_a_tag_that_was_written_is_asked_for_anew(
        self, registry: ScriptedRegistry, pushing: Rig
    ) -> None:
        old = registry.add_image("app", "1.0", seed=1)
        new = registry.add_image("app", None, seed=2)
        assert (await pushing.ask(manifest_path("1.0"), accepting(old))).body == old.body
        headers = {"Content-Type": new.media_type}
        await pushing.ask(manifest_path("1.0"), headers, method="PUT", body=new.body)
        assert (await pushing.ask(manifest_path("1.0"), accepting(old))).body == new.body

    async def test_a_write_that_failed_changes_nothing(
        self, registry: ScriptedRegistry, pushing: Rig
    ) -> None:
        image = registry.add_image("app", "1.0")
        await pushing.ask(manifest_path("1.0"), accepting(image))
        registry.fault(AnswerWith(400, b"no"), method="PUT")
        registry.forget()
        put = await pushing.ask(manifest_path("1.0"), method="PUT", body=b"{}")
        assert (put.status, put.body) == (400, b"no")
        assert (await pushing.ask(manifest_path("1.0"), accepting(image))).cache == "hit"

    async def test_what_was_deleted_is_asked_for_anew(
        self, registry: ScriptedRegistry, pushing: Rig
    ) -> None:
        image = registry.add_image("app", "1.0")
        for reference in ("1.0", image.digest):
            path = manifest_path(reference)
            assert (await pushing.ask(path, accepting(image))).status == 200
            assert (await pushing.ask(path, method="DELETE")).status == 202
            assert (await pushing.ask(path, accepting(image))).status == 404

    async def test_blobs_likewise(self, registry: ScriptedRegistry, pushing: Rig) -> None:
        content = registry.add_blob("app", Given(b"layer"))
        assert (await pushing.ask(blob_path(content))).status == 200
        undo = registry.fault(AnswerWith(202), method="DELETE")
        assert (await pushing.ask(blob_path(content), method="DELETE")).status == 202
        undo()
        registry.fault(AnswerWith(404), path=blob_path(content))
        assert (await pushing.ask(blob_path(content))).status == 404


class TestHeaders:
    async def test_only_what_is_end_to_end_passes(
        self, registry: ScriptedRegistry, rig: Rig
    ) -> None:
        registry.fault(AnswerWith(200, b"page"), path="/page")
        await rig.ask(
            "/page?x=1",
            {
                "X-Custom": "kept",
                "Accept": "text/html",
                "Cookie": "session=s3cr3t",
                "Connection": "close, X-Mine",
                "X-Mine": "of this connection",
                "Keep-Alive": "5",
                "Proxy-Authorization": basic("proxy", "password"),
                "Transfer-Encoding": "chunked",
                "TE": "trailers",
                "Upgrade": "h2c",
                "Host": "evil.test",
                "Accept-Encoding": "gzip",
            },
        )
        (seen,) = registry.log.find("/page")
        assert seen.target == "/page?x=1"
        assert seen.headers["x-custom"] == "kept"
        assert seen.headers["accept"] == "text/html"
        assert seen.headers["accept-encoding"] == "identity"
        assert seen.host == registry.url.removeprefix("http://")
        unwanted = {"cookie", "x-mine", "keep-alive", "transfer-encoding", "te", "upgrade"}
        assert not unwanted & seen.headers.keys()
        assert seen.authorization == "none"

    async def test_of_answers_likewise(self, registry: ScriptedRegistry, rig: Rig) -> None:
        for name, value in (
            ("Location", "/elsewhere"),
            ("Set-Cookie", "session=1"),
            ("Keep-Alive", "5"),
            ("OCI-Subject", "sha256:x"),
        ):
            registry.fault(Header(name, value), path="/page")
        answer = await rig.ask("/page")
        assert answer.headers["Location"] == "/elsewhere"
        assert answer.headers["OCI-Subject"] == "sha256:x"
        assert answer.headers["Cache-Status"] == "Entrepot; fwd=request"
        lower = {name.lower() for name in answer.headers}
        assert not {"set-cookie", "keep-alive", "content-length"} & lower
        assert answer.length == len(answer.body)

    async def test_a_header_that_cannot_be_sent_is_the_clients_fault(self, rig: Rig) -> None:
        assert (await rig.ask("/page", {"X-Odd": "a\rb"})).status == 400


class TestOperatorsCredentials:
    @pytest.fixture
    def registry(self) -> Iterator[ScriptedRegistry]:
        auth = Auth("basic", {"robot": "s3cr3t", "alice": "wonder"}, allows_anonymous=False)
        with ScriptedRegistry(auth=auth) as registry:
            registry.add_image("app", "1.0")
            yield registry

    @pytest.fixture
    async def rig(self, registry: ScriptedRegistry, clock: ManualClock) -> AsyncIterator[Rig]:
        config = config_for(
            registry, username="robot", password=Secret("s3cr3t"), push="allow", tags=Tags()
        )
        async with open_engine(registry, clock, config=config) as rig:
            yield rig

    async def test_open_the_api(self, registry: ScriptedRegistry, rig: Rig) -> None:
        headers = await rig.login()
        assert (await rig.ask("/v2/app/tags/list", headers)).status == 200
        assert {entry.user for entry in registry.log.find("/v2/app/*")} <= {"robot", ""}

    @pytest.mark.parametrize("path", ["/", "/api/users", "/v2/unknown/thing", "/metrics?x=1"])
    @pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
    async def test_open_nothing_else(
        self, registry: ScriptedRegistry, rig: Rig, path: str, method: str
    ) -> None:
        headers = await rig.login()
        registry.forget()
        await rig.ask(path, headers, method=method)
        (seen,) = registry.log.find()
        assert seen.authorization == "none"

    async def test_the_clients_own_go_everywhere_on_its_registry(
        self, registry: ScriptedRegistry, rig: Rig
    ) -> None:
        registry.forget()
        await rig.ask("/api/users", {"Authorization": ALICE})
        (seen,) = registry.log.find()
        assert seen.user == "alice"


async def test_an_upstream_that_is_dead(registry: ScriptedRegistry, pushing: Rig) -> None:
    headers = await pushing.login()
    registry.die()
    answer = await pushing.ask("/v2/app/blobs/uploads/", headers, method="POST")
    assert (answer.status, answer.code) == (502, "UNAVAILABLE")
    assert "Connection refused" in answer.body.decode()


async def test_options_is_no_write(registry: ScriptedRegistry, rig: Rig) -> None:
    registry.fault(AnswerWith(200), method="OPTIONS")
    assert (await rig.ask("/v2/app/tags/list", method="OPTIONS")).status == 200
