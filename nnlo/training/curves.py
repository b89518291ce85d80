"""The picture of a training: loss, metrics, staleness and speed over the epochs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from nnlo.training.record import figures_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

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
    "legend.edgecolor": "none",
    "legend.framealpha": 0.85,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.6,
    "lines.markersize": 4,
}
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Told apart by everyone, and in print (Okabe and Ito)."""

FEW_POINTS = 30
"""So many points have a marker each."""

WIDE_RANGE = 30.0
"""A loss that falls by more than this factor is drawn on a logarithmic scale."""

MANY_RANKS = 16
"""More ranks than that are not drawn one by one."""

TITLES = {"acc": "Accuracy", "top5": "Top-5 accuracy", "mae": "Mean absolute error", "mse": "Mean squared error"}


class Curve(NamedTuple):
    """Values over epochs; an epoch may have a fraction, and NaN is a gap."""

    name: str
    epochs: list[float]
    values: list[float]


def draw(history: History, path: Path) -> bool:
    """Write the picture to `path` (.png, .pdf, .svg ...); False where matplotlib is not installed."""
    try:
        import matplotlib.style
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine
    except ImportError:
        return False
    with matplotlib.style.context(["default", STYLE]):
        layout = ConstrainedLayoutEngine(w_pad=0.14, h_pad=0.1, hspace=0.03, wspace=0.02)
        figure = Figure(figsize=(9.2, 6.4), dpi=150, layout=layout)
        FigureCanvasAgg(figure)
        panels = figure.subplots(2, 2, sharex=True)
        draw_loss(panels[0, 0], history)
        draw_metrics(panels[0, 1], history)
        draw_staleness(panels[1, 0], history)
        draw_speed(panels[1, 1], history)
        label_epochs(panels, history)
        figure.suptitle(title(history), fontsize=10.5, color="0.25")
        figure.savefig(path)
    return True


def draw_loss(panel: Axes, history: History) -> None:
    from matplotlib.ticker import LogLocator

    curves = pair(history, "loss")
    plot_pair(panel, curves, COLORS[0], COLORS[1])
    values = [value for curve in curves for value in curve.values if math.isfinite(value)]
    if values and 0 < min(values) < max(values) / WIDE_RANGE:
        panel.set_yscale("log")
        panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.yaxis.set_major_formatter("{x:g}")
        panel.yaxis.set_minor_formatter("")
    head(panel, "Loss")


def draw_metrics(panel: Axes, history: History) -> None:
    """Those from 0 to 1 on the left axis, and others, if there are both, on one at the right."""
    curves = {name: pair(history, name) for name in metric_names(history)}
    if not curves:
        draw_rate(panel, history)
        return
    large = [name for name, both in curves.items() if any(abs(value) > 1 for curve in both for value in curve.values)]
    right = panel.twinx() if 0 < len(large) < len(curves) else None
    for (name, both), color in zip(curves.items(), itertools.cycle(COLORS), strict=False):
        validation = color if len(curves) > 1 else COLORS[1]
        plot_pair(right if right and name in large else panel, both, color, validation)
    head(panel, "Metrics" if len(curves) > 1 else TITLES.get(*curves, *curves), right)
    if right:
        right.grid(False)
        right.spines["right"].set_visible(True)
        right.set_ylabel(", ".join(large))


def draw_rate(panel: Axes, history: History) -> None:
    plot(panel, epoch_curve(history, "lr", lambda entry: entry["lr"]), COLORS[0])
    head(panel, "Learning rate")


def draw_staleness(panel: Axes, history: History) -> None:
    for name, color, style in (("max", COLORS[1], "--"), ("mean", COLORS[0], "-")):
        curve = epoch_curve(history, name, lambda entry, name=name: entry["staleness"][name])  # type: ignore[misc]
        plot(panel, curve, color, style, spec=".3g")
    from_zero(panel, at_least=1.0)
    head(panel, "Staleness (centre steps)")


def draw_speed(panel: Axes, history: History) -> None:
    """All ranks together, and each of them thin, as long as they can be told apart."""
    from matplotlib.ticker import EngFormatter

    ranks = sorted({rank for entry in history["epochs"] for rank in entry["ranks"]}, key=int)
    for rank in ranks if 1 < len(ranks) <= MANY_RANKS else ():
        own = epoch_curve(history, rank, lambda entry, rank=rank: entry["ranks"][rank]["samples_per_second"])  # type: ignore[misc]
        label = "each worker" if rank == ranks[0] else None
        panel.plot(own.epochs, own.values, color="0.7", linewidth=0.8, marker=marker(own), markersize=2.5, label=label)
    total = epoch_curve(history, "all", lambda entry: entry["samples_per_second"])
    plot(panel, total, COLORS[2], spec=",.0f")
    panel.yaxis.set_major_formatter(EngFormatter(sep=""))
    from_zero(panel)
    head(panel, "Samples per second")


