"""Charts as SVG that takes its colors from the page."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

from markupsafe import Markup, escape

from nnlo.training.plots.marks import FEW_POINTS, WIDE_RANGE
from nnlo.training.plots.series import EPOCHS, Axis, Curve
from nnlo.training.report.scale import Scale, padded

WIDTH, HEIGHT = 480, 230
LEFT, RIGHT, TOP, BOTTOM = 50, 470, 10, 196
"""Where the axes end, in pixels."""

MANY_BARS = 100
"""More values than that share bars."""


def lines(
    curves: Sequence[tuple[Curve, str]],
    title: str,
    zero: bool = False,
    axis: Axis = EPOCHS,
    edges: tuple[Curve, Curve] | None = None,
) -> Markup:
    """Curves, each with its CSS class, and the area between two `edges`; nothing where nothing is known.

    title: for those who listen.
    """
    everything = [*(edges or ()), *(curve for curve, _ in curves)]
    if not any(curve.known for curve in everything):
        return Markup()
    across, up = scales(everything, zero, axis)
    drawn = [area(edges[0], edges[1], across, up)] if edges else []
    drawn += [line(curve, kind, across, up, axis.title) for curve, kind in curves]
    return svg(title, [*axes(across, up, whole=axis == EPOCHS), axis_title(axis.title), *drawn])


def scales(curves: Sequence[Curve], zero: bool, axis: Axis) -> tuple[Scale, Scale]:
    """Both axes, with room for all that these curves hold; values of a wide range stand on a logarithmic one."""
    values = [value for curve in curves for value in curve.known]
    wide = not zero and 0 < min(values) < max(values) / WIDE_RANGE
    low, high = (min(values) / 1.1, min(max(values) * 1.1, sys.float_info.max)) if wide else padded(values, zero)
    places = [place for curve in curves for place in curve.places]
    first, last = min(places) if axis == EPOCHS else 0.0, max(places)
    margin = max(0.3 if axis == EPOCHS else 0.0, 0.02 * (last - first)) or 1.0
    return Scale(first - margin, last + margin, LEFT, RIGHT), Scale(low, high, BOTTOM, TOP, wide)


def area(low: Curve, high: Curve, across: Scale, up: Scale) -> Markup:
    """What lies between two curves over the same places."""
    points = [*zip(low.places, low.values, strict=True), *reversed(list(zip(high.places, high.values, strict=True)))]
    path = "L".join(f"{across(place):.1f} {up(value):.1f}" for place, value in points)
    return Markup('<path class="band" d="M{}Z"/>').format(path)


def bars(counts: Sequence[int], title: str, axis: str) -> Markup:
    """How often each whole number from 0 came; of many, several share a bar."""
    width = math.ceil(len(counts) / MANY_BARS) or 1
    heights = [sum(counts[first : first + width]) for first in range(0, len(counts), width)]
    total = max(1, sum(heights))
    across = Scale(-0.5, len(heights) * width - 0.5, LEFT, RIGHT)
    up = Scale(*padded([100 * height / total for height in heights], zero=True), BOTTOM, TOP)
    drawn = []
    for number, height in enumerate(heights):
        left, right = across(number * width - 0.45), across((number + 1) * width - 0.55)
        name = span(number * width, min((number + 1) * width, len(counts)) - 1)
        said = f"{axis} {name}: {height:,} ({100 * height / total:.1f} %)"
        drawn.append(bar(left, max(right - left, 0.5), up(100 * height / total), said))
    return svg(title, [*axes(across, up, " %"), axis_title(axis), *drawn])


def bar(left: float, width: float, top: float, said: str) -> Markup:
    made = '<rect class="bar" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"><title>{}</title></rect>'
    return Markup(made).format(left, top, width, BOTTOM - top, said)


def span(first: int, last: int) -> str:
    return f"{first}" if first == last else f"{first} to {last}"


def line(curve: Curve, kind: str, across: Scale, up: Scale, along: str = "epoch") -> Markup:
    """A path with a gap at each NaN, and dots where there are few or where one stands alone."""
    points = [
        (across(place), up(value), place, value) if math.isfinite(value) else None
        for place, value in zip(curve.places, curve.values, strict=True)
    ]
    path, pen = [], "M"
    for point in points:
        path.append(f"{pen}{point[0]:.1f} {point[1]:.1f}" if point else "")
        pen = "L" if point else "M"
    drawn = Markup('<path class="{}" d="{}"/>').format(kind, "".join(path))
    few = len(points) <= FEW_POINTS
    for point, before, after in zip(points, [None, *points], [*points[1:], None], strict=False):
        if point and (few or not (before or after)):
            drawn += dot(point, f"{kind} dot", f"{curve.name}, {along} {point[2]:g}: {point[3]:.6g}")
    return drawn


def dot(point: tuple[float, ...], kind: str, text: str) -> Markup:
    made = '<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="3"><title>{}</title></circle>'
    return Markup(made).format(kind, point[0], point[1], text)


def axes(across: Scale, up: Scale, unit: str = "", whole: bool = True) -> list[Markup]:
    """The grid with the numbers beside it."""
    rows = [
        Markup('<path class="grid" d="M{} {:.1f}H{}"/><text x="{}" y="{:.1f}" class="end">{}</text>').format(
            LEFT, up(tick), RIGHT, LEFT - 7, up(tick) + 4, short(tick) + unit
        )
        for tick in up.ticks()
    ]
    columns = [
        Markup('<text x="{:.1f}" y="{}" class="mid">{}</text>').format(across(tick), BOTTOM + 16, short(tick))
        for tick in across.ticks(8, whole=whole)
    ]
    return [*rows, *columns, Markup('<path class="axis" d="M{} {}H{}"/>').format(LEFT, BOTTOM, RIGHT)]


def axis_title(text: str) -> Markup:
    return Markup('<text x="{}" y="{}" class="mid title">{}</text>').format((LEFT + RIGHT) / 2, HEIGHT - 3, text)


def short(value: float) -> str:
    """A tick's number: 0.25, 2.5k, 12M."""
    if abs(value) >= 1e12:
        return f"{value:.0e}"
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{unit}"
    return f"{value:.10g}"


def svg(title: str, parts: Sequence[Markup]) -> Markup:
    frame = Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>')
    return frame.format(WIDTH, HEIGHT, escape(title), Markup().join(parts))
