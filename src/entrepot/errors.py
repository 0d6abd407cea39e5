"""The few exceptions of our own, by whose fault it is.

    EntrepotError
    ├── ConfigError          the operator's
    ├── InvalidReference     the client's
    ├── TooManyGuesses       the client's, or of others at its address
    ├── UpstreamError        theirs: an answer we cannot use, or none
    │   └── DigestMismatch   they lied about the bytes
    └── StorageError         ours

`engine.problem` turns them into OCI error bodies; elsewhere built-in exceptions do.
"""

import math
import os
import pwd


class EntrepotError(Exception):
    """Base of all."""


class ConfigError(EntrepotError):
    """What the operator wrote cannot be used; the message names where and what was expected."""


class InvalidReference(EntrepotError):  # noqa: N818 - reads as what it says in the table above
    """A name, tag, digest or path that the distribution specification does not allow."""


class UpstreamError(EntrepotError):
    """The upstream cannot be reached (`status` is None; `is_late`: in time), or answers with an
    error. Unless it is known better, something of the request may have arrived (`was_sent`).
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        retry_after_s: float | None = None,
        is_late: bool = False,
        was_sent: bool = True,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_s = retry_after_s
        self.is_late = is_late
        self.was_sent = was_sent


class Denied(EntrepotError):  # noqa: N818 - reads as what it says in the table above
    """The operator's rules say no: 403, or 405 where nobody may do it."""

    def __init__(self, message: str, *, status: int = 403) -> None:
        super().__init__(message)
        self.status = status


class TooManyGuesses(EntrepotError):  # noqa: N818 - reads as what it says in the table above
    """Passwords that were wrong came from where this one comes from: it is not looked at."""

    def __init__(self, retry_after_s: float) -> None:
        seconds = math.ceil(retry_after_s)
        super().__init__(f"too many wrong passwords from this address; try again in {seconds} s")
        self.retry_after_s = seconds


class DigestMismatch(UpstreamError):  # noqa: N818 - reads as what it says in the table above
    """The bytes that came are not the ones that were named."""


class StorageError(EntrepotError):
    """The store cannot do what was asked: full, broken, gone."""


def system_reason(error: OSError) -> str:
    """In the system's words; where it is about permissions, with the user who lacks them."""
    reason = error.strerror or type(error).__name__
    return f"{reason} for user {_user()}" if isinstance(error, PermissionError) else reason


def _user() -> str:
    number = os.geteuid()
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:  # containers often run as a number without a name
        return str(number)
