"""Line and bar plots as inline SVG: no script, no font, colours from the page's style sheet, same input same bytes."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from common.report.html import Html, join, tag

__all__ = ["Bar", "Line", "Reference", "bars", "grouped_bars", "line_plot", "merged"]

_WIDTH = 860
_COLOURS = 8
_CHARACTER = 7.3  # width of a character of the 12 px labels, rather too much than too little
_LABEL_GAP = 15.0


@dataclass(frozen=True)
class Line:
    """One series. `values` are (x, y). Values that are not finite are left out."""

    label: str
    values: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Reference:
    """A level drawn across the plot, to compare the lines with."""

    label: str
    value: float


@dataclass(frozen=True)
class Bar:
    """One bar. A `strong` bar is the subject of the plot."""

    label: str
    value: float
    strong: bool = False
    written: str | None = None


def merged(lines: Sequence[Line], every: str = "all {}") -> list[Line]:
    """Lines with equal values become one, named after all of them: two on top of each other would show as one."""
    groups: dict[tuple[tuple[float, float], ...], list[str]] = {}
    for line in lines:
        groups.setdefault(line.values, []).append(line.label)
    if len(groups) == 1 and len(lines) > 2:
        return [Line(every.format(len(lines)), lines[0].values)]
    return [Line(", ".join(labels), values) for values, labels in groups.items()]


def _ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers that cover [low, high], about `count` of them."""
    if high - low <= 1e-9 * max(abs(low), abs(high), 1e-9):
        low, high = low - 0.05 * (abs(low) or 1), high + 0.05 * (abs(high) or 1)
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [i * step for i in range(first, last + 1)]


def _text(x: float, y: float, words: str, class_: str = "", anchor: str = "start") -> Html:
    return tag("text", words, x=x, y=y, class_=class_ or None, text_anchor=None if anchor == "start" else anchor)


def _short(words: str, limit: int) -> str:
    return words if len(words) <= limit else words[: limit - 1] + "…"


def _svg(height: float, description: str, *children: Html) -> Html:
    box = f"0 0 {_WIDTH} {height:.0f}"
    return tag("svg", tag("title", description), *children, viewBox=box, role="img", aria_label=description)


