"""A plot as SVG: lines over a logarithmic axis, each a panel of its own, for their units differ."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

WIDTH, HEIGHT, MARGIN = 220, 180, 42


@dataclass(frozen=True)
class Line:
    """What is shown of one figure."""

    name: str
    values: list[float]
    digits: int


@dataclass(frozen=True)
class Chart:
    """Figures over what they grow with."""

    across: str
    xs: list[int]
    lines: list[Line]


def write(path: Path, chart: Chart) -> None:
    """Write the chart: both axes logarithmic, so that what grows in proportion is a line at 45 degrees."""
    width = len(chart.lines) * (WIDTH + MARGIN)
    panels = "\n".join(
        f'<g transform="translate({number * (WIDTH + MARGIN)}, 0)">{_panel(chart, line)}</g>'
        for number, line in enumerate(chart.lines)
    )
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT + 2 * MARGIN}" '
        f'font-family="sans-serif" font-size="11" fill="#444">\n{panels}\n</svg>\n',
        "utf-8",
    )


def _panel(chart: Chart, line: Line) -> str:
    xs = _scale([float(x) for x in chart.xs], MARGIN + 12, WIDTH)
    ys = _scale(line.values, HEIGHT + MARGIN - 14, MARGIN + 14)
    points = list(zip(xs, ys, strict=True))
    parts = [
        f'<text x="{MARGIN}" y="22" font-weight="bold">{line.name}</text>',
        f'<path d="M{MARGIN} {MARGIN}V{HEIGHT + MARGIN}H{WIDTH + 16}" fill="none" stroke="#999"/>',
        f'<text x="{(MARGIN + WIDTH) / 2}" y="{HEIGHT + MARGIN + 32}" text-anchor="middle">{chart.across}</text>',
        f'<path d="M{" L".join(f"{x:.1f} {y:.1f}" for x, y in points)}" fill="none" stroke="#06c" stroke-width="2"/>',
    ]
    for (x, y), at, value in zip(points, chart.xs, line.values, strict=True):
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="#06c"/>')
        parts.append(f'<text x="{x:.1f}" y="{y - 7:.1f}" text-anchor="middle">{value:,.{line.digits}f}</text>')
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT + MARGIN + 15}" text-anchor="middle">{_short(at)}</text>')
    return "".join(parts)


def _scale(values: list[float], begin: float, end: float) -> list[float]:
    """Return places between two ends, for values on a logarithmic axis that covers at least a factor of ten."""
    logs = [math.log10(max(value, 1e-6)) for value in values]
    low, spread = min(logs), max(max(logs) - min(logs), 1.0)
    return [begin + (end - begin) * (log - low) / spread for log in logs]


def _short(number: int) -> str:
    """Return a number as an axis has room for it."""
    for size, letter in ((1_000_000, "M"), (1_000, "k")):
        if number >= size:
            return f"{number / size:g}{letter}"
    return str(number)
