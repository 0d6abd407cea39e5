"""Where writes go through; those to a local registry only while none is held back."""

from collections.abc import Awaitable, Callable

from entrepot.engine.ask import Ask
from entrepot.engine.message import Response
from entrepot.local.keeper import Doorkeeper
from entrepot.local.pushed import PushTimes
from entrepot.local.pushes import Step, Write
from entrepot.oci.digest import Digest
from entrepot.oci.route import ManifestRoute, UploadRoute

_SUCCESS = range(200, 300)


class Door:
    def __init__(self, keeper: Doorkeeper, pushed: PushTimes) -> None:
        self._keeper = keeper
        self._pushed = pushed

    async def pass_on(self, ask: Ask, respond: Callable[[Ask], Awaitable[Response]]) -> Response:
        """UpstreamError(503) while writes are held back."""
        if ask.site.local is None:
            return await respond(ask)
        write = Write(ask.registry, ask.repository, ask.request.client, _step(ask))
        async with self._keeper.admitted(write) as passing:
            response = await respond(ask)
            passing.is_done = response.status in _SUCCESS
        if write.step is Step.TAG and passing.is_done:
            try:
                await self._note(ask, response)
            except BaseException:
                await response.aclose()
                raise
        return response

    async def _note(self, ask: Ask, response: Response) -> None:
        assert isinstance(ask.route, ManifestRoute)
        assert not isinstance(ask.route.reference, Digest)
        headers = {name.lower(): value for name, value in response.headers.items()}
        digest = headers.get("docker-content-digest", "")
        await self._pushed.note(ask.registry, ask.route.repository, ask.route.reference, digest)


def _step(ask: Ask) -> Step:
    match ask.request.method, ask.route:
        case "POST", UploadRoute():
            return Step.UPLOAD
        case _, UploadRoute():
            return Step.PART
        case "PUT", ManifestRoute(reference=Digest()):
            return Step.MANIFEST
        case "PUT", ManifestRoute():
            return Step.TAG
        case "DELETE", _:
            return Step.DELETION
    return Step.OTHER
