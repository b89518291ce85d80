"""Parallel coordinates: an axis for each hyperparameter and one for the figure, a line for each trial."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nnlo.optimize.plots.looks import INK, LOOKS, add_legend, draw_marks
from nnlo.optimize.plots.ticks import Ticks, between, place_of, shortened, with_ends
from nnlo.optimize.plots.view import View
from nnlo.optimize.trial import Status, Trial
from nnlo.training.plots.style import COLORS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Line = list[tuple[float, float]]

LEAST_INCHES, AXIS_INCHES, LETTER_INCHES = 9.2, 1.2, 0.085
STRIP_INCHES, GAP_INCHES = 0.07, 0.05
"""Of the colors beside the last axis, and between an axis and the names of its values."""

LONGEST = 32
"""Letters of a name; of a longer one the middle is left out."""

MOST_TICKS, MANY = 9, 50
SHADES = 256


def title(view: View) -> str:
    return f"hyperparameters of each trial, and the {view.merit.name} that it came to"


def inches(view: View) -> tuple[float, float]:
    return max(LEAST_INCHES, AXIS_INCHES * len(names_of(view))), 5.4 + slanted(view)


def names_of(view: View) -> list[str]:
    """Of the axes; the last one is that of the figure, where there is any."""
    names = [*view.space, *([view.merit.name] if view.scored else [])]
    return [shortened(name, LONGEST) for name in names]


def slanted(view: View) -> bool:
    """Whether the names are too long to stand side by side."""
    names = names_of(view)
    return max(map(len, names)) * LETTER_INCHES > max(LEAST_INCHES / len(names), AXIS_INCHES)


def draw(figure: Figure, view: View) -> None:
    panel, names = figure.subplots(), names_of(view)
    inch = len(names) / figure.get_figwidth()
    draw_failed(panel, view)
    draw_scored(panel, view)
    for at, dimension in enumerate(view.dimensions):
        draw_axis(panel, at, with_ends(dimension, MOST_TICKS), at - GAP_INCHES * inch, "right")
    if view.scored:
        draw_shades(panel, view, STRIP_INCHES * inch)
        at = len(view.dimensions)
        draw_axis(panel, at, figure_ticks(view), at + (STRIP_INCHES + GAP_INCHES) * inch, "left")
    slant: dict[str, Any] = {"rotation": 20, "ha": "left"} if slanted(view) else {}
    panel.xaxis.tick_top()
    panel.set_xticks(range(len(names)), names, fontweight="bold", **slant)
    panel.set(xlim=(-0.1, len(names) - 0.9), ylim=(-0.03, 1.03), yticks=[])
    panel.grid(False)
    panel.tick_params(length=0)
    panel.spines[:].set_visible(False)
    add_legend(figure)


def line_of(view: View, trial: Trial) -> Line:
    """Through its hyperparameters, and to its figure where that is finite."""
    places = [place_of(one, trial.parameters[one.name], trial.number) for one in view.dimensions]
    if trial.number in view.scored:
        places.append(view.scale.place(view.scored[trial.number]))
    return list(enumerate(places))


def draw_failed(panel: Axes, view: View) -> None:
    """Lines that end before the figure."""
    from matplotlib.collections import LineCollection

    lines = [line_of(view, trial) for trial in view.tried if trial.number not in view.scored]
    marker, color = LOOKS[Status.FAILED]
    panel.add_collection(
        LineCollection(lines, colors=color, linestyles=":", linewidths=1.0, alpha=0.7, label="_failed")
    )
    draw_marks(panel, [line[-1] for line in lines], marker, color, f"no finite figure ({len(lines)})")


def draw_scored(panel: Axes, view: View) -> None:
    """The better ones above the worse ones, and darker; the best of all in a color of its own.

    Of many the worse ones are fainter.
    """
    from matplotlib import colormaps
    from matplotlib.collections import LineCollection

    trials = {trial.number: trial for trial in view.tried}
    best, *others = [line_of(view, trials[number]) for number in view.scored] or [[]]
    others.sort(key=lambda line: badness(view, line[-1][1]), reverse=True)
    bad = [badness(view, line[-1][1]) for line in others]
    alpha = [0.9 - 0.6 * one for one in bad] if len(bad) > MANY else [0.8 for _ in bad]
    colors = colormaps["viridis"](bad, alpha=alpha)
    panel.add_collection(LineCollection(others, colors=colors, linewidths=1.1, label="_others"))
    if best:
        panel.plot(*zip(*best, strict=True), color=COLORS[1], linewidth=2.4, label=view.best, zorder=3)


def badness(view: View, place: float) -> float:
    """0 for the best figure on the axis, 1 for the worst."""
    return place if view.scale.rising else 1 - place


def draw_axis(panel: Axes, at: float, ticks: Ticks, beside: float, align: str) -> None:
    """A vertical line from 0 to 1, with the names of its values beside it."""
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.6}
    panel.vlines(at, 0, 1, color="0.3", linewidth=1, zorder=4)
    for place, text in ticks:
        panel.text(beside, place, text, ha=align, va="center", fontsize=8, color=INK, bbox=box, zorder=5)


def draw_shades(panel: Axes, view: View, width: float) -> None:
    """The colors of the lines, where they come to the last axis."""
    at = len(view.dimensions)
    shades = [[badness(view, (row + 0.5) / SHADES)] for row in range(SHADES)]
    edges = [row / SHADES for row in range(SHADES + 1)]
    panel.pcolormesh([at, at + width], edges, shades, cmap="viridis", vmin=0, vmax=1, rasterized=True)


def figure_ticks(view: View) -> Ticks:
    """Of the last axis; its worse end says whether there are figures beyond it."""
    scale = view.scale
    low, high = scale.written(scale.low), scale.written(scale.high)
    if any(map(scale.beyond, view.scored.values())):
        low, high = (low, f"{high} or worse") if scale.rising else (f"{low} or worse", high)
    return between([(0.0, low), (1.0, high)], scale.ticks(MOST_TICKS))
