"""Programs that give credentials: docker's credential helpers, and commands that speak alike."""

import asyncio
import json
import os
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

# Cloud command lines take seconds to start; one that asks a human will never end.
_TIMEOUT_S = 30.0
_OUTPUT_LIMIT = 64 << 10


class ProgramFailed(Exception):  # noqa: N818 - reads as what it says
    """Its text never holds what the program wrote, on either stream: that may be the secret."""


@dataclass(frozen=True, slots=True)
class Output:
    username: str
    secret: str = field(repr=False)
    life_s: float | None = None
    expires_at: float | None = None


async def run_program(
    argv: tuple[str, ...], stdin: bytes, *, timeout_s: float = _TIMEOUT_S
) -> Output:
    run = _Run()
    try:
        transport, _ = await asyncio.get_running_loop().subprocess_exec(
            lambda: run,
            *argv,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # so that what it starts ends with it
        )
    except OSError as error:
        raise ProgramFailed(f"cannot be started: {error.strerror}") from None
    try:
        _write(transport, stdin)
        async with asyncio.timeout(timeout_s):
            await run.ended.wait()
    except TimeoutError:
        raise ProgramFailed(f"did not end within {timeout_s:g} s") from None
    finally:
        await _end(transport, run)
    if len(run.content) > _OUTPUT_LIMIT:
        raise ProgramFailed(f"wrote more than {_OUTPUT_LIMIT} B")
    if status := transport.get_returncode():
        raise ProgramFailed(f"exit status {status}")
    return parse_output(bytes(run.content))


class _Run(asyncio.SubprocessProtocol):
    """A protocol and not streams: those leave a pipe open that was not read to its end."""

    def __init__(self) -> None:
        self.content = bytearray()
        self.ended = asyncio.Event()  # or has said too much
        self.exited = asyncio.Event()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        del fd  # there is one
        if len(self.content) <= _OUTPUT_LIMIT:
            self.content += data
        if len(self.content) > _OUTPUT_LIMIT:
            self.ended.set()

    def process_exited(self) -> None:
        self.exited.set()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.ended.set()


def _write(transport: asyncio.SubprocessTransport, stdin: bytes) -> None:
    pipe = transport.get_pipe_transport(0)
    assert isinstance(pipe, asyncio.WriteTransport)
    pipe.write(stdin)
    pipe.close()


async def _end(transport: asyncio.SubprocessTransport, run: _Run) -> None:
    """The whole group: a shell's child would live on, and hold the pipe open."""
    if not run.exited.is_set():
        with suppress(ProcessLookupError):
            os.killpg(transport.get_pid(), signal.SIGKILL)
        # Shielded: it is dead, and must be reaped also where we are being cancelled.
        await asyncio.shield(run.exited.wait())
    transport.close()


def parse_output(content: bytes) -> Output:
    """`{"Username", "Secret"}` with `ExpiresAt` (RFC 3339) or `ExpiresIn` (seconds) or neither."""
    try:
        document: Any = json.loads(content)
        username, secret = document["Username"], document["Secret"]
        life, expiry = document.get("ExpiresIn"), document.get("ExpiresAt")
        return Output(
            _text(username),
            _text(secret),
            life_s=None if life is None else float(life),
            expires_at=None if not expiry else _timestamp(expiry),
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        # Without the cause, whose text shows a piece of what was written.
        raise ProgramFailed('expected {"Username": …, "Secret": …} as JSON') from None


def _text(value: Any) -> str:
    # An empty one is what a shell prints around a command that failed.
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("not text")
    return value


def _timestamp(text: str) -> float:
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
