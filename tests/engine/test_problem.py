import json
from dataclasses import dataclass

import pytest

from entrepot.engine.message import Trace
from entrepot.engine.problem import from_error, problem, refusal
from entrepot.errors import (
    ConfigError,
    DigestMismatch,
    EntrepotError,
    InvalidReference,
    StorageError,
    TooManyGuesses,
    UpstreamError,
)
from entrepot.oci.error_body import ErrorCode
from entrepot.oci.route import Route, parse_route

MANIFEST = parse_route("/v2/app/manifests/1.0")
BLOB = parse_route(f"/v2/app/blobs/sha256:{'0' * 64}")
LIST = parse_route("/v2/app/tags/list")


def code_of(body: object) -> str:
    assert isinstance(body, bytes)
    (error,) = json.loads(body)["errors"]
    return str(error["code"])


@pytest.mark.parametrize(
    ("error", "route", "status", "code"),
    [
        (InvalidReference("not a tag: 'x'"), None, 400, "NAME_INVALID"),
        (InvalidReference("not a sha256 or sha512 digest: 'x'"), None, 400, "DIGEST_INVALID"),
        (DigestMismatch("not what was named"), BLOB, 502, "UNAVAILABLE"),
        (UpstreamError("nobody is there"), BLOB, 502, "UNAVAILABLE"),
        (UpstreamError("nobody answers", is_late=True), BLOB, 504, "UNAVAILABLE"),
        (UpstreamError("no", status=400), BLOB, 400, "UNSUPPORTED"),
        (UpstreamError("no", status=401), BLOB, 401, "UNAUTHORIZED"),
        (UpstreamError("no", status=403), BLOB, 403, "DENIED"),
        (UpstreamError("no", status=404), BLOB, 404, "BLOB_UNKNOWN"),
        (UpstreamError("no", status=404), MANIFEST, 404, "MANIFEST_UNKNOWN"),
        (UpstreamError("no", status=404), LIST, 404, "NAME_UNKNOWN"),
        (UpstreamError("no", status=404), None, 404, "NAME_UNKNOWN"),
        (UpstreamError("no", status=405), BLOB, 405, "UNSUPPORTED"),
        (UpstreamError("no", status=416), BLOB, 416, "UNKNOWN"),
        (UpstreamError("no", status=429), MANIFEST, 429, "TOOMANYREQUESTS"),
        (UpstreamError("no", status=500), MANIFEST, 500, "UNKNOWN"),
        (UpstreamError("no", status=502), MANIFEST, 502, "UNAVAILABLE"),
        (UpstreamError("no", status=503), MANIFEST, 503, "UNAVAILABLE"),
        (UpstreamError("no", status=504), MANIFEST, 504, "UNAVAILABLE"),
        (TooManyGuesses(8), None, 429, "TOOMANYREQUESTS"),
        (StorageError("/var/lib/x is full"), BLOB, 500, "UNKNOWN"),
        (ConfigError("no such thing"), BLOB, 500, "UNKNOWN"),
        (EntrepotError("of no kind"), BLOB, 500, "UNKNOWN"),
        (RuntimeError("a secret"), BLOB, 500, "UNKNOWN"),
    ],
)
def test_the_table(error: Exception, route: Route | None, status: int, code: str) -> None:
    trace = Trace()
    response = from_error(error, route, trace)
    assert (response.status, code_of(response.body)) == (status, code)
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["Cache-Control"] == "no-store"
    assert trace.error


@dataclass
class Hidden(Exception):  # noqa: N818 - what is hidden in an exception
    password: str = "s3cr3t"


@pytest.mark.parametrize("error", [Hidden(), KeyError("s3cr3t"), OSError(2, "s3cr3t", "/s3cr3t")])
def test_what_is_unknown_is_said_to_nobody(error: Exception) -> None:
    response = from_error(error, BLOB, Trace())
    assert response.status == 500
    assert isinstance(response.body, bytes)
    assert b"s3cr3t" not in response.body
    assert "s3cr3t" not in response.trace.error


def test_what_the_store_says_is_for_the_log_alone() -> None:
    response = from_error(StorageError("/var/lib/x is full"), BLOB, Trace(error="/var/lib/x"))
    assert isinstance(response.body, bytes)
    assert b"/var/lib" not in response.body
    assert response.trace.error == "/var/lib/x"


@pytest.mark.parametrize(("seconds", "header"), [(1.2, "2"), (0, "0"), (None, None)])
def test_when_to_come_back(seconds: float | None, header: str | None) -> None:
    error = UpstreamError("later", status=429, retry_after_s=seconds)
    assert from_error(error, MANIFEST, Trace()).headers.get("Retry-After") == header


def test_who_guesses_passwords_is_told_too() -> None:
    response = from_error(TooManyGuesses(7.2), None, Trace())
    assert response.headers["Retry-After"] == "8"
    assert response.trace.error.endswith("try again in 8 s")


def test_the_first_reason_is_kept() -> None:
    trace = Trace(error="first")
    assert problem(500, ErrorCode.UNKNOWN, "second", trace).trace.error == "first"
    assert refusal(418, None, "no").trace.error == "no"
