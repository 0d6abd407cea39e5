"""The error body of the distribution specification ("Error codes")."""

import json
from enum import StrEnum


class ErrorCode(StrEnum):
    BLOB_UNKNOWN = "BLOB_UNKNOWN"
    MANIFEST_UNKNOWN = "MANIFEST_UNKNOWN"
    NAME_INVALID = "NAME_INVALID"
    NAME_UNKNOWN = "NAME_UNKNOWN"
    DIGEST_INVALID = "DIGEST_INVALID"
    UNAUTHORIZED = "UNAUTHORIZED"
    DENIED = "DENIED"
    UNSUPPORTED = "UNSUPPORTED"
    TOOMANYREQUESTS = "TOOMANYREQUESTS"
    UNKNOWN = "UNKNOWN"  # the registry of codes that docker prints knows it, the specification not
    UNAVAILABLE = "UNAVAILABLE"  # likewise


def error_body(code: ErrorCode, message: str) -> bytes:
    return json.dumps({"errors": [{"code": code, "message": message}]}).encode()
