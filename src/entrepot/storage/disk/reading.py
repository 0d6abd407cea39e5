"""Bytes of files: on the event loop where the page cache has them, in a thread otherwise.

A hop to a thread and back costs more than a copy of 256 KiB; a disk that must be waited for on
the loop makes everybody wait. `preadv2` with RWF_NOWAIT tells which it is.
"""

import errno
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from entrepot.errors import StorageError
from entrepot.storage.disk.workers import Workers

# As much as is copied on the loop in one go; callers read 256 to 512 KiB.
_SCRATCH = 1 << 20
# tmpfs and some overlays answer EOPNOTSUPP; kernels before 4.14 ENOSYS or EINVAL.
_UNSUPPORTED = frozenset({errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL})


type ReadInto = Callable[[int, list[memoryview], int, int], int]


class OpenFile:
    """A descriptor that is not closed under a thread that reads from it.

    The number of a closed descriptor is given to the next file opened, whose bytes such a thread
    would get.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()
        self._borrowers = 0
        self._is_closed = False

    @property
    def is_closed(self) -> bool:
        return self._is_closed

    @contextmanager
    def borrowed(self) -> Iterator[int]:
        with self._lock:
            if self._is_closed:
                raise ValueError("the file is closed")
            self._borrowers += 1
        try:
            yield self._descriptor
        finally:
            with self._lock:
                self._borrowers -= 1
                self._close_if_unused()

    def close(self) -> None:
        with self._lock:
            if not self._is_closed:
                self._is_closed = True
                self._close_if_unused()

    def _close_if_unused(self) -> None:
        if self._is_closed and not self._borrowers:
            os.close(self._descriptor)

    def __del__(self) -> None:
        if not self._is_closed:
            warnings.warn("an OpenFile was not closed", ResourceWarning, source=self, stacklevel=2)
            self.close()


class FileReader:
    """Used on the event loop only, which is why one scratch buffer does for all."""

    def __init__(self, workers: Workers, preadv: ReadInto = os.preadv) -> None:
        self._workers = workers
        self._preadv = preadv
        self._nowait: int | None = getattr(os, "RWF_NOWAIT", None)  # Linux
        self._scratch = memoryview(bytearray(_SCRATCH))

    async def read(self, file: OpenFile, offset: int, size: int) -> bytes:
        """`size` bytes, which the file must have."""
        head = self._cached(file, offset, size)
        if len(head) == size:
            return head
        tail = await self._workers.file(_read_exactly, file, offset + len(head), size - len(head))
        return head + tail if head else tail

    def _cached(self, file: OpenFile, offset: int, size: int) -> bytes:
        """As much of it as is to be had without waiting."""
        if self._nowait is None:
            return b""
        target = self._scratch[:size]
        try:
            with file.borrowed() as descriptor:
                count = self._preadv(descriptor, [target], offset, self._nowait)
        except BlockingIOError:
            return b""
        except OSError as error:
            if error.errno in _UNSUPPORTED:
                self._nowait = None
            return b""  # what is wrong with the disk, the thread will say
        return bytes(target[:count])


def _read_exactly(file: OpenFile, offset: int, size: int) -> bytes:
    parts = []
    with file.borrowed() as descriptor:
        while size:
            part = os.pread(descriptor, size, offset)
            if not part:
                raise StorageError("a file of the store ends before its size")
            parts.append(part)
            offset += len(part)
            size -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)
