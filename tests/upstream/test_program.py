import asyncio
import os
from pathlib import Path

import pytest

from entrepot.upstream.program import Output, ProgramFailed, parse_output, run_program
from tests.upstream.bench import SECRET


def shell(text: str) -> tuple[str, ...]:
    return ("/bin/sh", "-c", text)


async def failure_of(argv: tuple[str, ...], **options: float) -> str:
    with pytest.raises(ProgramFailed) as caught:
        await run_program(argv, b"", **options)
    assert SECRET not in str(caught.value)
    return str(caught.value)


async def test_a_program_gives_credentials() -> None:
    found = await run_program(
        shell("""printf '{"Username":"u","Secret":"%s"}' "$(cat)" """), SECRET.encode()
    )
    assert found == Output("u", SECRET)
    assert SECRET not in repr(found)


async def test_a_program_need_not_read_what_it_is_given() -> None:
    argv = shell("""exec <&-; echo '{"Username":"u","Secret":"s"}'""")
    assert (await run_program(argv, b"x" * 200_000)).username == "u"


async def test_a_program_that_is_not_there() -> None:
    assert "cannot be started: No such file" in await failure_of(("/nonexistent",))


async def test_a_program_that_fails_is_not_quoted() -> None:
    assert await failure_of(shell(f"echo {SECRET}; echo {SECRET} >&2; exit 7")) == "exit status 7"


async def test_a_program_that_writes_without_end_is_ended() -> None:
    assert "wrote more than" in await failure_of(shell(f"yes {SECRET}"))


async def test_a_program_that_hangs_is_ended_with_all_it_started(tmp_path: Path) -> None:
    marker = tmp_path / "child"
    argv = shell(f"sleep 1000 & echo $! > {marker}; wait")
    assert "did not end" in await failure_of(argv, timeout_s=0.3)
    assert await _is_gone(int(marker.read_text()))


async def test_a_program_ends_when_nobody_waits_for_it(tmp_path: Path) -> None:
    fifo = tmp_path / "started"
    os.mkfifo(fifo)
    task = asyncio.Task(run_program(shell(f"echo $$ > {fifo}; exec sleep 1000"), b""))
    pid = int(await asyncio.to_thread(fifo.read_text))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await _is_gone(pid)


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


async def _is_gone(pid: int) -> bool:
    """Or a zombie that init, if there is one here, has not yet reaped."""
    for _ in range(1000):
        try:
            state = _state(pid)
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state in "ZX":
            return True
        await asyncio.sleep(0)
    return False


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"no",
        b"credentials not found in native keychain",
        b'{"Username":"u"}',
        b'{"Username":"u","Secret":1}',
        b'{"Username":"u","Secret":""}',
        b'{"Username":"u","Secret":"a\\u0000b"}',
        b'{"Username":"u","Secret":"s","ExpiresAt":"soon"}',
        b'{"Username":"u","Secret":"s","ExpiresIn":"x"}',
        b"\xff",
    ],
)
def test_what_is_no_credential_is_refused_without_showing_it(content: bytes) -> None:
    with pytest.raises(ProgramFailed, match="expected") as caught:
        parse_output(content)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ("", Output("u", "s")),
        (',"ServerURL":"x"', Output("u", "s")),
        (',"ExpiresIn":90', Output("u", "s", life_s=90.0)),
        (',"ExpiresAt":"2023-11-14T22:15:00Z"', Output("u", "s", expires_at=1_700_000_100.0)),
        (',"ExpiresAt":"2023-11-14T23:15:00+01:00"', Output("u", "s", expires_at=1_700_000_100.0)),
        (',"ExpiresAt":"2023-11-14T22:15:00"', Output("u", "s", expires_at=1_700_000_100.0)),
        (
            ',"ExpiresAt":"2023-11-14T22:15:00.123456789Z"',
            Output("u", "s", expires_at=1_700_000_100.123456),
        ),
        (',"ExpiresAt":""', Output("u", "s")),
    ],
)
def test_expiry_is_told_as_a_moment_or_a_span(more: str, expected: Output) -> None:
    assert parse_output(f'{{"Username":"u","Secret":"s"{more}}}'.encode()) == expected
