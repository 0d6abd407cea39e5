"""Manifests that are in the store, those just served in memory.

A manifest in memory has been checked against its digest, so it is right whatever happens to the
store; it is looked up in the store again after a moment, which also marks its use there.
"""

from collections import OrderedDict
from dataclasses import dataclass

from entrepot.clock import Clock
from entrepot.errors import InvalidReference, StorageError
from entrepot.oci.digest import Digest
from entrepot.oci.manifest import Manifest
from entrepot.oci.media_type import OCI_INDEX, OCI_MANIFEST, OCTET_STREAM
from entrepot.storage.base import ContentStore

_MEMORY_TTL_S = 10.0
_MEMORY_BYTES = 32 << 20


@dataclass(frozen=True, slots=True)
class Held:
    """A manifest in memory, on its way to one or several clients."""

    digest: Digest
    media_type: str
    body: bytes


class HeldManifests:
    """Fails open: a store that does not answer holds nothing, and the upstream is asked."""

    def __init__(self, store: ContentStore, clock: Clock, *, limit: int) -> None:
        self._store = store
        self._clock = clock
        self._limit = limit
        self._recent: OrderedDict[Digest, tuple[float, Held]] = OrderedDict()
        self._recent_bytes = 0

    async def get(self, digest: Digest) -> Held | None:
        known = self._recent.get(digest)
        if known is not None and 0 <= self._clock.now() - known[0] < _MEMORY_TTL_S:
            return known[1]
        self._forget(digest)
        try:
            held = await self._load(digest)
        except StorageError:
            return None
        if held is not None:
            self._remember(held)
        return held

    async def put(self, held: Held) -> None:
        """StorageError where it cannot be kept."""
        await self._store.put(held.digest, held.body, held.media_type)

    async def _load(self, digest: Digest) -> Held | None:
        content = await self._store.open(digest)
        if content is None:
            return None
        try:
            if content.entry.size > self._limit:
                return None  # no manifest: a layer, asked for as one
            body = await content.read(0, content.entry.size)
        finally:
            content.close()
        if digest.matches(body):
            return Held(digest, _media_type(body, content.entry.media_type), body)
        await self._store.remove(digest)
        return None

    def _remember(self, held: Held) -> None:
        self._forget(held.digest)  # others may have loaded it meanwhile
        self._recent[held.digest] = (self._clock.now(), held)
        self._recent_bytes += len(held.body)
        while self._recent_bytes > _MEMORY_BYTES:
            self._forget(next(iter(self._recent)))

    def _forget(self, digest: Digest) -> None:
        known = self._recent.pop(digest, None)
        if known is not None:
            self._recent_bytes -= len(known[1].body)


def _media_type(body: bytes, stored: str) -> str:
    """What the manifest says it is. It may have been stored under another name for the same bytes:
    anybody can push a manifest as a layer.
    """
    try:
        manifest = Manifest.parse(body, stored)
    except InvalidReference:
        return stored
    if manifest.media_type != OCTET_STREAM:
        return manifest.media_type
    return OCI_INDEX if manifest.manifests else OCI_MANIFEST
