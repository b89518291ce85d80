"""What pictures of searches have in common: how a status looks, and a dot for each trial."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from nnlo.optimize.plots.view import View
from nnlo.optimize.trial import Status, Trial
from nnlo.training.plots.style import COLORS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class Look(NamedTuple):
    """A marker of matplotlib's, and a color."""

    marker: str
    color: str


LOOKS = {
    Status.DONE: Look("o", COLORS[0]),
    Status.RESTING: Look("s", COLORS[5]),
    Status.PRUNED: Look("D", COLORS[4]),
    Status.FAILED: Look("x", COLORS[1]),
}
INK = "0.15"
LEGEND_INCHES = 2.3
"""The width of a column of legends."""


def by_status(view: View) -> dict[Status, list[Trial]]:
    """The trials that are shown as each status, where there are any; as failed, all without a finite figure."""
    shown = {trial.number: trial.status if trial.number in view.scored else Status.FAILED for trial in view.tried}
    groups = {status: [trial for trial in view.tried if shown[trial.number] is status] for status in LOOKS}
    return {status: trials for status, trials in groups.items() if trials}


def label_of(status: Status, trials: Sequence[Trial]) -> str:
    """What a legend says of them."""
    name = status if all(trial.status is status for trial in trials) else f"{status} or not finite"
    return f"{name} ({len(trials)})"


def draw_dots(panel: Axes, view: View, places: Mapping[int, float]) -> None:
    """A dot for each trial, at its place, by number, and its figure; and the vertical axis.

    An arrow stands for a figure that is beyond the axis, in a band where those without one are as well.
    """
    scale = view.scale
    beyond = {number for number, figure in view.scored.items() if scale.beyond(figure)}
    arrow = "^" if scale.rising else "v"
    for status, trials in by_status(view).items():
        marker, color = LOOKS[status]
        shown = {one.number: (places[one.number], scale.shown(view.scored.get(one.number))) for one in trials}
        within = [at for number, at in shown.items() if number not in beyond]
        draw_marks(panel, within, marker, color, label_of(status, trials))
        draw_marks(panel, [at for number, at in shown.items() if number in beyond], arrow, color, f"_{status}, beyond")
    if beyond:
        draw_marks(panel, [(math.nan, math.nan)], arrow, "0.5", f"worse than the axis shows ({len(beyond)})")
    scale.fit(panel, banded=len(view.scored) - len(beyond) < len(view.tried))


def draw_marks(panel: Axes, places: Sequence[tuple[float, float]], marker: str, color: str, label: str) -> None:
    """Markers alone, with a white rim where they have a face."""
    rim, width = (color, 1.6) if marker == "x" else ("white", 0.6)
    if places:
        across, up = zip(*places, strict=True)
        panel.plot(across, up, marker, color=color, ms=6, mec=rim, mew=width, label=label, zorder=3)


def draw_ring(panel: Axes, place: float, figure: float, label: str) -> None:
    """Around the best."""
    panel.plot([place], [figure], "o", color=INK, ms=12, mfc="none", mew=1.4, label=label, zorder=4, clip_on=False)


def add_legend(figure: Figure) -> None:
    """Under the panels: what is in any of them, each once."""
    found: dict[str, Any] = {}
    for panel in figure.axes:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    columns = int(figure.get_figwidth() / LEGEND_INCHES)
    figure.legend(list(found.values()), list(found), loc="outside lower left", ncols=columns)
