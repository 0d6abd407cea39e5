"""Getting a blob in: one fetch from the upstream, many readers of the growing draft.

A `Fill` belongs to the engine. Clients attach and detach as `FillBody`; none of them ends it.
The upstream that breaks off is asked again for the rest, with Range; what is wrong in size or
digest is discarded and its readers' transfers break: the last piece is held back until the
digest holds, so nobody ever gets a whole wrong body.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum, auto

from entrepot.engine.reply import length_of
from entrepot.errors import DigestMismatch, EntrepotError, StorageError, UpstreamError
from entrepot.oci.byte_range import parse_content_range
from entrepot.oci.digest import Digest
from entrepot.oci.media_type import OCTET_STREAM
from entrepot.storage.base import Draft, StoredFile
from entrepot.upstream.message import UpstreamResponse

logger = logging.getLogger(__name__)

# Small enough to be verified at once when it comes, large enough that a client notices the lack.
HOLD_BACK = 64 << 10
# Pieces smaller than this are let gather in the client's buffer for a moment, and come as one: a
# hop to a thread and the waking of all readers cost the same for 16 KiB as for 256. Not as a fill
# begins and where it ends: there the moment would be felt.
_GATHERED = 256 << 10
_GATHER_S = 0.01
_AT_ONCE = 1 << 20
_NOTHING_THERE = 416
_PAUSE_S = 0.2
_PAUSE_MAX_S = 5.0

type Fetch = Callable[[int], Awaitable[UpstreamResponse]]
"""Opens the blob at an offset; raises UpstreamError where there is no 200 or 206."""


class _State(Enum):
    RUNNING = auto()
    COMPLETE = auto()
    FAILED = auto()


@dataclass(frozen=True, slots=True)
class FillStatistics:
    digest: Digest
    size: int | None
    watermark: int
    readers: int


class Fill:
    def __init__(  # noqa: PLR0913 - what it is made of
        self,
        digest: Digest,
        draft: Draft,
        fetch: Fetch,
        *,
        retries: int,
        fetched: Callable[[int], None],
        pause_s: float = _PAUSE_S,
    ) -> None:
        self.digest = digest
        self.size: int | None = None
        self.readers = 0
        self.was_resumed = draft.size > 0
        self._draft = draft
        self._fetch = fetch
        self._retries = retries
        self._fetched = fetched
        self._pause_s = pause_s
        self._state = _State.RUNNING
        self._is_over = False
        self._error: EntrepotError | None = None
        self._grown = asyncio.Event()
        self._begun = asyncio.Event()

    # What readers see.

    @property
    def watermark(self) -> int:
        """Bytes that may be read: all when verified, all but the last piece before. That is the
        last of what is here while the size is not known. Nothing before as much has come: readers
        can go elsewhere until they have something.
        """
        here = self._draft.size
        if self._state is _State.COMPLETE:
            return here
        if self.size is None or here <= HOLD_BACK:
            return max(0, here - HOLD_BACK)
        return max(0, min(here, self.size - HOLD_BACK))

    @property
    def is_complete(self) -> bool:
        return self._state is _State.COMPLETE

    @property
    def has_failed(self) -> bool:
        return self._state is _State.FAILED

    async def wait_begun(self) -> None:
        """Until the upstream has answered and there is something to give out, or raise what it
        said instead. What is all last piece has to hold first: then an error can still be said.
        """
        await self._begun.wait()
        if self._error is not None:
            raise self._error
        if self.size is not None and self.size <= HOLD_BACK:
            await self.wait_beyond(max(0, self.size - 1))

    async def wait_beyond(self, offset: int) -> bool:
        """Until there is more than `offset`; False when there will not be; raise if it failed."""
        while self.watermark <= offset:
            if self._state is _State.COMPLETE:
                return False
            if self._error is not None:
                raise self._error
            await self._grown.wait()
        return True

    @property
    def file(self) -> StoredFile | None:
        """For what is below the watermark."""
        return self._draft.file

    async def read(self, offset: int, size: int) -> bytes:
        return await self._draft.read(offset, min(size, self.watermark - offset))

    @property
    def error(self) -> EntrepotError | None:
        """What it failed of."""
        return self._error

    def attach(self) -> bool:
        """False where it is too late: it is over, and its file closed."""
        if self._is_over and not self.readers:
            return False
        self.readers += 1
        return True

    def detach(self) -> None:
        self.readers -= 1
        self._close_if_done()

    def statistics(self) -> FillStatistics:
        return FillStatistics(self.digest, self.size, self.watermark, self.readers)

    # Getting the bytes.

    async def run(self) -> None:
        """To the end, good or bad; raises only CancelledError, having kept what is there."""
        try:
            await self._download()
            await self._draft.verify()
            self._end(_State.COMPLETE)
            await self._draft.commit(OCTET_STREAM)
        except DigestMismatch as error:
            await self._fail(error, self._draft.discard)
        except UpstreamError as error:
            await self._fail(error, self._draft.suspend)
        except StorageError as error:
            await self._fail(error, self._draft.discard)
        except asyncio.CancelledError:
            await self._fail(UpstreamError("the proxy is shutting down"), self._draft.suspend)
            raise
        except Exception as error:  # noqa: BLE001 - a defect of ours must not leave readers waiting
            await self._fail(StorageError(f"fill failed: {error!r}"), self._draft.discard)
        finally:
            self._is_over = True
            self._close_if_done()

    async def _fail(self, error: EntrepotError, leave: Callable[[], Awaitable[None]]) -> None:
        """Whatever becomes of the draft, readers hear of it: they would wait for ever. Those of
        what is whole have it all, also where it cannot be kept.
        """
        try:
            await leave()
        except Exception as trouble:  # noqa: BLE001 - it would end all that runs beside this fill
            logger.warning("the draft of %s is left as it is: %r", self.digest, trouble)
        finally:
            if self.is_complete:
                logger.warning("%s is served but not kept: %s", self.digest, error)
            else:
                self._end(_State.FAILED, error)

    def _end(self, state: _State, error: EntrepotError | None = None) -> None:
        if error is not None:
            logger.warning("fill of %s failed at %d: %s", self.digest, self._draft.size, error)
        self._state, self._error = state, error
        self._begun.set()
        self._notify()

    def _close_if_done(self) -> None:
        if not self.readers and self._is_over:
            self._draft.close()

    def _notify(self) -> None:
        self._grown.set()
        self._grown = asyncio.Event()

    async def _download(self) -> None:
        failures = 0
        while not self._is_all_here():
            before = self._draft.size
            try:
                await self._attempt()
            except DigestMismatch:
                raise
            except UpstreamError as error:
                if error.status == _NOTHING_THERE and self._draft.size:
                    self.size = self._draft.size  # an earlier attempt got it all: the digest tells
                    return
                failures = 1 if self._draft.size > before else failures + 1
                if not self._begun.is_set() or failures > self._retries or _is_final(error):
                    raise
                await asyncio.sleep(min(self._pause_s * 2**failures, _PAUSE_MAX_S))

    def _is_all_here(self) -> bool:
        return self.size is not None and self._draft.size == self.size

    async def _attempt(self) -> None:
        start = self._draft.size
        # While a piece is being written the next ones gather in the client's buffer, and come as
        # one: the steps are as large as the disk is slow.
        async with await self._fetch(start) as response:
            skip = await self._enter(response, start)
            self._begun.set()
            async for piece in response.chunks():
                self._fetched(len(piece))
                kept = piece[skip:] if skip else piece
                skip = max(0, skip - len(piece))
                if kept:
                    await self._keep(kept)
                if len(piece) < _GATHERED and self._may_gather(start):
                    await asyncio.sleep(_GATHER_S)
        if self.size is None:
            self.size = self._draft.size  # no length was announced: the end is the end
        if not self._is_all_here():
            raise UpstreamError("the upstream closed the connection too early")

    def _may_gather(self, start: int) -> bool:
        if self._draft.size - start < _AT_ONCE:
            return False
        return self.size is None or self.size - self._draft.size > _GATHERED

    async def _enter(self, response: UpstreamResponse, start: int) -> int:
        """Check what the answer covers; return how many of its bytes are here already."""
        skip, size = covered(response, start)
        await self._announce(size)
        return skip

    async def _announce(self, size: int | None) -> None:
        if size is None:
            return
        is_news = self.size is None
        if is_news:
            self.size = size
        if size != self.size or size < self._draft.size:
            raise DigestMismatch(f"{self.digest}: the upstream announced two different sizes")
        if is_news:
            await self._draft.expect(size)

    async def _keep(self, data: bytes) -> None:
        if self.size is not None and self._draft.size + len(data) > self.size:
            raise DigestMismatch(f"{self.digest}: more bytes came than were announced")
        await self._draft.write(data)
        self._notify()


def covered(response: UpstreamResponse, start: int) -> tuple[int, int | None]:
    """How many bytes of an answer come before `start`, from where it was asked for, and the size of
    the whole where it is told.
    """
    if response.status != 206:  # noqa: PLR2004 - Partial Content
        return start, length_of(response.headers)
    span = parse_content_range(response.headers.get("Content-Range", ""))
    if span is None or span[0].start != start:
        raise UpstreamError("the upstream answered another range than the one asked for")
    return 0, span[1]


def _is_final(error: UpstreamError) -> bool:
    """Refusals do not change by asking again; trouble may."""
    return error.status is not None and error.status < 500 and error.status not in {403, 408, 429}  # noqa: PLR2004
