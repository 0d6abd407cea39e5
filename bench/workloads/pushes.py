"""A push, beside the same one straight to the registry: what `python -m bench push` measures."""

import json
import os
import signal
import subprocess

from bench.modules import module_command, module_environment
from bench.results import OURS, RATE, Sheet
from bench.stage import Stage
from bench.targets import DIRECT
from bench.workloads.workload import Workload
from tests.support.processes import dying_with_parent

_NAMES = {"keeping": OURS, "passing": "entrepot, not keeping", "direct": DIRECT}


def push(stage: Stage, sheet: Sheet) -> None:
    file = stage.directory / "push.json"
    command = module_command("push", "--json", str(file), "--clients", "curl")
    command += ["--rounds", str(stage.scale.rounds), "--mib", str(stage.scale.choose(1024, 128))]
    with subprocess.Popen(
        dying_with_parent(command), env=module_environment(), stdout=subprocess.DEVNULL
    ) as process:
        try:
            status = process.wait()
        finally:
            # As Ctrl-C would: it stops what it has started.
            if process.poll() is None:
                os.kill(process.pid, signal.SIGINT)
                process.wait()
    if status:
        raise ChildProcessError(f"python -m bench push ended with {status}")
    for case, ways in json.loads(file.read_text()).items():
        for way, values in ways.items():
            for value in (values["low"], values["mb_s"], values["high"]):
                sheet.add(case, _NAMES[way], RATE, value)


PUSHES = (Workload("push", "a layer that is pushed", ("curl", "docker-registry"), push),)
