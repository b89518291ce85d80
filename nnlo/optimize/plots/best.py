"""The best figure so far over the time of a search, and a dot for each trial."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nnlo.optimize.plots.looks import INK, add_legend, draw_dots, draw_ring
from nnlo.optimize.plots.view import View
from nnlo.training.plots.marks import note

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def title(view: View) -> str:
    return f"{view.merit.name} of each trial, and the best so far"


def inches(view: View) -> tuple[float, float]:
    return 9.2, 5.0


def draw(figure: Figure, view: View) -> None:
    panel = figure.subplots()
    unit, name = view.time
    draw_dots(panel, view, {number: seconds / unit for number, seconds in view.ends.items()})
    if steps := best_so_far(view):
        label = "best so far" if len(view.whole) == len(view.scored) else "best so far of those done"
        places, figures = zip(*[*steps, (view.seconds, steps[-1][1])], strict=True)
        panel.step([place / unit for place in places], figures, where="post", color=INK, label=label)
        best = next(iter(view.scored))
        draw_ring(panel, view.ends[best] / unit, view.scored[best], view.best)
    else:
        note(panel, view.best)
        panel.set_yticks([])
    longest = view.seconds / unit or 1.0
    panel.set_xlim(-0.01 * longest, 1.03 * longest)
    panel.set_xlabel(name)
    panel.set_ylabel(view.merit.name)
    add_legend(figure)


def best_so_far(view: View) -> list[tuple[float, float]]:
    """(seconds, figure) whenever a trial came to a better one than all before it."""
    found: list[tuple[float, float]] = []
    for number in sorted(view.whole, key=lambda number: (view.ends[number], number)):
        if not found or view.merit.better(view.whole[number], found[-1][1]):
            found.append((view.ends[number], view.whole[number]))
    return found
