"""Where an answer sends us on to, if it does."""

import re

from yarl import URL

from entrepot.upstream.failure import Fault, NoAnswer
from entrepot.upstream.message import UpstreamRequest, UpstreamResponse
from entrepot.upstream.realm import Origin

MAX_HOPS = 10  # as containerd and Go's client
STATUSES = frozenset({301, 302, 303, 307, 308})
_SENDABLE = re.compile(r"[\x21-\x7e]+\Z")


def redirect_target(
    request: UpstreamRequest, response: UpstreamResponse, url: URL, *, allows_plain: bool
) -> URL | None:
    """None: this is the answer. Redirects of writes are the client's to follow: the body is gone,
    and an upload's Location is no redirect.
    """
    location = response.headers.get("Location")
    if response.status not in STATUSES or not location or not request.is_read:
        return None
    try:
        target = resolve(url, location)
    except ValueError:
        raise _refused(url, "it redirects to something that is no HTTP address") from None
    if Origin.of(target).is_plain and not allows_plain:
        raise _refused(url, "it redirects to a connection without TLS")
    return target


def resolve(url: URL, location: str) -> URL:
    """Escapes stay as they are: a signature is over the very bytes."""
    encoded = _SENDABLE.match(location) is not None
    target = url.join(URL(location, encoded=encoded)).with_user(None).with_fragment(None)
    Origin.of(target)
    return target


def too_many(url: URL) -> NoAnswer:
    return _refused(url, f"it redirects more than {MAX_HOPS} times")


def _refused(url: URL, reason: str) -> NoAnswer:
    return NoAnswer(Origin.of(url), Fault.REFUSED, reason, was_sent=True)