def _spread(wanted: list[float], low: float, high: float) -> list[float]:
    """Positions near the wanted ones, in their order, at least a line apart and inside [low, high]."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    placed = list(wanted)
    for before, now in itertools.pairwise(order):
        placed[now] = max(placed[now], placed[before] + _LABEL_GAP)
    ceiling = high
    for now in reversed(order):
        placed[now] = ceiling = min(placed[now], ceiling)
        ceiling -= _LABEL_GAP
    shift = max(0.0, low - min(placed, default=low))
    return [p + shift for p in placed]


def line_plot(
    lines: Sequence[Line],
    description: str,
    x_name: str,
    references: Sequence[Reference] = (),
    from_zero: bool = False,
    decimals: int = 2,
) -> Html:
    """Return a plot of lines over whole numbers, labelled at their right end. It is empty if no value is finite.

    Args:
        lines: Lines with their labels.
        description: Description of the plot for screen readers.
        x_name: Name of the horizontal axis.
        references: Horizontal lines with their labels.
        from_zero: Whether the vertical axis begins at 0.
        decimals: Decimals of the numbers on the vertical axis, or more if they need more.
    """
    lines = [Line(ln.label, tuple(v for v in ln.values if math.isfinite(v[1]))) for ln in lines]
    lines = [ln for ln in lines if ln.values]
    references = [r for r in references if math.isfinite(r.value)]
    if not lines:
        return Html("")
    ys = [y for ln in lines for _, y in ln.values] + [r.value for r in references] + ([0.0] if from_zero else [])
    ticks = _ticks(min(ys), max(ys))
    xs = sorted({x for ln in lines for x, _ in ln.values})
    names = [_short(label, 34) for label in (*(ln.label for ln in lines), *(r.label for r in references))]
    left, right, top = 52.0, _WIDTH - 24 - _CHARACTER * max(map(len, names)), 12.0
    bottom = top + max(210.0, _LABEL_GAP * len(names))

    def at_x(x: float) -> float:
        return left + 14 + (right - left - 28) * ((x - xs[0]) / (xs[-1] - xs[0]) if xs[-1] > xs[0] else 0.5)

    def at_y(y: float) -> float:
        return bottom - (bottom - top) * (y - ticks[0]) / (ticks[-1] - ticks[0])

    # The axis must tell its ticks apart, however close they lie.
    decimals = next(
        (d for d in range(decimals, 10) if all(math.isclose(round(t, d), t, abs_tol=1e-11) for t in ticks)), 10
    )
    marks = [
        join(
            tag("line", x1=left, x2=right, y1=at_y(t), y2=at_y(t), class_="grid"),
            _text(left - 8, at_y(t) + 4, f"{t:.{decimals}f}", "tick", "end"),
        )
        for t in ticks
    ]
    every = max(1, math.ceil(len(xs) / 16))
    marks += [_text(at_x(x), bottom + 20, f"{x:g}", "tick", "middle") for x in xs[::every]]
    marks.append(_text((left + right) / 2, bottom + 40, x_name, "axis", "middle"))
    ends = [at_y(ln.values[-1][1]) for ln in lines] + [at_y(r.value) for r in references]
    places = _spread(ends, top + 4, bottom)
    drawn = [_reference(left, right, at_y(r.value)) for r in references]
    for index, line in enumerate(lines):
        drawn.append(_line([(at_x(x), at_y(y)) for x, y in line.values], line, index))
    for index, (name, place, end) in enumerate(zip(names, places, ends, strict=True)):
        lead = right - 14 if index < len(lines) else right
        colour = f"s{index % _COLOURS}" if index < len(lines) else "reference"
        drawn.append(tag("path", d=f"M{lead + 5:.1f} {end:.1f}L{right + 8:.1f} {place:.1f}", class_=f"lead {colour}"))
        drawn.append(_text(right + 12, place + 4, name, "end" if index < len(lines) else "end faint"))
    return _svg(bottom + 48, description, *marks, *drawn)


def _reference(left: float, right: float, y: float) -> Html:
    return tag("line", x1=left, x2=right, y1=y, y2=y, class_="reference")


def _line(points: list[tuple[float, float]], line: Line, index: int) -> Html:
    colour = f"s{index % _COLOURS}"
    # Beyond the colours there are dashes, and each point carries its numbers for readers who see no difference.
    dash = "6 3" if (index // _COLOURS) % 2 else None
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = [
        tag("circle", tag("title", f"{line.label}, {x:g}: {y:.4g}"), cx=px, cy=py, r=3, class_=colour)
        for (px, py), (x, y) in zip(points, line.values, strict=True)
    ]
    return join(tag("polyline", points=path, class_=f"line {colour}", stroke_dasharray=dash), *dots)


def bars(rows: Sequence[Bar], description: str) -> Html:
    """Return horizontal bars from zero, for values of 0 to 1. The markup is empty if there are none."""
    return grouped_bars([(row.label, [row]) for row in rows], (), description)


def grouped_bars(groups: Sequence[tuple[str, Sequence[Bar]]], legend: Sequence[str], description: str) -> Html:
    """Return groups of horizontal bars from zero, for values of 0 to 1.

    Args:
        groups: Name and bars of each group. The n-th bar of each group has the n-th colour.
        legend: Names of the colours.
        description: Description of the plot for screen readers.
    """
    groups = [(name, [b for b in group if math.isfinite(b.value)]) for name, group in groups]
    groups = [(name, group) for name, group in groups if group]
    if not groups:
        return Html("")
    names = [_short(name, 40) for name, _ in groups]
    left, right = 16 + _CHARACTER * max(map(len, names)), _WIDTH - 56.0
    thick, gap = (18.0, 8.0) if max(len(group) for _, group in groups) == 1 else (14.0, 14.0)
    y = 28.0 if legend else 8.0
    drawn: list[Html] = []
    x = left
    for index, name in enumerate(legend):
        drawn.append(tag("rect", x=x, y=4, width=12, height=12, class_=f"bar s{index}"))
        drawn.append(_text(x + 18, 14, name, "end"))
        x += 42 + _CHARACTER * len(name)
    start = y
    for name, (_, group) in zip(names, groups, strict=True):
        drawn.append(_text(left - 10, y + thick * len(group) / 2 + 4, name, "strong" if group[0].strong else "", "end"))
        for index, bar in enumerate(group):
            width = max(1.0, (right - left) * min(1.0, max(0.0, bar.value)))
            colour = f"s{index}" if legend else ("s0" if bar.strong else "plain")
            hint = tag("title", f"{bar.label}: {bar.value:.4f}")
            drawn.append(tag("rect", hint, x=left, y=y, width=width, height=thick - 1, class_=f"bar {colour}"))
            drawn.append(_text(left + width + 6, y + thick / 2 + 4, bar.written or f"{bar.value:.3f}", "tick"))
            y += thick
        y += gap
    grid = [
        join(
            tag("line", x1=at, x2=at, y1=start - 4, y2=y - gap + 4, class_="grid"),
            _text(at, y + 8, f"{tick:.2f}", "tick", "middle"),
        )
        for tick in (0, 0.25, 0.5, 0.75, 1.0)
        for at in [left + (right - left) * tick]
    ]
    return _svg(y + 16, description, *grid, *drawn)
