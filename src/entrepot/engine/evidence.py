"""What an upstream's answer to a write proves to be in the repository now.

Its word names the digest, or it is no proof: of what a client says in its query, servers may take
the one or the other parameter, or what stands in a body of form fields instead.
"""

from collections.abc import Mapping
from urllib.parse import urlsplit

from entrepot.engine.ask import Ask
from entrepot.errors import InvalidReference
from entrepot.oci.digest import Digest
from entrepot.oci.route import BlobRoute, ManifestRoute, Other, UploadRoute, parse_route

_CREATED = 201


def created(ask: Ask, status: int, headers: Mapping[str, str]) -> Digest | None:
    """The layer or manifest that this write has made part of its repository."""
    if status != _CREATED or not isinstance(ask.route, UploadRoute | ManifestRoute | Other):
        return None
    if said := headers.get("Docker-Content-Digest"):
        return _digest(said)
    if isinstance(ask.route, UploadRoute):
        return _digest_of_place(ask, headers.get("Location", ""))
    return None


def _digest_of_place(ask: Ask, location: str) -> Digest | None:
    """The specification asks for the place of the blob, and for no more."""
    try:
        route = parse_route(urlsplit(location).path)
    except (ValueError, InvalidReference):
        return None
    if isinstance(route, BlobRoute) and route.repository == ask.repository:
        return route.digest
    return None


def _digest(text: str) -> Digest | None:
    try:
        return Digest.parse(text)
    except InvalidReference:
        return None
