"""Charts as SVG, drawn from numbers: bars beside each other, and lines over a growing number.

The background is the page's.  Colours change with the reader's scheme, light or dark, and tell each other apart by
brightness too.
"""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

TIMES = "\u00d7"
WIDTH = 720
LEFT, RIGHT, TOP = 150, 90, 40
ROW, GAP, WORD = 20, 14, 44
PLOT = 240
STYLE = """\
<style>
text { font: 12px system-ui, sans-serif; fill: #1f2328 }
.title { font-weight: 600; font-size: 14px }
.quiet { fill: #59636e }
.axis { stroke: #59636e; fill: none }
.grid { stroke: #d1d9e0; fill: none }
.one { stroke: #59636e; stroke-dasharray: 4 3; fill: none }
.spread { stroke: #1f2328; stroke-width: 1.5; fill: none }
.c0 { fill: #4493f8; stroke: #4493f8 } .c1 { fill: #bc4c00; stroke: #bc4c00 }
.line { fill: none; stroke-width: 2 }
@media (prefers-color-scheme: dark) {
text { fill: #f0f6fc } .quiet { fill: #9198a1 } .axis, .one { stroke: #9198a1 } .grid { stroke: #3d444d }
.spread { stroke: #f0f6fc } .c0 { fill: #388bfd; stroke: #388bfd } .c1 { fill: #f0883e; stroke: #f0883e }
.line { fill: none }
}
</style>"""


class Bar(NamedTuple):
    """One value with its spread."""

    label: str
    value: float
    least: float
    most: float


class Line(NamedTuple):
    """Points in ascending order of x."""

    label: str
    points: Sequence[tuple[float, float]]


def bars(title: str, groups: Sequence[tuple[str, Sequence[Bar]]]) -> str:
    """Draw horizontal bars in groups, with whiskers from least to most, and a line at 1."""
    end = max([1.0, *(bar.most for _, group in groups for bar in group)]) * 1.02
    height = TOP + sum(ROW + GAP + ROW * len(group) for _, group in groups) + ROW

    def x(value: float) -> float:
        return LEFT + value / end * (WIDTH - LEFT - RIGHT)

    parts, y = [_path("one", [(x(1), TOP), (x(1), height - ROW)])], TOP
    for name, group in groups:
        parts.append(_text(8, y + ROW - 6, name, "title"))
        y += ROW
        for bar in group:
            middle, behind = y + ROW / 2, x(bar.most) + 6
            if behind - 6 < x(1) < behind + WORD:
                behind = x(1) + 6  # the line would go through the number
            parts += [
                _text(LEFT - 8, middle + 4, bar.label, anchor="end"),
                f'<rect class="c0" x="{LEFT}" y="{y + 3}" width="{x(bar.value) - LEFT:.1f}" height="{ROW - 6}"/>',
                _path("spread", [(x(bar.least), middle), (x(bar.most), middle)]),
                _text(behind, middle + 4, f"{bar.value:.2f} {TIMES}", "quiet"),
            ]
            y += ROW
        y += GAP
    parts.append(_text(x(1), height - 4, f"1 {TIMES}: as fast", "quiet", anchor="middle"))
    return _document(title, height, parts)


def lines(title: str, series: Sequence[Line], *, across: str, up: str, log_y: bool) -> str:
    """Draw lines over a logarithmic x, with a point at each value; y is logarithmic too, or begins at 0."""
    every = [point for line in series for point in line.points]
    first, last = (decade(f(math.log10(x) for x, _ in every), up=up) for f, up in ((min, False), (max, True)))
    if log_y:
        low, high = (decade(f(math.log10(y) for _, y in every), up=up) for f, up in ((min, False), (max, True)))
        marks = [10.0**power for power in range(low, high + 1)]
    else:
        marks = steps(max(y for _, y in every))
        low, high = 0, 1
    bottom = TOP + PLOT

    def place(point: tuple[float, float]) -> tuple[float, float]:
        part = (math.log10(point[1]) - low) / (high - low) if log_y else point[1] / marks[-1]
        along = (math.log10(point[0]) - first) / (last - first)
        return LEFT + along * (WIDTH - LEFT - RIGHT), bottom - part * PLOT

    parts = []
    for mark in marks:
        _, y = place((10.0**first, mark))
        parts += [_path("grid", [(LEFT, y), (WIDTH - RIGHT, y)]), _text(LEFT - 8, y + 4, f"{mark:g}", "quiet", "end")]
    for power in range(first, last + 1):
        x, _ = place((10.0**power, marks[-1]))
        parts += [
            _path("grid", [(x, TOP), (x, bottom)]),
            _text(x, bottom + 16, f"{10**power:,}", "quiet", "middle"),
        ]
    parts += [_path("axis", [(LEFT, TOP), (LEFT, bottom), (WIDTH - RIGHT, bottom)]), _text(8, TOP + 4, up, "quiet")]
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, bottom + 34, across, "quiet", "middle"))
    for number, line in enumerate(series):
        at = [place(point) for point in line.points]
        parts.append(_path(f"line c{number}", at))
        parts += [f'<circle class="c{number}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in at]
        parts.append(_text(at[-1][0] + 8, at[-1][1] + 4, line.label))
    return _document(title, bottom + 44, parts)


def decade(power: float, *, up: bool) -> int:
    """Give the whole power of ten at or beyond one."""
    return math.ceil(power - 1e-9) if up else math.floor(power + 1e-9)


def steps(most: float) -> list[float]:
    """Give round marks from 0 to beyond a number, five or so."""
    unit = 10.0 ** math.floor(math.log10(most))
    step = next(unit * part for part in (0.2, 0.5, 1, 2) if most <= unit * part * 5.001)
    return [step * number for number in range(math.ceil(most / step - 1e-9) + 1)]


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    kind = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{kind}>{escape(text)}</text>'


def _path(kind: str, points: Sequence[tuple[float, float]]) -> str:
    return f'<polyline class="{kind}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}"/>'


def _document(title: str, height: float, parts: Sequence[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" role="img">'
    return "\n".join(
        [head, f"<title>{escape(title)}</title>", STYLE, _text(8, 20, title, "title"), *parts, "</svg>", ""]
    )
