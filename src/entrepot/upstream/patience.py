"""How long each part of an exchange may take."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    connect_s: float
    header_s: float
    read_s: float
    until: float | None = None  # by the loop's clock; nothing waits longer

    def at_most(self, seconds: float) -> "Patience":
        return Patience(
            connect_s=min(self.connect_s, seconds),
            header_s=min(self.header_s, seconds),
            read_s=self.read_s,
            until=self.until,
        )


class Deadline:
    """Around one exchange: name, connection, TLS and parent proxy within `connect_s`; then the
    answer must begin within `header_s`, also on a connection that was open already. Such a one to a
    black hole never fails to connect, and takes what is written to it.
    """

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._timeout = asyncio.timeout(None)
        self._is_running = False
        self.was_sent = False
        self.body_failure: Exception | None = None

    async def __aenter__(self) -> Self:
        await self._timeout.__aenter__()
        self._is_running = True
        self._expect(self._patience.connect_s)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_running = False
        await self._timeout.__aexit__(kind, error, traceback)

    def headers_sent(self) -> None:
        self.was_sent = True
        self._expect(self._patience.header_s)

    async def pace(self, body: AsyncIterator[bytes], length: int | None) -> AsyncIterator[bytes]:
        """The body as it is sent. The client's pace is not the upstream's fault: time runs only
        while there is something for the upstream to take.
        """
        sent = 0
        try:
            self._expect(None)
            async for piece in body:
                sent += len(piece)
                if length is not None and sent > length:
                    break
                self._expect(self._patience.read_s)
                yield piece
                self._expect(None)
            _check(sent, length)
        except Exception as error:
            self.body_failure = error
            raise
        self._expect(self._patience.header_s)

    def _expect(self, seconds: float | None) -> None:
        # The body may still be on its way when the answer has begun.
        if not self._is_running:
            return
        until = self._patience.until
        if seconds is not None:
            moment = asyncio.get_running_loop().time() + seconds
            until = moment if until is None else min(moment, until)
        self._timeout.reschedule(until)


def _check(sent: int, length: int | None) -> None:
    if length is not None and sent != length:
        raise ValueError("the body is not as long as was announced")
