"""How the figure depends on each hyperparameter: a panel each, a dot for each trial, and what a model makes of them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from nnlo.optimize.dimensions import Categorical, Dimension
from nnlo.optimize.plots.looks import INK, add_legend, draw_dots, draw_ring
from nnlo.optimize.plots.model import Dependence, dependences
from nnlo.optimize.plots.ticks import place_of, shortened, ticks_of
from nnlo.optimize.plots.view import View

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 4
PANEL_INCHES = 3.0, 2.5
LONGEST = 28
"""Letters of a name; of a longer one the middle is left out."""

MOST_TICKS, MOST_CHOICES = 5, 12
"""Values that are named below a panel."""

LETTERS = 26
"""So many of all their letters fit side by side."""

BAR = 100
"""The length of a bar for the only choice of a panel, in points."""


def title(view: View) -> str:
    return f"{view.merit.name} by each hyperparameter"


def shape(view: View) -> tuple[int, int]:
    """Rows and columns of panels."""
    count = len(view.dimensions)
    return math.ceil(count / COLUMNS), min(count, COLUMNS)


def inches(view: View) -> tuple[float, float]:
    rows, columns = shape(view)
    return max(7.0, PANEL_INCHES[0] * columns), 1.2 + PANEL_INCHES[1] * rows


def draw(figure: Figure, view: View) -> None:
    panels = figure.subplots(*shape(view), sharey=True, squeeze=False).flatten()
    modelled = dependences(view)
    for at, dimension in enumerate(view.dimensions):
        draw_panel(panels[at], view, dimension)
        if modelled:
            draw_dependence(panels[at], dimension, modelled[at])
    for panel in panels[len(view.dimensions) :]:
        panel.set_visible(False)
    for panel in panels[:: shape(view)[1]]:
        panel.set_ylabel(view.merit.name)
    if not view.scored:
        panels[0].set_yticks([])
    add_legend(figure)


def draw_panel(panel: Axes, view: View, dimension: Dimension) -> None:
    name = dimension.name
    places = {trial.number: place_of(dimension, trial.parameters[name], trial.number) for trial in view.tried}
    draw_dots(panel, view, places)
    if view.scored:
        best = next(iter(view.scored))
        draw_ring(panel, places[best], view.scored[best], view.best)
    ticks = ticks_of(dimension, MOST_CHOICES if isinstance(dimension, Categorical) else MOST_TICKS)
    panel.set_xticks([place for place, _ in ticks], [text for _, text in ticks])
    crowded = sum(len(text) + 1 for _, text in ticks) > LETTERS
    panel.tick_params(axis="x", labelsize=8.5, rotation=0 if not crowded else 90 if len(ticks) > 6 else 30)
    panel.set_xlim(-0.04, 1.04)
    panel.set_title(shortened(name, LONGEST))


def draw_dependence(panel: Axes, dimension: Dimension, found: Dependence) -> None:
    """A line; of choices, which have no order, a bar each."""
    label = "partial dependence, by a model of all trials"
    bars = isinstance(dimension, Categorical)
    length = min(22.0, BAR / len(found.places))
    panel.plot(*found, "_" if bars else "-", color=INK, ms=length, mew=2, label=label, zorder=5)
