"""Draws the pictures of docs/howto/modes.md, gem.png and votes.png, from what benchmarks/convergence.py has measured.

    python benchmarks/convergence.py --shapes --out shapes.json
    python -m docs.pictures.modes shapes.json

Both from the checkout, in .venv.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnlo.training.plots.curves import head_lines
from nnlo.training.plots.style import COLORS, sheet

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PICTURES = Path(__file__).parent
Row = dict[str, Any]

TITLES = {
    "downpour": "Downpour",
    "downpour, rate / (delay + 1)": "Downpour, rate / (delay + 1)",
    "gem": "GEM",
    "1 bit": "One bit (signs), rate 3e-4",
    "3 bits": "Three bits, rate 1e-4",
}


def draw(rows: Sequence[Row], path: Path, name: str, details: str, accuracy: str) -> None:
    """A panel for each setting of `rows`, side by side, with a curve of the loss for each number of workers."""
    groups = {key: list(group) for key, group in itertools.groupby(rows, key=lambda row: row["name"])}
    with sheet(path, (3.5 * len(groups), 3.7)) as figure:
        panels = figure.subplots(1, len(groups), sharex=True, sharey=True)
        for panel, (key, group) in zip(panels, groups.items(), strict=True):
            draw_losses(panel, group, accuracy)
            panel.set_title(TITLES[key])
        panels[0].set_ylabel("training loss")
        head_lines(figure, name, details)


def draw_losses(panel: Axes, rows: Sequence[Row], accuracy: str) -> None:
    """Losses by the batches that each worker has computed, on a logarithmic scale."""
    for color, row in zip(COLORS, rows, strict=False):
        step = row["batches"] / len(row["losses"])
        places = [step * (i + 0.5) for i in range(len(row["losses"]))]
        label = f"{row['workers']:2}: {100 * row['accuracy']:.1f} %"
        panel.plot(places, row["losses"], color=color, linewidth=1.3, label=label)
    panel.set_yscale("log")
    panel.set_ylim(0.05, 5)
    panel.set_yticks([0.05, 0.1, 0.2, 0.5, 1, 2, 5])
    panel.yaxis.set_major_formatter("{x:g}")
    panel.yaxis.set_minor_formatter("")
    panel.set_xlim(0, rows[0]["batches"])
    panel.set_xlabel("batches of each worker")
    panel.legend(title=f"workers: {accuracy}", title_fontsize=8, alignment="left", loc="best")


def main() -> None:
    rows: list[Row] = json.loads(Path(sys.argv[1]).read_text())
    shapes = {shape: [row for row in rows if row["shape"] == shape] for shape in ("staleness", "votes")}
    draw(
        shapes["staleness"],
        PICTURES / "gem.png",
        "With more asynchronous workers GEM keeps its loss curve; Downpour stops learning, or is slow",
        "MNIST, batch 64, rate 0.05 for all, no momentum in Downpour, GEM with momentum 0.9 and kappa 1",
        "test accuracy",
    )
    draw(
        shapes["votes"],
        PICTURES / "votes.png",
        "Votes of several workers learn as one worker does, with one bit or three",
        "MNIST, batch 64, 2,300 steps of the weights, the same rates with any number of workers",
        "training accuracy",
    )


if __name__ == "__main__":
    main()
