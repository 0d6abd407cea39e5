"""Blobs: from the store, from a running fill, or by starting one."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from entrepot.cache.decide import is_trouble
from entrepot.engine.access import Access
from entrepot.engine.ask import Ask, Origin
from entrepot.engine.body import ContentBody, FillBody, PassedBody
from entrepot.engine.facts import Facts
from entrepot.engine.fill import Fill, FillStatistics, covered
from entrepot.engine.message import Response
from entrepot.engine.reply import (
    CacheStatus,
    content_headers,
    length_of,
    mark,
    matches_etag,
    partial,
)
from entrepot.engine.single_flight import SingleFlight
from entrepot.errors import DigestMismatch, EntrepotError, StorageError, UpstreamError
from entrepot.oci.byte_range import ByteRange, RangeRequest
from entrepot.oci.digest import Digest
from entrepot.oci.media_type import OCTET_STREAM
from entrepot.oci.route import BlobRoute
from entrepot.storage.base import Content, ContentStore
from entrepot.upstream.message import UpstreamResponse

# A range that begins this far beyond what has come in is fetched by itself, not waited for.
_FAR = 16 << 20
_PARTIAL = 206


type _Asker = tuple[str, str, str]
"""Registry, path and identity."""


@dataclass(frozen=True, slots=True)
class _Failure:
    """Of a fill, and for whom it was begun."""

    asker: _Asker
    error: EntrepotError

    def is_also_of(self, asker: _Asker) -> bool:
        """A herd that asks alike fails alike: each in turn would wait as long as the first. An
        outage is the same to all who ask that registry, the store's to everybody; what was refused
        to one says nothing about others.
        """
        if self.asker == asker or isinstance(self.error, StorageError):
            return True
        is_outage = not isinstance(self.error, UpstreamError) or is_trouble(self.error.status)
        return self.asker[0] == asker[0] and is_outage


class Blobs:
    def __init__(  # noqa: PLR0913 - collaborators, put together in one place
        self,
        store: ContentStore,
        facts: Facts,
        origin: Origin,
        access: Access,
        *,
        starting: SingleFlight[Digest, Fill | _Failure | None],
        tasks: asyncio.TaskGroup,
        retries: int,
        fetched: Callable[[str, int], None],
        wait_admitted: Callable[[Digest], Awaitable[None]],
    ) -> None:
        self._store = store
        self._facts = facts
        self._origin = origin
        self._access = access
        self._starting = starting
        self._tasks = tasks
        self._retries = retries
        self._fetched = fetched
        self._wait_admitted = wait_admitted  # for what was pushed a moment ago
        self._fills: dict[Digest, Fill] = {}  # that have begun
        self._noting: SingleFlight[tuple[str, str, Digest], None] = SingleFlight(tasks)
        self._tasks_of_fills: dict[asyncio.Task[None], Fill] = {}
        self._starters: WeakKeyDictionary[Fill, _Asker] = WeakKeyDictionary()

    def fills(self) -> tuple[FillStatistics, ...]:
        return tuple(fill.statistics() for fill in self._tasks_of_fills.values())

    async def wait_for_fills(self) -> None:
        """Until all that run now have ended."""
        if self._tasks_of_fills:
            await asyncio.wait(self._tasks_of_fills.copy())

    async def aclose(self) -> None:
        """End running fills; what they have is kept for another start. What is whole is admitted
        first: the readers who have just got it were told that it is stored.
        """
        for task, fill in tuple(self._tasks_of_fills.items()):
            if not fill.is_complete:
                task.cancel()
        await asyncio.gather(*self._tasks_of_fills, return_exceptions=True)

    async def fetch(self, ask: Ask, digest: Digest) -> None:
        """Have it come in, if it is not here, as if `ask` had come for it; return when it is in.
        EntrepotError where it cannot be had, also when a client's own request would be passed by.
        """
        content = await self._stored(digest)
        if content is not None:
            content.close()
            return
        fill, _ = await self._fill(ask, digest)
        if fill is None:
            return
        try:
            await fill.wait_beyond(sys.maxsize)
        finally:
            fill.detach()

    async def respond(self, ask: Ask, route: BlobRoute) -> Response:
        if ask.is_head and ask.is_writable:
            return await self._existence(ask, route.digest)
        content = await self._stored(route.digest)
        if content is not None:
            return await self._from_store(ask, content)
        if ask.is_head or matches_etag(ask.request.headers.get("if-none-match"), route.digest):
            return await self._existence(ask, route.digest)
        return await self._from_upstream(ask, route.digest)

    async def _stored(self, digest: Digest) -> Content | None:
        try:
            return await self._store.open(digest)
        except StorageError:
            return None  # the upstream has it, too

    async def _from_store(
        self, ask: Ask, content: Content, status: CacheStatus = CacheStatus.HIT
    ) -> Response:
        response: Response | None = None
        try:
            digest, size = content.entry.digest, content.entry.size
            await self._access.ensure(ask, digest)
            headers = {
                **content_headers(digest, OCTET_STREAM),
                "Accept-Ranges": "bytes",
                **mark(ask.trace, status),
            }
            span = self._wanted(ask, digest, size, headers)
            if isinstance(span, Response):
                return span
            whole = span or ByteRange(0, size)
            body = b"" if ask.is_head else ContentBody(content, whole)
            response = Response(200, headers, body, len(whole), ask.trace)
            return partial(response, span, size) if span else response
        finally:
            if response is None or ask.is_head:
                content.close()

    def _wanted(
        self, ask: Ask, digest: Digest, size: int, headers: dict[str, str]
    ) -> ByteRange | Response | None:
        """The range to send (None: all), or the answer that takes no body."""
        if matches_etag(ask.request.headers.get("if-none-match"), digest):
            return Response(304, headers, trace=ask.trace)
        asked = _range_of(ask, digest)
        if asked is None:
            return None
        span = asked.resolve(size)
        if span is not None:
            return span
        headers["Content-Range"] = f"bytes */{size}"
        return Response(416, headers, trace=ask.trace)

    # From the upstream.

    async def _existence(self, ask: Ask, digest: Digest) -> Response:
        """Whether this repository holds it, which for who may push is the upstream's to say:
        "exists" from a store that is shared by repositories makes a push leave the layer out.
        """
        assert ask.repository is not None
        await self._access.refuse_known_absence(ask)
        headers = content_headers(digest, OCTET_STREAM) | {"Accept-Ranges": "bytes"}
        kept = await self._stored(digest)
        if kept is not None:
            if self._access.is_out_of_reach(ask):
                return await self._from_store(ask, kept)
            kept.close()
        try:
            answer = await self._origin.head(ask, is_patient=kept is None)
        except UpstreamError as error:
            content = await self._stored(digest) if is_trouble(error.status) else None
            if content is None:
                raise
            return await self._from_store(ask, content)
        await self._facts.add_members(ask.registry, ask.repository, (digest,))
        headers |= mark(ask.trace, CacheStatus.PASS)
        if matches_etag(ask.request.headers.get("if-none-match"), digest):
            return Response(304, headers, trace=ask.trace)
        return Response(200, headers, b"", length_of(answer.headers), ask.trace)

    async def _from_upstream(self, ask: Ask, digest: Digest) -> Response:
        try:
            fill, status = await self._fill(ask, digest)
        except StorageError as error:
            ask.trace.error = str(error)
            return await self._bypass(ask, digest)
        if fill is None:
            content = await self._stored(digest)
            if content is None:
                return await self._bypass(ask, digest)
            return await self._from_store(ask, content, status)
        try:
            return await self._from_fill(ask, fill, status)
        finally:
            fill.detach()

    async def _from_fill(self, ask: Ask, fill: Fill, status: CacheStatus) -> Response:
        headers = content_headers(fill.digest, OCTET_STREAM) | mark(ask.trace, status)
        size = fill.size
        if size == 0:  # of which no last piece can be held back until it is known to be right
            await fill.wait_beyond(0)
        span = None
        if size is not None:
            headers["Accept-Ranges"] = "bytes"
            wanted = self._wanted(ask, fill.digest, size, headers)
            if isinstance(wanted, Response):
                return wanted
            span = wanted
        if span and span.start > fill.watermark + _FAR:
            return await self._bypass(ask, fill.digest)
        starter, asker = self._starters.get(fill), _asker_of(ask)
        body = FillBody(
            fill,
            span,
            lambda start, stop: self._passed(ask, start, stop, size),
            lambda error: starter is not None and not _Failure(starter, error).is_also_of(asker),
        )
        length = len(span) if span else size
        response = Response(200, headers, body, length, ask.trace)
        return partial(response, span, size) if span and size is not None else response

    async def _fill(self, ask: Ask, digest: Digest) -> tuple[Fill | None, CacheStatus]:
        """The running fill or one of our own making, attached to; None if it has just ended, or
        none was needed: somebody had just pushed it.

        Who did not start it needs a word of the upstream of its own.
        """
        await self._access.refuse_known_absence(ask)
        asker = _asker_of(ask)
        is_mine = False

        async def begin() -> Fill | _Failure | None:
            nonlocal is_mine
            is_mine = True
            try:
                return await self._begin(ask, digest)
            except (UpstreamError, StorageError) as error:
                return _Failure(asker, error)

        while True:
            outcome = self._fills.get(digest) or await self._starting.run(digest, begin)
            if not isinstance(outcome, _Failure):
                break
            if outcome.is_also_of(asker):
                raise outcome.error
        if outcome is None:
            return None, CacheStatus.HIT
        status = CacheStatus.MISS if is_mine else CacheStatus.COLLAPSED
        if not outcome.attach():
            error, starter = outcome.error, self._starters.get(outcome, asker)
            if error is not None and _Failure(starter, error).is_also_of(asker):
                raise error
            return None, status
        try:
            if not is_mine:
                await self._access.ensure(ask, digest)
        except BaseException:
            outcome.detach()
            raise
        return outcome, status

    async def _begin(self, ask: Ask, digest: Digest) -> Fill | None:
        await self._wait_admitted(digest)
        content = await self._stored(digest)
        if content is not None:
            content.close()
            return None
        fill, task = await self._start(ask, digest)
        try:
            await fill.wait_begun()
        except DigestMismatch:
            if not fill.was_resumed:
                raise
            # What an earlier attempt left may be what was wrong, and is gone now.
            fill, task = await self._start(ask, digest)
            await fill.wait_begun()
        if not task.done():
            self._fills[digest] = fill
        return fill

    async def _start(self, ask: Ask, digest: Digest) -> tuple[Fill, asyncio.Task[None]]:
        draft = await self._store.draft(digest)
        fill = Fill(
            digest,
            draft,
            lambda offset: self._open(ask, offset, digest),
            retries=self._retries,
            fetched=lambda size: self._fetched(ask.site.entry, size),
        )
        self._starters[fill] = _asker_of(ask)
        task = self._tasks.create_task(fill.run(), name=f"fill {digest}")
        self._tasks_of_fills[task] = fill
        task.add_done_callback(lambda task: self._ended(digest, fill, task))
        return fill, task

    def _ended(self, digest: Digest, fill: Fill, task: asyncio.Task[None]) -> None:
        self._tasks_of_fills.pop(task, None)
        if self._fills.get(digest) is fill:
            del self._fills[digest]

    async def _open(self, ask: Ask, offset: int, digest: Digest) -> UpstreamResponse:
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        response = await self._origin.open(ask, "GET", headers, is_bulk=True)
        registry, repository = ask.registry, ask.repository
        assert repository is not None
        # Known to this process before anybody else gets of it; on the disk, beside the first bytes.
        self._noting.start(
            (registry, repository, digest),
            lambda: self._facts.add_members(registry, repository, (digest,)),
        )
        return response

    # Past the store.

    async def _passed(self, ask: Ask, start: int, stop: int | None, size: int | None) -> PassedBody:
        """From `start` on: `stop` is said where it is known, and not where it is the end; `size`
        is what the client was told of the whole.
        """
        last = "" if stop is None else stop - 1
        wanted = {"Range": f"bytes={start}-{last}"}
        response = await self._origin.open(ask, "GET", wanted, is_bulk=True)
        begins_there = False
        try:
            skipped, whole = covered(response, start)
            begins_there = skipped == 0 and (size is None or whole in {None, size})
        finally:
            if not begins_there:
                await response.aclose()
        if not begins_there:
            raise UpstreamError(f"{ask.registry} cannot continue in the middle of a blob")
        return PassedBody(response, lambda size: self._fetched(ask.site.entry, size))

    async def _bypass(self, ask: Ask, digest: Digest) -> Response:
        is_part = _range_of(ask, digest) is not None
        wanted = {"Range": ask.request.headers["range"]} if is_part else {}
        answer = await self._origin.open(ask, "GET", wanted, is_bulk=True)
        headers = content_headers(digest, OCTET_STREAM) | mark(ask.trace, CacheStatus.BYPASS)
        if answer.status == _PARTIAL and "Content-Range" in answer.headers:
            headers["Content-Range"] = answer.headers["Content-Range"]
        body = PassedBody(answer, lambda size: self._fetched(ask.site.entry, size))
        return Response(answer.status, headers, body, length_of(answer.headers), ask.trace)


def _asker_of(ask: Ask) -> _Asker:
    return (ask.registry, ask.path, ask.identity.key)


def _range_of(ask: Ask, digest: Digest) -> RangeRequest | None:
    """RFC 9110 section 14.2: of a GET alone, and only of what If-Range names."""
    request = ask.request.headers
    if ask.is_head or not matches_etag(request.get("if-range", f'"{digest}"'), digest):
        return None
    return RangeRequest.parse(request.get("range"))
