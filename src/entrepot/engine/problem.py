"""Errors as answers: the one table that turns exceptions into OCI error bodies.

It fails closed: what is not in the table is an answer too, 500, and never the upstream's content.
"""

import math

from entrepot.engine.message import Response, Trace
from entrepot.errors import (
    Denied,
    DigestMismatch,
    EntrepotError,
    InvalidReference,
    StorageError,
    TooManyGuesses,
    UpstreamError,
)
from entrepot.oci.error_body import ErrorCode, error_body
from entrepot.oci.route import BlobRoute, ManifestRoute, Route

_BY_STATUS = {
    400: ErrorCode.UNSUPPORTED,
    401: ErrorCode.UNAUTHORIZED,
    403: ErrorCode.DENIED,
    404: ErrorCode.UNSUPPORTED,
    405: ErrorCode.UNSUPPORTED,
    429: ErrorCode.TOOMANYREQUESTS,
    502: ErrorCode.UNAVAILABLE,
    503: ErrorCode.UNAVAILABLE,
    504: ErrorCode.UNAVAILABLE,
}


def problem(status: int, code: ErrorCode, message: str, trace: Trace | None = None) -> Response:
    headers = {"Content-Type": "application/json", "Cache-Control": "no-store"}
    trace = trace or Trace()
    trace.error = trace.error or message
    return Response(status, headers, error_body(code, message), trace=trace)


def refusal(status: int, route: Route | None, message: str, trace: Trace | None = None) -> Response:
    """An upstream's no, said with the code that fits what was asked for."""
    code = _BY_STATUS.get(status, ErrorCode.UNKNOWN)
    if status == 404:  # noqa: PLR2004
        code = ErrorCode.NAME_UNKNOWN
        if isinstance(route, ManifestRoute):
            code = ErrorCode.MANIFEST_UNKNOWN
        elif isinstance(route, BlobRoute):
            code = ErrorCode.BLOB_UNKNOWN
    return problem(status, code, message, trace)


def from_error(error: Exception, route: Route | None, trace: Trace) -> Response:
    match error:
        case InvalidReference():
            code = ErrorCode.DIGEST_INVALID if "digest" in str(error) else ErrorCode.NAME_INVALID
            return problem(400, code, str(error), trace)
        case Denied(status=status):
            return problem(status, _BY_STATUS[status], str(error), trace)
        case TooManyGuesses(retry_after_s=seconds):
            response = problem(429, ErrorCode.TOOMANYREQUESTS, str(error), trace)
            return _to_retry(response, seconds)
        case DigestMismatch():
            return problem(502, ErrorCode.UNAVAILABLE, str(error), trace)
        case UpstreamError():
            return _from_upstream(error, route, trace)
        case StorageError():
            return problem(500, ErrorCode.UNKNOWN, "the cache failed; see the proxy's log", trace)
        case EntrepotError():
            return problem(500, ErrorCode.UNKNOWN, str(error), trace)
        case _:
            trace.error = f"internal error: {type(error).__name__}"
            return problem(500, ErrorCode.UNKNOWN, "internal error; see the proxy's log", trace)


def _from_upstream(error: UpstreamError, route: Route | None, trace: Trace) -> Response:
    if error.status is None:
        return problem(504 if error.is_late else 502, ErrorCode.UNAVAILABLE, str(error), trace)
    return _to_retry(refusal(error.status, route, str(error), trace), error.retry_after_s)


def _to_retry(response: Response, after_s: float | None) -> Response:
    if after_s is not None:
        response.headers["Retry-After"] = str(math.ceil(after_s))
    return response
