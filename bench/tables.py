"""Results as text for a terminal and as Markdown."""

from collections.abc import Iterable, Sequence
from itertools import pairwise

from bench.results import OURS, Results, Series
from bench.targets import Verdict

_HEADINGS = ("", "metric", "server", "median", "min - max", f"{OURS} / it")
_TARGET_HEADINGS = ("", "target", "value", "")
_RIGHT = {3, 4, 5}


def rows(results: Results) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for (workload, case, metric), servers in results.groups().items():
        for server, series in servers.items():
            found.append(
                (
                    f"{workload} {case}",
                    metric,
                    server,
                    number(series.median),
                    f"{number(series.low)} - {number(series.high)}",
                    _ratio(servers.get(OURS), server, series),
                )
            )
    return found


def _ratio(ours: Series | None, server: str, series: Series) -> str:
    if ours is None or server == OURS or not series.median:
        return ""
    return f"{ours.median / series.median:.2f}"


def target_rows(verdicts: Iterable[Verdict]) -> list[tuple[str, ...]]:
    return [
        (
            verdict.target.workload,
            verdict.target.says,
            "" if verdict.value is None else number(verdict.value),
            verdict.word,
        )
        for verdict in verdicts
    ]


def text(results: Results, verdicts: Sequence[Verdict]) -> str:
    parts = [_columns(_HEADINGS, _without_repetition(rows(results)), _RIGHT)]
    parts.append(_columns(_TARGET_HEADINGS, target_rows(verdicts), {2}))
    parts.append("\n".join(results.notes))
    return "\n\n".join(part for part in parts if part)


def markdown(results: Results, verdicts: Sequence[Verdict]) -> str:
    headings = ("what", *_HEADINGS[1:])
    parts = [_markdown(("", *_TARGET_HEADINGS[1:3], "result"), target_rows(verdicts), {2})]
    parts.append(_markdown(headings, _without_repetition(rows(results)), _RIGHT))
    parts += [f"- {note}" for note in results.notes]
    return "\n\n".join(parts[:2]) + ("\n\n" + "\n".join(parts[2:]) if parts[2:] else "")


def number(value: float) -> str:
    """Three digits that count, or all before the point."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _without_repetition(all_rows: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """The first two columns are left out where they are as in the row before."""
    found = list(all_rows[:1])
    for before, row in pairwise(all_rows):
        if row[:2] == before[:2]:
            found.append(("", "", *row[2:]))
        elif row[0] == before[0]:
            found.append(("", *row[1:]))
        else:
            found.append(row)
    return found


def _columns(headings: tuple[str, ...], body: list[tuple[str, ...]], right: set[int]) -> str:
    if not body:
        return ""
    widths = [max(len(row[column]) for row in (headings, *body)) for column in range(len(headings))]
    lines = []
    for row in (headings, *body):
        cells = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _markdown(headings: tuple[str, ...], body: list[tuple[str, ...]], right: set[int]) -> str:
    rule = tuple("---:" if column in right else "---" for column in range(len(headings)))
    return "\n".join("| " + " | ".join(row) + " |" for row in (headings, rule, *body))
