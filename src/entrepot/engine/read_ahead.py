"""Layers fetched before they are asked for: who got a manifest on a miss will want what it names.

Fails open: what cannot be had ahead, the client asks for itself. It is asked for as the client
would, with its own rights; so nobody gets to see by this what would be kept from him.
"""

import asyncio
import logging
from collections import Counter, deque
from dataclasses import replace

from entrepot.engine.ask import Ask
from entrepot.engine.blobs import Blobs
from entrepot.engine.held import Held
from entrepot.engine.message import Headers, Trace
from entrepot.errors import EntrepotError, InvalidReference
from entrepot.oci.digest import Digest
from entrepot.oci.manifest import Manifest
from entrepot.oci.route import parse_route

logger = logging.getLogger(__name__)

# As many layers of an image as docker fetches at once.
_AT_ONCE = 3
# Of a registry's connections, what all that is read ahead takes: who asks for it comes first.
_SHARE = 4


class ReadAhead:
    """Owns what looks for the next layer; the fills belong to the engine, and go on when this has
    been closed.
    """

    def __init__(
        self, blobs: Blobs, tasks: asyncio.TaskGroup, *, max_size: int, is_on: bool
    ) -> None:
        self._blobs = blobs
        self._tasks = tasks
        self._max_size = max_size
        self._is_on = is_on
        self._running: dict[asyncio.Task[None], str] = {}
        self._begun: set[tuple[str, str, Digest]] = set()

    def begin_nowait(self, ask: Ask, held: Held) -> None:
        """What this manifest names, in its order."""
        if not self._is_on or ask.is_head or ask.site.upstream.is_resting():
            return
        digests = self._wanted(held)
        key = (ask.registry, ask.repository or "", held.digest)
        count = min(_AT_ONCE, self._free(ask), len(digests))
        if count < 1 or key in self._begun:
            return
        self._begun.add(key)
        left = count

        def ended(task: asyncio.Task[None]) -> None:
            nonlocal left
            left -= 1
            del self._running[task]
            if not left:
                self._begun.discard(key)

        for _ in range(count):
            task = self._tasks.create_task(self._fetch_each(ask, digests))
            self._running[task] = ask.site.entry
            task.add_done_callback(ended)

    async def wait_for_running(self) -> None:
        """Until all that is looked for now is here, or will not be."""
        if self._running:
            await asyncio.wait(self._running.copy())

    async def aclose(self) -> None:
        """Begin no more."""
        self._is_on = False
        for task in tuple(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def _free(self, ask: Ask) -> int:
        share = max(1, ask.site.settings.connections // _SHARE)
        return share - Counter(self._running.values())[ask.site.entry]

    def _wanted(self, held: Held) -> deque[Digest]:
        """Nothing of an index: which of its platforms is wanted, the next request tells. Nor where
        it would push too much else out, or is to be had elsewhere.
        """
        try:
            manifest = Manifest.parse(held.body, held.media_type)
        except InvalidReference:
            return deque()
        blobs = {
            blob.digest: blob.size
            for blob in manifest.blobs
            if not blob.is_foreign and 0 <= blob.size <= self._max_size
        }
        if manifest.manifests or sum(blobs.values()) > self._max_size // 2:
            return deque()
        return deque(blobs)

    async def _fetch_each(self, ask: Ask, digests: deque[Digest]) -> None:
        """Raises nothing: that would end all that runs beside this."""
        try:
            while digests:
                digest = digests.popleft()
                await self._blobs.fetch(_about(ask, digest), digest)
        except EntrepotError as error:
            digests.clear()
            logger.debug("not read ahead in %s/%s: %s", ask.registry, ask.repository, error)
        except Exception:
            digests.clear()
            logger.exception("reading ahead failed inside the proxy")


def _about(ask: Ask, digest: Digest) -> Ask:
    """The request that the client would make."""
    path = f"/v2/{ask.repository}/blobs/{digest}"
    request = replace(ask.request, method="GET", path=path, query="", headers=Headers())
    trace = Trace(registry=ask.registry, entry=ask.site.entry)
    return replace(ask, request=request, route=parse_route(path), trace=trace)
