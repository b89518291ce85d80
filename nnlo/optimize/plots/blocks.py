"""What each block of ranks did when: a row a block, a bar for each time that it had a trial."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nnlo.optimize.plots.looks import INK, LOOKS, add_legend
from nnlo.optimize.plots.view import View
from nnlo.optimize.trial import Status
from nnlo.training.report.text import percent, plural

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 9.2
MANY = 16
"""More blocks than that have thin rows."""

PALE = (Status.RESTING, Status.PRUNED)
LETTER_INCHES = 0.09


def title(view: View) -> str:
    """How much of the time the blocks had a trial, from the first one on that is known."""
    count, began = len(blocks_of(view)), min(one.began for one in view.stretches)
    busy = percent(sum(one.ended - one.began for one in view.stretches), count * (view.seconds - began))
    return f"trials, by number, on {plural(count, 'block')} ({busy} busy)"


def inches(view: View) -> tuple[float, float]:
    count = len(blocks_of(view))
    return WIDTH, 1.9 + count * (0.3 if count <= MANY else 0.19)


def blocks_of(view: View) -> list[int]:
    """Those that had a trial."""
    return sorted({one.block for one in view.stretches})


def draw(figure: Figure, view: View) -> None:
    panel, blocks = figure.subplots(), blocks_of(view)
    unit, name = view.time
    for status in LOOKS:
        draw_bars(panel, view, status)
    many = len(blocks) > MANY
    name_bars(panel, view, 6.5 if many else 8)
    panel.set(xlim=(0, view.seconds / unit or 1), ylim=(len(blocks) - 0.4, -0.6), xlabel=name)
    panel.set_yticks(range(len(blocks)), [f"block {block}" for block in blocks], fontsize=7 if many else 9.5)
    panel.grid(False, axis="y")
    add_legend(figure)


def draw_bars(panel: Axes, view: View, status: Status) -> None:
    """Where trials had this status afterwards."""
    unit, _ = view.time
    bars = [one for one in view.stretches if one.status is status]
    rows = [blocks_of(view).index(one.block) for one in bars]
    begins, widths = [one.began / unit for one in bars], [(one.ended - one.began) / unit for one in bars]
    color, label = LOOKS[status].color, f"{status} ({len(bars)})"
    if bars:
        panel.barh(rows, widths, 0.8, begins, color=color, edgecolor="white", linewidth=0.6, label=label)


def name_bars(panel: Axes, view: View, size: float) -> None:
    """The number of the trial, in those bars that are wide enough for it."""
    unit, _ = view.time
    rows = {block: row for row, block in enumerate(blocks_of(view))}
    for one in view.stretches:
        text, width = str(one.trial), WIDTH * (one.ended - one.began) / (view.seconds or 1)
        if width > LETTER_INCHES * (len(text) + 0.6):
            color = INK if one.status in PALE else "white"
            middle = (one.began + one.ended) / 2 / unit
            panel.text(middle, rows[one.block], text, ha="center", va="center_baseline", size=size, color=color)
