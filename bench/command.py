"""The command line: which workloads, how often, and what becomes of the figures."""

import argparse
import json
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from bench import chart, document, machine, tables, tools
from bench.results import Results, Sheet
from bench.stage import Scale, Stage
from bench.targets import verdicts
from bench.workloads.catalogue import WORKLOADS
from bench.workloads.workload import Workload

_ROUNDS, _QUICK_ROUNDS = 3, 1
_NEEDED = ("curl", "openssl", "taskset")
_DOCUMENT = Path(__file__).parents[1] / "docs" / "performance.md"
_CHART = _DOCUMENT.parent / "images" / "performance.svg"


def main(arguments: Sequence[str]) -> int:
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _end)
    tools.extend_path()
    chosen = [WORKLOADS[name] for name in options.workloads or WORKLOADS]
    rounds = options.rounds or (_QUICK_ROUNDS if options.quick else _ROUNDS)
    results, setting = Results(), machine.description()
    possible = _provided(chosen, results, may_install=options.install)
    failed = _run(possible, Scale(rounds, is_quick=options.quick), results, options.directory)
    setting += f"; medians of {rounds} rounds{', small sizes' if options.quick else ''}"
    _publish(results, setting, options)
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    workloads = "\n".join(f"  {each.name:7} {each.title}" for each in WORKLOADS.values())
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Entrepot beside its peers, on one machine and its loopback.",
        epilog=f"workloads:\n{workloads}\n\npushes, with more options: python -m bench.push --help",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("workloads", nargs="*", metavar="WORKLOAD", help="which; default: all", choices=WORKLOADS)
    add("--rounds", type=int, default=0, help=f"default: {_ROUNDS}, with --quick {_QUICK_ROUNDS}")
    add("--quick", action="store_true", help="small sizes: some minutes, and no figures to keep")
    add("--directory", type=Path, help="where caches lie; default: the system's for what is brief")
    add("--json", type=Path, metavar="FILE", help="write every value there")
    add("--chart", type=Path, metavar="FILE.svg", help="draw ratios there, as PNG beside it too")
    add("--document", action="store_true", help="put the figures into docs/performance.md")
    add(
        "--no-install",
        dest="install",
        action="store_false",
        help="leave out what needs programs that are missing, also when root could install them",
    )
    return parser


def _end(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001 - a handler's arguments
    """As Ctrl-C ends it: by an exception, so that what was started is stopped."""
    sys.exit(128 + number)


def _provided(chosen: Iterable[Workload], results: Results, *, may_install: bool) -> list[Workload]:
    """Those whose programs are there, after what can be installed was."""
    chosen = list(chosen)
    lacking = tools.missing([*_NEEDED, *(name for each in chosen for name in each.programs)])
    if lacking and may_install and tools.can_install():
        packages = tools.packages_of(lacking)
        print(f"installing {' '.join(packages)}", flush=True)
        tools.install(packages)
        lacking = tools.missing(lacking)
    if lacking:
        wanted = f"apt-get install {' '.join(tools.packages_of(lacking))}"
        print(f"missing: {', '.join(lacking)}. On Debian: {wanted}", flush=True)
    if set(lacking) & set(_NEEDED):
        sys.exit("nothing can be measured without")
    for each in chosen:
        if absent := sorted(set(each.programs) & set(lacking)):
            results.notes.append(f"{each.name} was left out: no {', '.join(absent)}")
    return [each for each in chosen if not set(each.programs) & set(lacking)]


def _run(
    workloads: Sequence[Workload], scale: Scale, results: Results, directory: Path | None
) -> bool:
    """Whether any failed; what the others measured is kept."""
    has_failed = False
    for workload in workloads:
        print(f"{workload.name}: {workload.title}", flush=True)
        began = time.monotonic()
        try:
            with (
                tempfile.TemporaryDirectory(prefix="entrepot-bench-", dir=directory) as place,
                Stage(Path(place), machine.Cores.of_this_machine(), scale) as stage,
            ):
                workload.run(stage, Sheet(results, workload.name))
        except Exception as error:  # noqa: BLE001 - hours of other figures are not to be lost for it
            traceback.print_exc()
            results.notes.append(f"{workload.name} failed: {type(error).__name__}: {error}"[:300])
            has_failed = True
        print(f"{workload.name}: {time.monotonic() - began:.0f} s", flush=True)
    return has_failed


def _publish(results: Results, setting: str, options: argparse.Namespace) -> None:
    judged = verdicts(results)
    print(f"\n{setting}\n\n{tables.text(results, judged)}")
    if options.json:
        targets = [
            {
                "workload": each.target.workload,
                "target": each.target.says,
                "value": each.value,
                "result": each.word,
            }
            for each in judged
        ]
        held = {"machine": setting, "values": results.rows(), "targets": targets}
        options.json.write_text(json.dumps(held | {"notes": results.notes}, indent=1) + "\n")
    if options.chart:
        print("chart:", *chart.write(results, options.chart))
    if options.document:
        print("chart:", *chart.write(results, _CHART))
        shown = f"![Entrepot beside its peers](images/{_CHART.name})"
        measured = f"{setting}.\n\n{tables.markdown(results, judged)}\n\n{shown}"
        _DOCUMENT.write_text(document.filled(_DOCUMENT.read_text(), measured))
