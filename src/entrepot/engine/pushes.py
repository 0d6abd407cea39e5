"""Which uploads are on their way through us, so that what was pushed is there for the first pull.

What an upload sends is taken in beside it (`intake`); its steps are known by the place that the
upstream named for the next. It is admitted when the upstream says that it has the layer, and the
digest holds. Kept in memory: after a restart, or a step that went past us, it is not kept.
"""

import asyncio
import re
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import urljoin, urlsplit

from entrepot.engine.ask import Ask
from entrepot.engine.held import Held, HeldManifests
from entrepot.engine.intake import STEP, LayerIntake
from entrepot.errors import DigestMismatch, StorageError
from entrepot.oci.digest import Digest
from entrepot.oci.media_type import OCTET_STREAM, essence
from entrepot.oci.route import ManifestRoute, UploadRoute
from entrepot.storage.base import ContentStore

# Each may hold twice its backlog in memory while its disk is slow, and a file of its layer's size.
_MAX = 64
# A few may have so much wait for the disk; many share that.
_BACKLOG, _BACKLOGS = 4 << 20, 64 << 20
# Between two steps, which clients make one after the other.
_KEEP_S = 10 * 60.0
# As long as a push waits for its manifest to be kept: a row, or a small file.
_MANIFEST_S = 0.5
_ACCEPTED = 202
_SPAN = re.compile(r"(\d{1,18})-(\d{1,18})\Z")


@dataclass(frozen=True, slots=True)
class Word:
    """What an upstream says to a write."""

    status: int
    headers: Mapping[str, str]
    created: Digest | None  # what that proves to be there now