def epoch_curve(history: History, name: str, read: Callable[[History], Any]) -> Curve:
    """What `read` finds in each epoch's entry, NaN where it finds nothing."""
    epochs = [float(entry["epoch"]) for entry in history["epochs"]]
    return Curve(name, epochs, [number(entry, read) for entry in history["epochs"]])


def number(entry: History, read: Callable[[History], Any]) -> float:
    try:
        value = read(entry)
    except KeyError:
        return math.nan
    return math.nan if value is None or not math.isfinite(value) else float(value)


def pair(history: History, name: str) -> tuple[Curve, Curve]:
    """A figure in training and in validation: at every validation, where the history has more of them than epochs."""
    trained = epoch_curve(history, name, lambda entry: entry[name])
    key, points = f"val_{name}", history.get("validations", ())
    if len(points) <= len(history["epochs"]):
        return trained, epoch_curve(history, key, lambda entry: entry[key])
    values = [number(point, lambda entry: entry[key]) for point in points]
    return trained, Curve(key, [float(point["epoch"]) for point in points], values)


def metric_names(history: History) -> list[str]:
    """In the order in which they first come, with those that only validations know."""
    both = [figures_of(entry) for entry in history["epochs"]]
    names = [name.removeprefix("val_") for trained, validated in both for name in (*trained, *validated)]
    return [name for name in dict.fromkeys(names) if name != "loss"]


def plot_pair(panel: Axes, curves: tuple[Curve, Curve], color: str, validation: str) -> None:
    """Validation is dashed, with hollow markers."""
    trained, validated = curves
    plot(panel, trained, color)
    plot(panel, validated, validation, "--")


def plot(panel: Axes, curve: Curve, color: str, style: str = "-", spec: str = "#.4g") -> None:
    """Draws a curve, if there is anything of it, and names it with its last value."""
    known = [value for value in curve.values if math.isfinite(value)]
    if known:
        label = f"{curve.name}  {known[-1]:{spec}}"
        fill = color if style == "-" else "white"
        line = panel.plot(curve.epochs, curve.values, style, color=color, marker=marker(curve), label=label)[0]
        line.set_markerfacecolor(fill)


def from_zero(panel: Axes, at_least: float = 0.0) -> None:
    """The axis begins a little below zero, so that a curve at zero is seen."""
    highest = float(panel.dataLim.y1)
    top = max(at_least, highest if math.isfinite(highest) else 0.0) or 1.0
    panel.set_ylim(-0.03 * top, 1.08 * top)


def marker(curve: Curve) -> str | None:
    return "o" if len(curve.epochs) <= FEW_POINTS else None


def head(panel: Axes, text: str, right: Axes | None = None) -> None:
    """The title of a panel, and the legend where there is something to tell apart."""
    panel.set_title(text)
    handles = [line for axes in (panel, right) if axes for line in axes.get_legend_handles_labels()[0]]
    if handles:
        (right or panel).legend(handles=handles, loc="center right" if right else "best")


def label_epochs(panels: NDArray[Any], history: History) -> None:
    from matplotlib.ticker import MaxNLocator

    epochs = [entry["epoch"] for entry in (*history["epochs"], *history.get("validations", ()))] or [1]
    margin = max(0.3, 0.03 * (max(epochs) - min(epochs)))
    for panel in panels.flat:
        panel.set_xlim(min(epochs) - margin, max(epochs) + margin)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=(1, 2, 5, 10)))
    for panel in panels[-1]:
        panel.set_xlabel("epoch")


def title(history: History) -> str:
    """One line: what was trained, on what, and how long it took."""
    parts = [" ".join(str(history[key]) for key in ("model", "trial") if key in history)]
    for key, unit in (("parameters", "parameters"), ("train_samples", "samples"), ("ranks", "ranks")):
        if key in history:
            parts.append(f"{history[key]:,} {unit}")
    if "seconds" in history:
        parts.append(f"{history['seconds']:,.1f} s")
    return "   ·   ".join(filter(None, parts))
