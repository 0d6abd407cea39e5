"""Where an upstream's `Location` leads, as the client must hear it."""

import re
from urllib.parse import urlsplit

from entrepot.engine.ask import Ask

_ABSOLUTE = re.compile(
    r"(?:(?P<scheme>https?):)?//(?P<authority>[^/?#]*)(?P<rest>.*)\Z", re.IGNORECASE
)
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


def place_for_client(ask: Ask, location: str) -> str:
    """As it came, to the byte: signatures are over it. But who is sent to an endpoint that stands
    behind this registry comes back to us instead: clients do not know it, and may not reach it.
    """
    request, site = ask.request, ask.site
    absolute = _ABSOLUTE.match(location)
    if absolute is None:
        return _without_prefix(ask, location)
    scheme = (absolute["scheme"] or request.scheme).lower()
    authority = _plain(absolute["authority"], scheme)
    names = {request.host, site.name, *site.settings.hosts}
    is_endpoint = authority in {_plain(netloc, scheme) for scheme, netloc, _ in _endpoints(ask)}
    if authority in names:
        # A local registry has no connection past us, by whatever scheme it thinks it is reached.
        if site.local is None or scheme == request.scheme:
            return location
    elif not is_endpoint:
        return location
    rest = absolute["rest"]
    rest = _without_prefix(ask, rest if rest.startswith("/") else f"/{rest}")
    return f"{request.scheme}://{request.host}{rest}"


def _without_prefix(ask: Ask, path: str) -> str:
    """An endpoint may stand below a path, of which the client knows nothing."""
    for _, _, prefix in _endpoints(ask):
        if prefix and path.startswith(f"{prefix}/"):
            return path[len(prefix) :]
    return path


def _endpoints(ask: Ask) -> list[tuple[str, str, str]]:
    """Scheme, authority and path of each."""
    return [urlsplit(endpoint)[:3] for endpoint in ask.site.settings.endpoints]


def _plain(authority: str, scheme: str) -> str:
    return authority.lower().removesuffix(_DEFAULT_PORTS[scheme])
