"""A chart of ratios to peers, made by hand as SVG; rsvg-convert makes a PNG of it."""

import math
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from bench.results import CORES, MEDIAN, METRICS, OURS, UPSTREAM, Results

_WIDTH, _LEFT, _RIGHT, _ROW, _TOP = 960, 430, 90, 22, 64
_BETTER, _WORSE = "#2a7f62", "#b5533c"
# Bars end here: a ratio of 40 says no more to the eye than one of 16.
_LARGEST = 16.0
# Neither good nor bad by itself, or said by another bar.
_LEFT_TO_THE_TABLE = frozenset({CORES, MEDIAN, UPSTREAM})


@dataclass(frozen=True, slots=True)
class Bar:
    label: str
    advantage: float  # above 1: better than the peer, whichever way the metric goes


def bars(results: Results) -> list[Bar]:
    found = []
    for (workload, case, name), servers in results.groups().items():
        metric, ours = METRICS[name], servers.get(OURS)
        if ours is None or not ours.median or metric in _LEFT_TO_THE_TABLE:
            continue
        for server, series in servers.items():
            if server.startswith(OURS) or not series.median:
                continue
            ratio = ours.median / series.median
            advantage = ratio if metric.is_better_when_higher else 1 / ratio
            found.append(Bar(f"{workload} {case}, {name}: {server}", advantage))
    return found


def svg(all_bars: list[Bar]) -> str:
    """Logarithmic: twice as good is as long as half as good."""
    height = _TOP + _ROW * len(all_bars) + 30
    lines = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}"'
            f' viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" font-size="12">'
        ),
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        '<text x="16" y="24" font-size="16" font-weight="bold">entrepot beside its peers</text>',
        (
            '<text x="16" y="44" fill="#555">How many times better than the peer named:'
            " right of the line better, left of it worse; medians of one run</text>"
        ),
        *_grid(height),
    ]
    for number, bar in enumerate(all_bars):
        lines += _bar(bar, _TOP + _ROW * number)
    return "\n".join([*lines, "</svg>"]) + "\n"


def _x(advantage: float) -> float:
    share = math.log2(min(max(advantage, 1 / _LARGEST), _LARGEST)) / math.log2(_LARGEST)
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    return middle + share * (_WIDTH - _RIGHT - _LEFT) / 2


def _grid(height: int) -> list[str]:
    lines = []
    for power in range(-4, 5):
        x, label = _x(2.0**power), f"{2.0**power:g}"
        colour = "#555" if power == 0 else "#ddd"
        lines += [
            (
                f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP - 4}" y2="{height - 24}"'
                f' stroke="{colour}"/>'
            ),
            f'<text x="{x:.1f}" y="{height - 10}" text-anchor="middle" fill="#555">{label}</text>',
        ]
    return lines


def _bar(bar: Bar, y: int) -> list[str]:
    x, middle = _x(bar.advantage), _x(1)
    colour = _BETTER if bar.advantage >= 1 else _WORSE
    text_y = y + _ROW - 8
    return [
        f'<text x="{_LEFT - 8}" y="{text_y}" text-anchor="end">{escape(bar.label)}</text>',
        (
            f'<rect x="{min(x, middle):.1f}" y="{y + 2}" width="{max(abs(x - middle), 1):.1f}"'
            f' height="{_ROW - 6}" fill="{colour}"/>'
        ),
        f'<text x="{_WIDTH - _RIGHT + 8}" y="{text_y}">{bar.advantage:.2f} x</text>',
    ]


def write(results: Results, svg_file: Path) -> list[Path]:
    """The files that were written: the PNG too, where there is a program for it."""
    svg_file.write_text(svg(bars(results)))
    if shutil.which("rsvg-convert") is None:
        return [svg_file]
    png = svg_file.with_suffix(".png")
    subprocess.run(["rsvg-convert", "-o", str(png), str(svg_file)], check=True)
    return [svg_file, png]
