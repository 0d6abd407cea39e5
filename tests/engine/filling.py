"""A fill by itself: what it fetches is scripted, what it writes to is in memory."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Self, cast

from entrepot.engine.fill import Fill
from entrepot.errors import UpstreamError
from entrepot.oci.digest import Digest
from entrepot.storage.base import Draft
from entrepot.upstream.message import UpstreamResponse

BODY = bytes(range(256)) * 1024  # 256 KiB: four times what is held back
DIGEST = Digest.of(BODY)


type Step = bytes | Exception | asyncio.Event


@dataclass(slots=True)
class Reply:
    """What an upstream answers: pieces of a body, with what goes wrong in between as exceptions and
    what is waited for as events.
    """

    steps: Sequence[Step]
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    is_closed: bool = False

    async def chunks(self) -> AsyncIterator[bytes]:
        for step in self.steps:
            if isinstance(step, asyncio.Event):
                await step.wait()
            elif isinstance(step, Exception):
                raise step
            else:
                yield step

    async def aclose(self) -> None:
        self.is_closed = True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


class Trickle(Reply):
    """A body of which some comes at each turn of the loop, whether or not it is asked for; who asks
    gets all that has come.
    """

    def __init__(self, body: bytes, *, turns: int, headers: dict[str, str] | None = None) -> None:
        told = {"Content-Length": str(len(body))} if headers is None else headers
        super().__init__((), headers=told)
        self.taken: list[int] = []
        self._body = body
        self._step = len(body) // turns
        self._here = 0
        self._came = asyncio.Event()

    async def flow(self) -> None:
        while self._here < len(self._body):
            self._here += self._step
            self._came.set()
            await asyncio.sleep(0)

    async def chunks(self) -> AsyncIterator[bytes]:
        given = 0
        while given < len(self._body):
            await self._came.wait()
            self._came.clear()
            piece = self._body[given : self._here]
            given += len(piece)
            self.taken.append(len(piece))
            yield piece


def as_response(reply: Reply) -> UpstreamResponse:
    """It is one as far as the engine knows them."""
    return cast("UpstreamResponse", reply)


def whole(*steps: Step, size: int | None = len(BODY)) -> Reply:
    return Reply(steps, headers={} if size is None else {"Content-Length": str(size)})


def part(*steps: Step, start: int, size: int | str = len(BODY)) -> Reply:
    last = len(BODY) - 1
    return Reply(steps, 206, {"Content-Range": f"bytes {start}-{last}/{size}"})


BROKE = UpstreamError("it broke off")


@dataclass(slots=True)
class Script:
    """Replies in order, and where each was asked to begin."""

    replies: list[Reply | Exception]
    offsets: list[int] = field(default_factory=list)

    async def __call__(self, offset: int) -> UpstreamResponse:
        self.offsets.append(offset)
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return as_response(reply)


def fill_of(
    draft: Draft, *replies: Reply | Exception, digest: Digest = DIGEST, retries: int = 3
) -> tuple[Fill, Script]:
    script = Script(list(replies))
    fill = Fill(digest, draft, script, retries=retries, fetched=lambda _: None, pause_s=0)
    return fill, script


async def read_fill(fill: Fill, offset: int = 0) -> bytes:
    """To the end, or until it raises."""
    pieces = []
    while await fill.wait_beyond(offset):
        piece = await fill.read(offset, 10_000)
        assert piece
        pieces.append(piece)
        offset += len(piece)
    return b"".join(pieces)
