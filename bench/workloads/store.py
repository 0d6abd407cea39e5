"""W9: what it costs that much is cached."""

import json
import subprocess
import time
from pathlib import Path

from bench.machine import anonymous_mb
from bench.modules import module_command, module_environment
from bench.results import MEDIAN, MEMORY, OURS, SECONDS, TAIL, WORST, Sheet
from bench.stage import Stage
from bench.targets import START, objects
from bench.workloads.workload import Workload
from tests.support.processes import Seat, dying_with_parent

_FULL, _QUICK = (1_000, 100_000, 1_000_000), (1_000, 20_000, 100_000)


def growing_store(stage: Stage, sheet: Sheet) -> None:
    """Each is new: what was evicted from the one before is not there to be counted."""
    for count in stage.scale.choose(_FULL, _QUICK):
        place = stage.new_directory("store")
        data = place / "data"
        data.mkdir(parents=True)
        figures = _probe(data, count)
        case = objects(count)
        sheet.add(case, OURS, MEDIAN, figures["median_ms"])
        sheet.add(case, OURS, TAIL, figures["tail_ms"])
        sheet.add(f"{case}, evicting", OURS, WORST, figures["evicting_worst_ms"])
        sheet.add(f"{case}, evicting", OURS, SECONDS, figures["evicting_s"])
        for _ in range(stage.scale.rounds):
            began = time.monotonic()
            seat = Seat(prefix=stage.cores.on_server())
            with stage.entrepot(place, OURS, seat) as server:
                sheet.add(f"{case}, {START}", OURS, SECONDS, time.monotonic() - began)
                sheet.add(f"{case}, {START}", OURS, MEMORY, anonymous_mb(server.pid))


def _probe(data: Path, count: int) -> dict[str, float]:
    command = module_command("store_probe", str(data), str(count))
    done = subprocess.run(
        dying_with_parent(command),
        env=module_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert isinstance(figures, dict)
    return figures


STORE = (Workload("W9", "a store of many objects", (), growing_store),)
