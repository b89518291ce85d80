"""Pictures of what `throughput.py` and `exchange.py` measured, from the JSON that they wrote.

python benchmarks/pictures.py throughput.json throughput.png
python benchmarks/pictures.py exchange.json exchange.png
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paired import ratios
from throughput import KEY, LIMIT, MEETING, MODES

from nnlo.training.plots.curves import head_lines
from nnlo.training.plots.style import COLORS, sheet

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OURS, THEIRS = COLORS[0], "0.45"
ASYNCHRONOUS, SYNCHRONOUS = 0.97, 0.95
"""What is aimed at: of two loops side by side, and of two that meet after every step."""
WAYS = {"shm": "shared memory", "mpi": "MPI messages"}

Found = Mapping[str, list[dict[str, float]]]


def draw_throughput(everything: Mapping[str, Found], path: Path) -> None:
    """A panel for each network; for each contender its median, and a line from the lowest to the highest ratio."""
    most = max(len(found) for found in everything.values())
    with sheet(path, (5.6 * len(everything), 1.7 + 0.27 * most)) as figure:
        panels = figure.subplots(1, len(everything), squeeze=False)[0]
        for panel, (workload, found) in zip(panels, everything.items(), strict=True):
            draw_workload(panel, found)
            panel.set_title(workload)
        rounds = len(next(iter(next(iter(everything.values())).values())))
        head_lines(
            figure, "Samples a second, of two plain loops side by side",
            f"{rounds} rounds, in turns: medians, and lines from the lowest to the highest  ·  blue: nnlo",
        )  # fmt: skip


def draw_workload(panel: Axes, found: Found) -> None:
    names = [name for name in found if name != LIMIT]
    for place, name in enumerate(names):
        draw_range(panel, place, OURS if name in MODES else THEIRS, ratios(found, name, LIMIT, KEY))
    meeting = statistics.median(ratios(found, MEETING, LIMIT, KEY))
    panel.axvline(ASYNCHRONOUS, color=COLORS[2], linewidth=1, linestyle=":", label="aim, asynchronous")
    panel.axvline(SYNCHRONOUS * meeting, color=COLORS[1], linewidth=1, linestyle=":", label="aim, synchronous")
    panel.set_yticks(range(len(names)), names)
    panel.set_ylim(len(names) - 0.4, -0.6)
    panel.set_xlim(left=0)
    panel.legend(loc="lower left")


def draw_range(panel: Axes, place: int, color: str, values: Sequence[float]) -> None:
    middle = statistics.median(values)
    panel.plot([min(values), max(values)], [place, place], color=color)
    panel.plot(middle, place, "o", color=color, markersize=5)
    how: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "fontsize": 7.5, "color": color}
    panel.annotate(f"{middle:.2f}", (middle, place), (0, 4), va="bottom", **how)


def draw_exchange(everything: Mapping[str, Found], path: Path) -> None:
    """The ratio to MPI's ping-pong with the same step, by the number of parameters."""
    sizes = [int(size) for size in everything]
    with sheet(path, (6.4, 4.2)) as figure:
        panel = figure.add_subplot()
        for (way, label), color in zip(WAYS.items(), COLORS, strict=False):
            each = [ratios(found, way, "limit", "microseconds") for found in everything.values()]
            middle = [statistics.median(values) for values in each]
            below = [m - min(values) for m, values in zip(middle, each, strict=True)]
            above = [max(values) - m for m, values in zip(middle, each, strict=True)]
            panel.errorbar(sizes, middle, [below, above], fmt="o-", color=color, capsize=3, label=label)
        panel.axhline(1.0, color="0.5", linewidth=1, linestyle=":", label="MPI's ping-pong and the same step")
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.yaxis.set_major_formatter("{x:g}")
        panel.set_xlabel("parameters")
        panel.set_ylabel("times as long")
        panel.legend()
        head_lines(figure, "One exchange", "Medians, and bars from the lowest to the highest round")


PICTURES = {"throughput": draw_throughput, "exchange": draw_exchange}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figures", type=Path, help="throughput.json or exchange.json")
    parser.add_argument("picture", type=Path)
    given = parser.parse_args()
    PICTURES[given.figures.stem](json.loads(given.figures.read_text()), given.picture)


if __name__ == "__main__":
    main()