class PassedStep:
    """A write that nothing is kept of."""

    def body(self, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        return body

    async def answered(self, ask: Ask, word: Word) -> None:
        """The upstream's on it."""

    def failed(self) -> None:
        """There was none."""


class Pushes:
    def __init__(
        self,
        store: ContentStore,
        held: HeldManifests,
        tasks: asyncio.TaskGroup,
        *,
        limit: int,
        keeps: bool,
    ) -> None:
        self._store = store
        self._held = held
        self._tasks = tasks
        self._limit = limit
        self._keeps = keeps
        self._live: set[_Session] = set()
        self._open: OrderedDict[tuple[str, str], _Session] = OrderedDict()  # between two steps
        self._ending: set[asyncio.Task[object]] = set()
        self._admitting: dict[Digest, asyncio.Task[bool]] = {}

    def step(self, ask: Ask) -> PassedStep:
        """What this write is to what is kept. Its session, if it goes on with one, is its own."""
        request = ask.request
        session = self._take_out((ask.registry, ask.path))
        if not self._keeps:
            return PassedStep()
        if isinstance(ask.route, ManifestRoute) and request.method == "PUT":
            return _ManifestStep(self)
        if session is None and isinstance(ask.route, UploadRoute) and request.method == "POST":
            session = self._begin()
        if session is None:
            return PassedStep()
        return _LayerStep(
            self, session, request.headers.get("content-range"), request.content_length
        )

    async def wait_admitted(self, digest: Digest) -> None:
        """Until what is being admitted under this digest is there, or will not be."""
        task = self._admitting.get(digest)
        if task is not None:
            await asyncio.wait({task})

    async def aclose(self) -> None:
        """Give up what is under way; what is being admitted is whole."""
        for key in tuple(self._open):
            session = self._take_out(key)
            if session is not None:
                self.give_up(session)
        while self._ending:
            await asyncio.wait(self._ending.copy())

    # For the steps.

    def go_on(self, session: "_Session", key: tuple[str, str]) -> None:
        """Its next step will be for there."""
        earlier = self._take_out(key)
        if earlier is not None:
            self.give_up(earlier)
        session.timer = asyncio.get_running_loop().call_later(_KEEP_S, self._expire, key, session)
        self._open[key] = session

    def admit(self, session: "_Session", digest: Digest) -> None:
        """In a while: the push need not wait for the disk, which what asks for it does."""
        if digest in self._admitting or session.intake.is_lost:
            self.give_up(session)
            return
        self._live.discard(session)
        task = self._tasks.create_task(session.intake.finish(digest), name=f"admit {digest}")
        self._admitting[digest] = task
        task.add_done_callback(lambda _: self._admitting.pop(digest))
        self._own(task)

    def give_up(self, session: "_Session") -> None:
        session.intake.is_lost = True
        self._live.discard(session)
        self._own(self._tasks.create_task(session.intake.give_up(), name="give up a push"))

    async def keep_manifest(self, held: Held) -> None:
        task = self._tasks.create_task(self._put(held), name="keep a manifest")
        self._own(task)
        await asyncio.wait({task}, timeout=_MANIFEST_S)

    @property
    def manifest_limit(self) -> int:
        return self._limit

    async def _put(self, held: Held) -> None:
        try:
            await self._held.put(held)
        except (StorageError, DigestMismatch):
            return  # the upstream has it

    def _own[Result](self, task: asyncio.Task[Result]) -> None:
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def _begin(self) -> "_Session | None":
        """In the place of one that nothing has been heard of for longest, if need be."""
        if len(self._live) >= _MAX:
            if not self._open:
                return None
            self._expire(*next(iter(self._open.items())))
        session = _Session(LayerIntake(self._store, self._tasks, self._backlog))
        self._live.add(session)
        return session

    def _backlog(self) -> int:
        return max(STEP, min(_BACKLOG, _BACKLOGS // max(1, len(self._live))))

    def _take_out(self, key: tuple[str, str]) -> "_Session | None":
        session = self._open.pop(key, None)
        if session is not None and session.timer is not None:
            session.timer.cancel()
        return session

    def _expire(self, key: tuple[str, str], session: "_Session") -> None:
        if self._open.get(key) is session:
            self._take_out(key)
            self.give_up(session)


@dataclass(slots=True, eq=False)
class _Session:
    intake: LayerIntake
    timer: asyncio.TimerHandle | None = None


@dataclass(slots=True, eq=False)
class _LayerStep(PassedStep):
    _pushes: Pushes
    _session: _Session
    _content_range: str | None
    _length: int | None
    _is_whole: bool = field(default=True)  # all that the client sent in this step was taken

    async def _taken(self, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        intake, size = self._session.intake, 0
        async for piece in body:
            await intake.take(piece)
            size += len(piece)
            # Its answer to the last piece may come before anybody asks whether there is another.
            self._is_whole = size == self._length
            yield piece
        self._is_whole = True

    def body(self, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        self._is_whole = False
        if not self._follows():
            self._session.intake.is_lost = True
        return self._taken(body)

    async def answered(self, ask: Ask, word: Word) -> None:
        digest = word.created
        intake = self._session.intake
        if intake.is_lost or not self._is_whole or (digest is not None and not intake.size):
            self.failed()  # of a mount, nothing was sent
        elif digest is not None:
            self._pushes.admit(self._session, digest)
        elif word.status == _ACCEPTED and self._agrees(word.headers.get("Range", "")):
            self._pushes.go_on(self._session, (ask.registry, _next_path(ask, word.headers)))
        else:
            self.failed()

    def failed(self) -> None:
        self._pushes.give_up(self._session)

    def _follows(self) -> bool:
        if self._content_range is None:
            return True
        span = _SPAN.match(self._content_range)
        return span is not None and int(span[1]) == self._session.intake.size

    def _agrees(self, said: str) -> bool:
        """Whether the upstream has as much as we do. Of nothing, registries say 0-0."""
        span = _SPAN.match(said.removeprefix("bytes=").strip())
        size = self._session.intake.size
        return not said or size == 0 or (span is not None and int(span[2]) + 1 == size)


class _ManifestStep(PassedStep):
    def __init__(self, pushes: Pushes) -> None:
        self._pushes = pushes
        self._body: bytearray | None = bytearray()

    async def _taken(self, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for piece in body:
            if self._body is not None:
                self._body += piece
                if len(self._body) > self._pushes.manifest_limit:
                    self._body = None
            yield piece

    def body(self, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        return self._taken(body)

    async def answered(self, ask: Ask, word: Word) -> None:
        digest = word.created
        if digest is None or not self._body:
            return
        body = bytes(self._body)
        self._body = None
        if digest.matches(body):
            media_type = essence(ask.request.headers.get("content-type", "")) or OCTET_STREAM
            await self._pushes.keep_manifest(Held(digest, media_type, body))


def _next_path(ask: Ask, headers: Mapping[str, str]) -> str:
    """Whatever its host: who is sent elsewhere does not come back."""
    try:
        return urlsplit(urljoin(ask.path, headers.get("Location", ""))).path
    except ValueError:
        return ""
