"""What panels of every kind are made of: lines and their legend, scales, axes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from nnlo.training.plots.series import EPOCHS, Axis, Curve
from nnlo.training.plots.style import COLORS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.ticker import Locator

FEW_POINTS = 30
"""So many points have a marker each."""

WIDE_RANGE = 30.0
"""Values that differ by more than this factor are drawn on a logarithmic scale."""


def plot(panel: Axes, curve: Curve, color: str, style: str = "-", label: str | None = None) -> None:
    """Draws a curve, if there is anything of it; a dashed one has hollow markers."""
    if curve.known:
        fill = color if style == "-" else "white"
        name = curve.name if label is None else label
        panel.plot(curve.places, curve.values, style, color=color, marker=marker(curve), mfc=fill, label=name)


def thin(panel: Axes, curve: Curve, label: str | None) -> None:
    """One of many, which are not told apart."""
    panel.plot(
        curve.places, curve.values, color="0.72", linewidth=0.8, marker=marker(curve), markersize=2.5, label=label
    )


def shade(panel: Axes, places: Sequence[float], shares: Sequence[Sequence[float]]) -> None:
    """A map of cells: a row of `shares` for each whole number from 0, a column for each place; none is white."""
    from matplotlib.colors import LinearSegmentedColormap

    colors = LinearSegmentedColormap.from_list("shares", ["white", "#56B4E9", "#00507d"])
    rows = [row - 0.5 for row in range(len(shares) + 1)]
    panel.grid(False)
    panel.plot([], [], "s", color="#56B4E9", label="updates, the darker the more")
    panel.pcolormesh(edges_of(places), rows, shares, cmap=colors, vmin=0.0, vmax=1.0, rasterized=True)


def stack(panel: Axes, places: Sequence[float], shares: Mapping[int, Sequence[float]]) -> None:
    """Bands on top of each other, a value of each for each place; from blue at the lowest key to red at the highest."""
    from matplotlib.colors import LinearSegmentedColormap

    colors = LinearSegmentedColormap.from_list("signed", [COLORS[0], "0.93", COLORS[1]])
    most = max(map(abs, shares)) or 1
    edges = edges_of(places)
    panel.stackplot(
        edges,
        [[*values, values[-1]] for values in shares.values()],
        step="post",
        colors=[colors(0.5 + key / most / 2) for key in shares],
        labels=[f"{key:+d}" if key else "0" for key in shares],
    )
    panel.margins(y=0)


def edges_of(places: Sequence[float]) -> list[float]:
    """Where the columns of these places begin and end: in the middle between two."""
    middles = [(left + right) / 2 for left, right in itertools.pairwise(places)]
    if not middles:
        return [places[0] - 0.2, places[0] + 0.2]
    return [2 * places[0] - middles[0], *middles, 2 * places[-1] - middles[-1]]


def whole_numbers() -> Locator:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(integer=True, min_n_ticks=1, steps=(1, 2, 5, 10))


def marker(curve: Curve) -> str | None:
    return "o" if len(curve.places) <= FEW_POINTS else None


def head(panel: Axes, text: str, right: Axes | None = None) -> None:
    """The title of a panel, and the legend where there is something to name."""
    panel.set_title(text)
    handles = [line for axes in (panel, right) if axes for line in axes.get_legend_handles_labels()[0]]
    if handles:
        (right or panel).legend(handles=handles, loc="center right" if right else "best")


def note(panel: Axes, text: str) -> None:
    """A grey sentence in the middle of a panel that has nothing, or nothing much, to show."""
    panel.text(0.5, 0.5, text, transform=panel.transAxes, ha="center", va="center", color="0.4")


def explain(panel: Axes, text: str) -> None:
    """A small line after the title, for those who do not know the word."""
    panel.set_title(text, loc="right", fontsize=8, fontweight="normal", color="0.4")


def from_zero(panel: Axes, at_least: float = 0.0) -> None:
    """The axis begins a little below zero, so that a curve at zero is seen."""
    highest = float(panel.dataLim.y1)
    top = max(at_least, highest if math.isfinite(highest) else 0.0) or 1.0
    panel.set_ylim(-0.03 * top, 1.08 * top)


def choose_scale(panel: Axes, curves: Sequence[Curve]) -> None:
    """Logarithmic for a wide range; from zero where single points would make a scale of chance."""
    from matplotlib.ticker import LogLocator

    values = [value for curve in curves for value in curve.known]
    if values and 0 < min(values) < max(values) / WIDE_RANGE:
        panel.set_yscale("log")
        panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.yaxis.set_major_formatter("{x:g}")
        panel.yaxis.set_minor_formatter("")
    elif values and min(values) >= 0 and all(len(curve.known) < 2 for curve in curves):
        from_zero(panel)


def label_places(panels: Sequence[Axes], lowest: Sequence[Axes], curves: Sequence[Curve], axis: Axis) -> None:
    """The horizontal axis: one range for all `panels`, with its title under the `lowest`."""
    from matplotlib.ticker import EngFormatter, MaxNLocator

    counts = axis == EPOCHS
    places = [place for curve in curves for place in curve.places if math.isfinite(place)] or [1.0]
    first, last = min(places) if counts else 0.0, max(places)
    margin = max(0.3 if counts else 0.0, 0.03 * (last - first))
    for panel in panels:
        panel.set_xlim(first - margin, last + margin)
        panel.xaxis.set_major_locator(MaxNLocator(integer=counts, min_n_ticks=1, steps=(1, 2, 5, 10)))
        if axis.key == "samples":
            panel.xaxis.set_major_formatter(EngFormatter(sep=""))
    for panel in lowest:
        panel.set_xlabel(axis.title)
