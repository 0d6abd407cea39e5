"""Why there was no answer, in plain words.

The texts of the libraries' errors are never shown: they hold URLs, and the query of a signed URL
is a secret. For the same reason what is raised from here carries no cause.
"""

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum, auto

import aiohttp

from entrepot.errors import UpstreamError
from entrepot.upstream.realm import Origin
from entrepot.upstream.resolver import RefusedAddress


class Fault(Enum):
    UNREACHABLE = auto()  # no connection was made
    SILENT = auto()  # it did not connect, or not answer, in time
    BROKEN = auto()  # it connected and broke off, or spoke no HTTP
    REFUSED = auto()  # by us


class NoAnswer(UpstreamError):  # noqa: N818 - reads as what it says
    def __init__(self, origin: Origin, fault: Fault, reason: str, *, was_sent: bool) -> None:
        super().__init__(f"{origin}: {reason}", is_late=fault is Fault.SILENT, was_sent=was_sent)
        self.origin = origin
        self.fault = fault


class Broke(aiohttp.ClientError):
    """Of a kind that aiohttp does not take for a reason to send a request again."""


@contextmanager
def before_sending() -> Iterator[None]:
    """Around what a request needs first: whatever was asked for that, it has not been sent."""
    try:
        yield
    except UpstreamError as error:
        error.was_sent = False
        raise


def explain(error: Exception, origin: Origin, *, was_sent: bool) -> NoAnswer:
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, RefusedAddress):
        return refused_address(origin)
    fault = Fault.BROKEN if was_sent else Fault.UNREACHABLE
    return NoAnswer(origin, fault, _reason(error), was_sent=was_sent)


def refused_address(origin: Origin) -> NoAnswer:
    reason = "its address is one that nobody may send us to (loopback, link-local, metadata)"
    return NoAnswer(origin, Fault.REFUSED, reason, was_sent=False)


def _reason(error: Exception) -> str:  # noqa: PLR0911 - a table
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return f"its certificate is not trusted{_verification(error.certificate_error)}"
        case aiohttp.ClientSSLError():
            return "TLS cannot be agreed on with it"
        case aiohttp.ClientConnectorDNSError():
            return "its name cannot be resolved"
        case aiohttp.ClientProxyConnectionError():
            return f"the parent proxy cannot be reached{_system(error.os_error)}"
        case aiohttp.ClientHttpProxyError():
            return f"the parent proxy answers {error.status}"
        case aiohttp.ClientConnectorError():
            return f"it cannot be reached{_system(error.os_error)}"
        case aiohttp.ServerDisconnectedError() | Broke():
            return "it closed the connection instead of answering"
        case aiohttp.ClientResponseError():
            return "what it answers is not HTTP"
        case OSError():
            return f"the connection broke{_system(error)}"
    return "the request could not be sent"


def _verification(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f": {error.verify_message}"
    return ""


def _system(error: OSError) -> str:
    return f": {os.strerror(error.errno)}" if error.errno else ""
