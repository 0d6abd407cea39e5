"""Where uploads go on that an upstream sends elsewhere than to `/blobs/uploads/`.

The specification leaves the place to the registry: ghcr.io says `/v2/NAME/blobs/upload/ID`,
Artifact Registry `/artifacts-uploads/...`. Such a path does not say of which repository it
is, nor that it is an upload. It is asked with the proxy's rights because the upstream named it in
its answer to a step that was. Kept in memory, whatever becomes of the configuration: after a
restart the client's push begins anew.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import urljoin, urlsplit

from entrepot.clock import Clock
from entrepot.engine.ask import Ask
from entrepot.errors import InvalidReference
from entrepot.oci.reference import Repository
from entrepot.oci.route import Other, UploadRoute, parse_route

_ACCEPTED = 202
# Between two steps; each names the place of the next.
_KEEP_S = 15 * 60
# A push has one for each layer that it sends at the same time, five as docker comes.
_MAX = 10_000


@dataclass(frozen=True, slots=True)
class _Step:
    repository: Repository
    until: float


class Uploads:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._steps: OrderedDict[tuple[str, str], _Step] = OrderedDict()

    def resumed(self, ask: Ask) -> Ask:
        """As a step of the upload that it goes on with, if it is one."""
        if not isinstance(ask.route, Other):
            return ask
        step = self._steps.get((ask.registry, ask.path))
        if step is None or self._clock.now() >= step.until:
            return ask
        ask.trace.kind, ask.trace.repository = "upload", step.repository
        return replace(ask, route=UploadRoute(step.repository), repository=step.repository)

    def answered(self, ask: Ask, status: int, headers: Mapping[str, str]) -> None:
        """Only of what was done with the proxy's rights: who has others goes on with those.
        `headers` are those that the client gets.
        """
        if not isinstance(ask.route, UploadRoute) or ask.identity.is_own:
            return
        path = _place(ask, headers.get("Location", "")) if status == _ACCEPTED else ""
        if not path:
            return
        self._steps[ask.registry, path] = _Step(ask.route.repository, self._clock.now() + _KEEP_S)
        self._steps.move_to_end((ask.registry, path))
        if len(self._steps) > _MAX:
            self._steps.popitem(last=False)


def _place(ask: Ask, location: str) -> str:
    """The path that the next step will be for; none where it is for another host, or says itself
    what it is.
    """
    request, site = ask.request, ask.site
    here = f"{request.scheme}://{request.host}{request.path}"
    try:
        parts = urlsplit(urljoin(here, location))
        is_told = not isinstance(parse_route(parts.path), Other)
    except (ValueError, InvalidReference):
        return ""
    hosts = {request.host, site.name, *site.settings.hosts}
    return "" if is_told or parts.netloc.lower() not in hosts else parts.path
