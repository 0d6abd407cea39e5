"""The operator's command: what is read of it, and that it never outlives its job."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest

from entrepot.local import command as module
from entrepot.local.command import Survey, run, survey
from entrepot.local.failure import JobFailed
from entrepot.oci.digest import Digest
from entrepot.oci.reference import Repository

A, B = Digest.of(b"a"), Digest.of(b"b")
OUTPUT = f"""team/app
team/app: marking manifest {A}\x20
team/app: marking blob {B}

2 blobs marked, 1 blobs and 0 manifests eligible for deletion
blob eligible for deletion: {B}
team/app: layer link eligible for deletion: {B}
"""
ENDED_S = 15.0


def always() -> bool:
    return True


def script(text: str) -> tuple[str, ...]:
    return (sys.executable, "-c", text)


def printing(text: str) -> tuple[str, ...]:
    return script(f"print({text!r})")


# Tells its process, and goes on for ever, deaf to SIGTERM.
STUBBORN = """
import os, pathlib, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path(sys.argv[1]).write_text(str(os.getpid()))
while True:
    time.sleep(0.1)
"""


async def pid_in(file: Path) -> int:
    await wait_until(lambda: file.exists() and bool(file.read_text()))
    return int(await asyncio.to_thread(file.read_text))


async def wait_until(is_so: Callable[[], bool]) -> None:
    def watch() -> None:
        deadline = time.monotonic() + ENDED_S
        while not is_so():
            assert time.monotonic() < deadline
            time.sleep(0.02)

    await asyncio.to_thread(watch)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_what_it_prints_is_read() -> None:
    found = await run(printing(OUTPUT), 10, always)
    assert found == Survey({Repository("team/app"): [A]}, [B], is_whole=True)


async def test_a_survey_asks_for_a_dry_run() -> None:
    text = f"import sys; assert sys.argv[-1] == '--dry-run'; print({OUTPUT!r})"
    assert (await survey(script(text), 10)).garbage == [B]


@pytest.mark.parametrize(
    "command",
    [("sh", "-c", "registry garbage-collect f"), ("docker", "exec", "r", "sh", "-c", "x")],
)
async def test_a_shell_that_would_not_see_the_flag_is_not_run(command: tuple[str, ...]) -> None:
    """It would collect in earnest, with nothing held back."""
    with pytest.raises(JobFailed, match='"\\$@"'):
        await survey(command, 10)


async def test_a_shell_that_passes_it_on_is(tmp_path: Path) -> None:
    (tmp_path / "out").write_text(OUTPUT)
    text = f'test "$1" = --dry-run && cat {tmp_path}/out "${{@:2}}"'
    assert (await survey(("bash", "-c", text.replace('"${@:2}"', '# "$@"'), "sh"), 10)).garbage


async def test_one_that_fails_is_told_with_its_last_words() -> None:
    with pytest.raises(JobFailed, match="status 3, and said: no such file"):
        await run(
            script("import sys; print('no such file', file=sys.stderr); sys.exit(3)"), 9, always
        )


async def test_one_that_prints_something_else_has_failed() -> None:
    with pytest.raises(JobFailed, match="did not print"):
        await run(printing("usage: registry"), 10, always)


async def test_one_that_is_not_there_is_told() -> None:
    with pytest.raises(JobFailed, match=r"\A/none/such cannot be started: No such .*gc\.command"):
        await run(("/none/such",), 10, always)


async def test_one_that_hangs_is_killed(tmp_path: Path) -> None:
    file = tmp_path / "pid"

    async def limited() -> None:
        await run((*script(STUBBORN), str(file)), 3, always)

    with pytest.raises(JobFailed, match=r"stopped after 3 s \(gc.timeout\)"):
        await limited()
    assert not is_alive(int(file.read_text()))


async def test_one_whose_job_is_cancelled_is_killed_first(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(run((*script(STUBBORN), str(file)), 60, always))
        pid = await pid_in(file)
        task.cancel()
    assert not is_alive(pid)


async def test_one_whose_hold_is_not_sure_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PATIENCE_S", 1.0)
    file = tmp_path / "pid"
    with pytest.raises(JobFailed, match="writes may be let in"):
        await run((*script(STUBBORN), str(file)), 60, lambda: False)
    assert not is_alive(int(file.read_text()))


class TestAJobThatIsKilled:
    """By -9, in a process of its own."""

    async def test_takes_its_command_along(self, tmp_path: Path) -> None:
        file = tmp_path / "pid"
        job = await asyncio.create_subprocess_exec(
            *script(
                "import asyncio, sys\n"
                "from entrepot.local.command import run\n"
                "asyncio.run(run(sys.argv[1:], 60, lambda: True))"
            ),
            *script(STUBBORN),
            str(file),
        )
        pid = await pid_in(file)
        began = time.monotonic()
        job.kill()
        await job.wait()
        await wait_until(lambda: not is_alive(pid))
        assert time.monotonic() - began < ENDED_S

    async def test_with_its_guard(self, tmp_path: Path) -> None:
        file = tmp_path / "pid"
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(_failing(run((*script(STUBBORN), str(file)), 60, always)))
            pid = await pid_in(file)
            os.kill(_parent_of(pid), signal.SIGKILL)
            await wait_until(lambda: not is_alive(pid))
            assert "failed with status -9" in await task


async def _failing(work: Coroutine[None, None, object]) -> str:
    try:
        await work
    except JobFailed as error:
        return str(error)
    return ""


def _parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
