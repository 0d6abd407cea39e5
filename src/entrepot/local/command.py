"""The registry's own collection, run as the operator says, and what it tells on its way."""

import asyncio
import re
import sys
from asyncio.subprocess import PIPE, Process
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import PurePath

from entrepot.errors import InvalidReference
from entrepot.local.failure import JobFailed
from entrepot.local.guard import KILLED, NOT_STARTED
from entrepot.oci.digest import Digest
from entrepot.oci.reference import Repository, parse_repository

DRY_RUN = "--dry-run"
# A guard that hears nothing for this long kills: see `hold` for the sum.
_PATIENCE_S = 10.0
_BEAT_S = 1.0
_LINE_MAX = 1 << 20
_LAST_WORDS = 5
_SHELLS = frozenset({"sh", "bash", "dash", "ash", "zsh", "ksh"})

_WHAT_IS_NEEDED = (
    "gc.command starts the registry's own program, which has to be on this machine; Debian calls it"
    " docker-registry"
)

# As distribution prints it, 2.x and 3.x alike; a manifest's line ends in a space.
_MARKED = re.compile(r"(?P<repository>\S+): marking manifest (?P<digest>\S+) *\Z")
_GARBAGE = re.compile(r"blob eligible for deletion: (?P<digest>\S+) *\Z")
_REPOSITORY = re.compile(r"[a-z0-9][a-z0-9._/-]*\Z")  # alone in its line
_SUM = re.compile(r"[0-9]+ blobs marked, ")


@dataclass(slots=True)
class Survey:
    """What the collection found: all manifests by repository, and blobs that none of them needs."""

    manifests: dict[Repository, list[Digest]] = field(default_factory=dict)
    garbage: list[Digest] = field(default_factory=list)
    is_whole: bool = False

    def read(self, line: str) -> None:
        with suppress(InvalidReference):  # a digest by another algorithm is none of ours
            if match := _GARBAGE.match(line):
                self.garbage.append(Digest.parse(match["digest"]))
            elif match := _MARKED.match(line):
                repository = parse_repository(match["repository"])
                digest = Digest.parse(match["digest"])
                self.manifests.setdefault(repository, []).append(digest)
            elif _SUM.match(line):
                self.is_whole = True
            elif _REPOSITORY.match(line):
                self.manifests.setdefault(parse_repository(line), [])


async def survey(command: Sequence[str], timeout_s: float) -> Survey:
    """What would go. Nothing is changed, if the command passes its arguments on."""
    script = _script_of(command)
    if script is not None and '"$@"' not in script:
        raise JobFailed(
            f'gc.command runs a shell that would not see {DRY_RUN}: end its script in "$@" and'
            " add sh behind it, as in [sh, -c, 'registry garbage-collect FILE \"$@\"', sh]"
        )
    return await run([*command, DRY_RUN], timeout_s, may_go_on=lambda: True)


async def run(
    command: Sequence[str],
    timeout_s: float,
    may_go_on: Callable[[], bool],
    found: Survey | None = None,
) -> Survey:
    """Until it has ended, or may not go on; in no case does it outlive this call. What it says is
    put into `found` as it comes, so that it is known also of one that fails.
    """
    found, words = found or Survey(), deque[str](maxlen=_LAST_WORDS)
    async with _guarded(command) as process:
        try:
            async with asyncio.timeout(timeout_s), asyncio.TaskGroup() as tasks:
                beating = tasks.create_task(_beat(process, may_go_on))
                tasks.create_task(_each_line(process.stdout, found.read))
                tasks.create_task(_each_line(process.stderr, words.append))
                status = await process.wait()
                beating.cancel()
        except TimeoutError:
            raise JobFailed(
                f"{command[0]} was stopped after {timeout_s:g} s (gc.timeout)"
            ) from None
    if status == KILLED and not may_go_on():
        raise JobFailed(f"{command[0]} was stopped, as writes may be let in again")
    said = " | ".join(words) or "nothing"
    if status == NOT_STARTED and said.startswith(f"{command[0]} "):
        raise JobFailed(f"{said}. {_WHAT_IS_NEEDED}")
    if status:
        raise JobFailed(f"{command[0]} failed with status {status}, and said: {said}")
    if not found.is_whole:
        raise JobFailed(
            f"{command[0]} did not print what `registry garbage-collect` prints: is gc.command"
            " right, and its output not thrown away?"
        )
    return found


@asynccontextmanager
async def _guarded(command: Sequence[str]) -> AsyncIterator[Process]:
    """In a session of its own, so that Ctrl-C at a terminal reaches the job alone, which ends it in
    order.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "entrepot.local.guard", str(_PATIENCE_S), *command,
        stdin=PIPE, stdout=PIPE, stderr=PIPE, start_new_session=True, limit=_LINE_MAX,
    )  # fmt: skip
    try:
        yield process
    finally:
        await asyncio.shield(_ended(process))


async def _ended(process: Process) -> None:
    """The guard kills when its stdin ends. Waited for: writes come back after this."""
    assert process.stdin is not None
    process.stdin.close()
    with suppress(TimeoutError):  # a pipe may be held open by what has left its session
        async with asyncio.timeout(_PATIENCE_S), asyncio.TaskGroup() as tasks:
            # One that is full would keep the command from ending.
            for stream in (process.stdout, process.stderr):
                tasks.create_task(_each_line(stream, lambda _: None))
            await process.wait()


async def _beat(process: Process, may_go_on: Callable[[], bool]) -> None:
    assert process.stdin is not None
    while True:
        if may_go_on():
            with suppress(ConnectionError):
                process.stdin.write(b".")
                await process.stdin.drain()
        await asyncio.sleep(_BEAT_S)


async def _each_line(stream: asyncio.StreamReader | None, take: Callable[[str], None]) -> None:
    assert stream is not None
    with suppress(ValueError):  # a line without end: nothing that could be read
        while line := await stream.readline():
            take(line.decode(errors="replace").rstrip("\n"))


def _script_of(command: Sequence[str]) -> str | None:
    names = [PurePath(word).name for word in command]
    for number, name in enumerate(names):
        if name in _SHELLS and "-c" in command[number + 1 : number + 3]:
            return " ".join(command[command.index("-c", number) + 1 :])
    return None
