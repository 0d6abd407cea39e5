"""Bodies on their way to a client: of stored content, of a running fill, of an upstream answer.

`ContentBody` and `FillBody` may name a `Window` of a file, for who sends it without having it read
here; after that, `skip` says how much was sent. Where they name none, and always, `read` is right.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from entrepot.engine.fill import Fill
from entrepot.errors import EntrepotError, StorageError, UpstreamError
from entrepot.oci.byte_range import ByteRange
from entrepot.storage.base import Content, StoredFile
from entrepot.upstream.message import UpstreamResponse


@dataclass(frozen=True, slots=True)
class Window:
    """What may be read from a file at once."""

    file: StoredFile
    offset: int
    size: int


class ContentBody:
    def __init__(self, content: Content, span: ByteRange) -> None:
        self._content = content
        self._offset = span.start
        self._stop = span.stop

    async def read(self, size: int) -> bytes:
        wanted = min(size, self._stop - self._offset)
        if wanted <= 0:
            return b""
        data = await self._content.read(self._offset, wanted)
        if not data:
            raise StorageError(f"{self._content.entry.digest} is shorter than it was")
        self._offset += len(data)
        return data

    async def window(self) -> Window | None:
        """All that is left; None where that is nothing, or not in a file."""
        file, size = self._content.file, self._stop - self._offset
        return Window(file, self._offset, size) if file is not None and size > 0 else None

    def skip(self, count: int) -> None:
        self._offset += count

    async def aclose(self) -> None:
        self._content.close()


class FillBody:
    """A reader of a fill, late or early. When the store fails under it, the upstream goes on; and
    when the upstream does, if that is another's: `is_others` says so. Not once bytes of theirs
    were given out, which may be wrong.
    """

    def __init__(
        self,
        fill: Fill,
        span: ByteRange | None,
        bypass: Callable[[int, int | None], Awaitable["PassedBody"]],
        is_others: Callable[[UpstreamError], bool] = lambda _: False,
    ) -> None:
        self._fill = fill
        self._start = self._offset = span.start if span else 0
        self._stop = span.stop if span else None
        self._bypass = bypass
        self._is_others = is_others
        self._passed: PassedBody | None = None
        self._is_attached = fill.attach()

    async def read(self, size: int) -> bytes:
        stop = self._fill.size if self._stop is None else self._stop
        if stop is not None:
            size = min(size, stop - self._offset)
        if size <= 0:
            return b""
        if self._passed is None:
            data = await self._read_fill(size, stop)
        else:
            data = await self._passed.read(size)
        self._offset += len(data)
        return data

    async def _read_fill(self, size: int, stop: int | None) -> bytes:
        try:
            if not await self._fill.wait_beyond(self._offset):
                return b""
            return await self._fill.read(self._offset, size)
        except StorageError:
            pass
        except UpstreamError as error:
            if self._offset != self._start or not self._is_others(error):
                raise
        # Availability before efficiency: a full disk must not fail a pull. What passes this way
        # is not admitted to the store; its digest is the client's to check, as always.
        self._passed = await self._bypass(self._offset, stop)
        return await self._passed.read(size)

    async def window(self) -> Window | None:
        """Like `ContentBody.window`, of what is here, once there is something. What went wrong,
        `read` says.
        """
        file = self._fill.file
        if file is None or self._passed is not None:
            return None
        stop = self._fill.size if self._stop is None else self._stop
        if stop is not None and self._offset >= stop:
            return None
        try:
            if not await self._fill.wait_beyond(self._offset):
                return None
        except EntrepotError:
            return None
        here = self._fill.watermark if stop is None else min(self._fill.watermark, stop)
        return Window(file, self._offset, here - self._offset)

    def skip(self, count: int) -> None:
        self._offset += count

    async def aclose(self) -> None:
        if self._is_attached:
            self._is_attached = False
            self._fill.detach()
        if self._passed is not None:
            await self._passed.aclose()


class PassedBody:
    """An upstream's answer, passed on as it comes."""

    def __init__(self, response: UpstreamResponse, fetched: Callable[[int], None]) -> None:
        self._response = response
        self._chunks = response.chunks()
        self._fetched = fetched
        self._rest = b""

    async def read(self, size: int) -> bytes:
        if not self._rest:
            self._rest = await anext(self._chunks, b"")
            self._fetched(len(self._rest))
        data, self._rest = self._rest[:size], self._rest[size:]
        return data

    async def whole(self, limit: int) -> bytes | None:
        """All of it, if that is no more than `limit`; after None it is read as if from the start.
        Servers tell no length of what they make up as they send it.
        """
        begun = bytearray()
        while piece := await self.read(limit):
            begun += piece
            if len(begun) > limit:
                self._rest = bytes(begun) + self._rest
                return None
        return bytes(begun)

    async def aclose(self) -> None:
        await self._response.aclose()
