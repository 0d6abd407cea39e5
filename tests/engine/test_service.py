import logging
from collections.abc import Callable

import pytest

from entrepot.engine.service import Service
from entrepot.errors import StorageError, UpstreamError
from tests.support.content import sha256
from tests.support.engine import Rig, blob_path, manifest_path
from tests.support.faults import AnswerWith

BLOB = blob_path(sha256(b""))
PARTS = {
    "_tokens": "/v2/",
    "_manifests": manifest_path("1.0"),
    "_blobs": BLOB,
    "_listings": "/v2/app/tags/list",
    "_forward": "/page",
}


class Failing:
    """A part of the engine that has a defect, wherever it is touched."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __getattr__(self, name: str) -> Callable[..., object]:
        def fail(*_: object, **__: object) -> object:
            raise self._error

        return fail


def broken(rig: Rig, part: str, error: Exception) -> Service:
    setattr(rig.engine.service, part, Failing(error))
    return rig.engine.service


@pytest.mark.parametrize(("part", "path"), PARTS.items())
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "OPTIONS"])
async def test_a_defect_is_an_answer_that_says_nothing(
    rig: Rig, part: str, path: str, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    await rig.ask("/v2/app/tags/list")
    broken(rig, part, RuntimeError("s3cr3t"))
    answer = await rig.ask(path, method=method)
    assert answer.status in {200, 404, 405, 500}
    assert "s3cr3t" not in answer.body.decode()
    if method == "GET":
        assert answer.status == 500
        assert answer.code == "UNKNOWN"
        assert answer.trace.error == "internal error: RuntimeError"
        assert [record.levelno for record in caplog.records] == [logging.ERROR]


@pytest.mark.parametrize(
    ("error", "status"), [(StorageError("disk"), 500), (UpstreamError("no", status=403), 403)]
)
async def test_errors_of_ours_are_answered_as_the_table_says(
    rig: Rig, error: Exception, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    broken(rig, "_listings", error)
    assert (await rig.ask("/v2/app/tags/list")).status == status
    assert not caplog.records


async def test_a_defect_in_answering_an_error_is_an_answer_too(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    await rig.ask("/v2/app/tags/list")
    broken(rig, "_listings", UpstreamError("no", status=401))
    monkeypatch.setattr(rig.engine.service._tokens, "challenge", Failing(RuntimeError("s3cr3t")).x)
    answer = await rig.ask("/v2/app/tags/list")
    assert (answer.status, answer.code) == (500, "UNKNOWN")


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/v2/App/manifests/1.0", "NAME_INVALID"),
        ("/v2/app/manifests/-", "NAME_INVALID"),
        ("/v2/app/blobs/sha256:abc", "DIGEST_INVALID"),
        ("/v2/app/../other/tags/list", "NAME_INVALID"),
    ],
)
async def test_names_that_are_none(rig: Rig, path: str, code: str) -> None:
    answer = await rig.ask(path)
    assert (answer.status, answer.code) == (400, code)


@pytest.mark.parametrize("path", ["/v1/", "/v1/repositories/x/images", "/v1"])
async def test_the_old_protocol_is_refused_with_a_hint(rig: Rig, path: str) -> None:
    answer = await rig.ask(path)
    assert (answer.status, answer.code) == (404, "UNSUPPORTED")
    assert b"newer client" in answer.body


@pytest.mark.parametrize(
    ("path", "kind", "repository", "reference"),
    [
        ("/v2/", "ping", "", ""),
        ("/v2/a/b/manifests/1.0", "manifest", "a/b", "1.0"),
        (BLOB, "blob", "app", sha256(b"")),
        ("/v2/a/b/tags/list", "list", "a/b", ""),
        ("/v2/_catalog", "list", "", ""),
        ("/v2/a/b/blobs/uploads/", "upload", "a/b", ""),
        ("/entrepot/token", "token", "", ""),
        ("/page", "other", "", ""),
        ("/v1/", "other", "", ""),
    ],
)
async def test_what_was_asked_for_is_noted(
    rig: Rig, path: str, kind: str, repository: str, reference: str
) -> None:
    trace = (await rig.ask(path)).trace
    assert trace.registry == "registry.test"
    assert (trace.kind, trace.repository, trace.reference) == (kind, repository, reference)


async def test_time_that_the_upstream_took_is_noted(rig: Rig) -> None:
    image = rig.registry.add_image("app", "1.0")
    headers = {"Accept": image.media_type}
    assert (await rig.ask(manifest_path("1.0"), headers)).trace.upstream_s > 0
    assert (await rig.ask(manifest_path("1.0"), headers)).trace.upstream_s == 0


async def test_the_catalog_is_refused_as_upstream_refuses_it(rig: Rig) -> None:
    rig.registry.fault(AnswerWith(403), path="/v2/_catalog")
    answer = await rig.ask("/v2/_catalog")
    assert (answer.status, answer.code) == (403, "DENIED")
