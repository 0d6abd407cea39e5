"""Programs that give credentials: docker's credential helpers, and commands that speak alike."""

import asyncio
import json
import os
import signal
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
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            limit=_OUTPUT_LIMIT,
            start_new_session=True,  # so that what it starts ends with it
        )
    except OSError as error:
        raise ProgramFailed(f"cannot be started: {error.strerror}") from None
    try:
        async with asyncio.timeout(timeout_s):
            content = await _converse(process, stdin)
            status = await process.wait()
    except TimeoutError:
        raise ProgramFailed(f"did not end within {timeout_s:g} s") from None
    finally:
        await _end(process)
    if status:
        raise ProgramFailed(f"exit status {status}")
    return parse_output(content)


async def _converse(process: asyncio.subprocess.Process, stdin: bytes) -> bytes:
    assert process.stdin is not None
    assert process.stdout is not None
    with suppress(ConnectionError):  # one that reads nothing may have closed it
        process.stdin.write(stdin)
        await process.stdin.drain()
    process.stdin.close()
    content = bytearray()
    while piece := await process.stdout.read(_OUTPUT_LIMIT):
        content += piece
        if len(content) > _OUTPUT_LIMIT:
            raise ProgramFailed(f"wrote more than {_OUTPUT_LIMIT} B")
    return bytes(content)


async def _end(process: asyncio.subprocess.Process) -> None:
    """The whole group: a shell's child would live on, and hold the pipe open."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        # Shielded: it is dead, and must be reaped also where we are being cancelled.
        await asyncio.shield(process.wait())


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
    if not isinstance(value, str) or "\0" in value:
        raise ValueError("not text")
    return value


def _timestamp(text: str) -> float:
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
