"""The threads of the store, and the one place where errors of lower libraries become ours."""

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import diskcache

from entrepot.errors import StorageError

# Hashing and file system calls release the GIL; eight of them keep a disk busy.
_FILE_THREADS = 8


class Workers:
    """Threads by what they may have to wait for, so that none waits for another's reason.

    `read` and `write` are one thread each: a SQLite connection belongs to a thread and must be
    closed in it, and writers of one process that queue here never meet SQLite's busy handler,
    which sleeps.
    """

    def __init__(self) -> None:
        self._reads = ThreadPoolExecutor(1, "entrepot-store-read")
        self._writes = ThreadPoolExecutor(1, "entrepot-store-write")
        self._files = ThreadPoolExecutor(_FILE_THREADS, "entrepot-store-file")

    async def read[**P, T](self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """For what only looks into the database."""
        return await _result(_submit(self._reads, function, *args, **kwargs))

    async def write[**P, T](self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """For what changes the database."""
        return await _result(_submit(self._writes, function, *args, **kwargs))

    async def file[**P, T](self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """For what leaves the database alone."""
        return await _result(_submit(self._files, function, *args, **kwargs))

    async def acquire[T](self, function: Callable[[], T], release: Callable[[T], object]) -> T:
        """Like `read`; what comes after the caller was cancelled is released."""
        return await _acquired(_submit(self._reads, function), release)

    async def acquire_file[T](self, function: Callable[[], T], release: Callable[[T], object]) -> T:
        """Like `file`; what comes after the caller was cancelled is released."""
        return await _acquired(_submit(self._files, function), release)

    async def aclose(self, close_connections: Callable[[], None]) -> None:
        """After all that was begun."""
        await self.write(close_connections)
        await self.read(close_connections)
        for executor in (self._reads, self._writes, self._files):
            executor.shutdown(wait=False)


def _submit[**P, T](
    executor: ThreadPoolExecutor, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
) -> Future[T]:
    try:
        return executor.submit(_attempt, partial(function, *args, **kwargs))
    except RuntimeError as error:
        raise StorageError("the store is closed") from error


def _attempt[T](function: Callable[[], T]) -> T:
    try:
        return function()
    except (OSError, sqlite3.Error, diskcache.Timeout) as error:
        raise StorageError(f"{type(error).__name__}: {error}") from error


async def _result[T](future: Future[T]) -> T:
    return await asyncio.wrap_future(future)


async def _acquired[T](future: Future[T], release: Callable[[T], object]) -> T:
    try:
        return await asyncio.wrap_future(future)
    except asyncio.CancelledError:
        future.add_done_callback(lambda done: _release(done, release))
        raise


def _release[T](done: Future[T], release: Callable[[T], object]) -> None:
    if not done.cancelled() and done.exception() is None:
        release(done.result())
