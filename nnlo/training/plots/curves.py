"""The picture of one training: loss, metrics, staleness, speed and votes, under a title that says what it was."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnlo.training.plots.marks import label_places
from nnlo.training.plots.panels import draw_figure, draw_metrics, draw_speed, draw_staleness, draw_usages
from nnlo.training.plots.series import History, axis_of, pair, usages
from nnlo.training.plots.style import installed, sheet

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INCHES = (9.2, 6.6)
MORE_INCHES = 3.0
"""The height of a row more."""


def draw(history: History, path: Path, along: str = "epochs", metric: str | None = None, name: str = "") -> bool:
    """Write the picture to `path` (.png, .pdf, .svg ...); False where matplotlib is not installed.

    along: one of `series.ALONG`. metric: the one to draw beside the loss, None for all. name: in the place of
    model and trial.
    """
    if not installed():
        return False
    axis = axis_of([history], along)
    counted = bool(usages(history, axis).levels)
    rows = ["LM", "DS", *(["VV"] if counted else [])]
    with sheet(path, (INCHES[0], INCHES[1] + counted * MORE_INCHES)) as figure:
        panels = figure.subplot_mosaic(";".join(rows), sharex=True)
        draw_figure(panels["L"], history, "loss", axis)
        draw_metrics(panels["M"], history, axis, metric)
        draw_staleness(panels["D"], history, axis)
        draw_speed(panels["S"], history, axis)
        if counted:
            draw_usages(panels["V"], history, axis)
        lowest = [panels[name] for name in rows[-1]]
        label_places(list(panels.values()), lowest, pair(history, "loss", axis), axis)
        for panel in panels.values():
            panel.tick_params(labelbottom=panel in lowest)
        head_lines(figure, name or title(history), circumstances(history))
    return True


def head_lines(figure: Figure, name: str, details: str) -> None:
    """Two lines at the top left: whose picture it is, and how it came about."""
    height = figure.get_figheight()
    figure.text(0.012, 1 - 0.22 / height, name, fontsize=12, fontweight="bold", color="0.1", va="center")
    figure.text(0.012, 1 - 0.45 / height, details, fontsize=8.5, color="0.35", va="center")


def title(history: History) -> str:
    """Model and trial, and how it ended where that was not as planned."""
    outcome = str(history.get("outcome") or "done")
    parts = [str(history[key]) for key in ("model", "trial") if history.get(key)]
    return "  ".join([*parts, *([f"({outcome})"] if outcome != "done" else [])])


def circumstances(history: History) -> str:
    """One line: what was trained, how, on what, and how long it took."""
    parts = [mode_text(history.get("arguments") or {})]
    units = {"parameters": "parameters", "train_samples": "samples", "ranks": "ranks"}
    parts += [f"{history[key]:,} {unit}" for key, unit in units.items() if history.get(key) is not None]
    if history.get("seconds") is not None:
        parts.append(f"{history['seconds']:,.1f} s")
    return "   ·   ".join(filter(None, parts))


def mode_text(arguments: Any) -> str:
    """Mode, optimizer, learning rate and batch, as far as the arguments tell."""
    optimizer = arguments.get("optimizer") or {}
    rate = f"lr {optimizer['lr']:.4g}" if optimizer.get("lr") is not None else ""
    mode = " ".join(filter(None, ("synchronous" if arguments.get("synchronous") else "", arguments.get("mode"))))
    batch = f"batch {arguments['batch']}" if arguments.get("batch") else ""
    return "   ·   ".join(filter(None, (mode, " ".join(filter(None, (optimizer.get("name"), rate))), batch)))
