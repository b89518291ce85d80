"""The picture of a training: loss, metrics, staleness and speed over the epochs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from nnlo.training.record import NOT_FIGURES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

History = Mapping[str, Any]

STYLE = {
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "0.4",
    "axes.grid": True,
    "grid.color": "0.9",
    "axes.axisbelow": True,
    "xtick.color": "0.3",
    "ytick.color": "0.3",
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.markersize": 4,
}
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Told apart by everyone, and in print (Okabe and Ito)."""

FEW_POINTS = 30
"""So many points have a marker each."""

WIDE_RANGE = 30.0
"""A loss that falls by more than this factor is drawn on a logarithmic scale."""


class Curve(NamedTuple):
    """Figures over epochs; an epoch may have a fraction, and NaN is a gap."""

    name: str
    epochs: list[float]
    values: list[float]


def draw(history: History, path: Path) -> bool:
    """Write the picture to `path` (.png, .pdf, .svg ...); False where matplotlib is not installed."""
    try:
        import matplotlib.style
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return False
    with matplotlib.style.context(["default", STYLE]):
        figure = Figure(figsize=(9, 6.2), dpi=150, layout="constrained")
        FigureCanvasAgg(figure)
        figure.get_layout_engine().set(w_pad=0.12, h_pad=0.1)
        panels = figure.subplots(2, 2)
        draw_loss(panels[0, 0], history)
        draw_metrics(panels[0, 1], history)
        draw_staleness(panels[1, 0], history)
        draw_speed(panels[1, 1], history)
        for panel in panels.flat:
            finish(panel, history)
        figure.suptitle(title(history), fontsize=11)
        figure.savefig(path)
    return True


def draw_loss(panel: Axes, history: History) -> None:
    curves = [trained(history, "loss"), validated(history, "loss")]
    panel.set_title("Loss")
    for curve, look in zip(curves, looks(COLORS[0]), strict=True):
        plot(panel, curve, look)
    values = [value for curve in curves for value in curve.values if math.isfinite(value)]
    if values and min(values) > 0 and max(values) > WIDE_RANGE * min(values):
        panel.set_yscale("log")


def draw_metrics(panel: Axes, history: History) -> None:
    """Every metric, those from 0 to 1 on the left axis and others, if there are both, on one at the right."""
    names = metric_names(history)
    if not names:
        return draw_rate(panel, history)
    panel.set_title(names[0] if len(names) == 1 else "Metrics")
    curves = {name: (trained(history, name), validated(history, name)) for name in names}
    large = [name for name in names if any(value > 1 for curve in curves[name] for value in curve.values)]
    other = panel.twinx() if 0 < len(large) < len(names) else panel
    for color, name in zip(COLORS * len(names), names):
        for curve, look in zip(curves[name], looks(color), strict=True):
            plot(other if name in large else panel, curve, look)
