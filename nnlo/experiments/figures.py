"""Pictures of several runs beside one another: a metric along samples, rounds, seconds and bytes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import networkx as nx

from nnlo.experiments.results import AXES, Result, rises, spread, typical
from nnlo.training.atomic import replacing
from nnlo.training.plots.curves import head_lines
from nnlo.training.plots.overlay import LOOKS, shortened
from nnlo.training.plots.style import installed, sheet

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LABELS = {"samples": "samples", "updates": "rounds (steps of the centre)", "bytes": "MB sent and got by all workers"}
MEGABYTE = 1e6
COLUMNS = 2
MOST_BANDS = 6
LONGEST = 46  # letters of a name under the panels


def draw_metric(path: Path, title: str, results: Sequence[Result], metric: str, axes: Sequence[str]) -> None:
    """One panel for each of `axes`, by their names in `results.AXES`; runs without that metric are left out."""
    shown = [one for one in results if any(metric in point for point in one.points)]
    columns, rows = min(COLUMNS, len(axes)), -(-len(axes) // COLUMNS)
    lines = -(-len(shown) // columns)
    with replacing(path) as scratch, sheet(scratch, (4.6 * columns, 0.9 + 2.7 * rows + 0.2 * lines)) as figure:
        panels = figure.subplots(rows, columns, sharey=True, squeeze=False)
        for panel, axis in zip(panels.flat, axes, strict=False):
            draw_panel(panel, shown, metric, axis)
        for panel in list(panels.flat)[len(axes) :]:
            panel.set_axis_off()
        head_lines(figure, f"{title}: {metric}", band(shown, metric))
        add_names(figure, shown, metric, columns)


def band(results: Sequence[Result], metric: str) -> str:
    on_graph = any(True for one in results for _ in spread(one, metric))
    bands = "; bands: from the least to the greatest node" if has_bands(results, metric) else ""
    return f"lines: the mean over the nodes, or the centre{bands}" if on_graph else "the centre's"


def has_bands(results: Sequence[Result], metric: str) -> bool:
    """Whether runs on a graph are few enough to tell their bands apart."""
    return 0 < sum(any(True for _ in spread(one, metric)) for one in results) <= MOST_BANDS


def furthest(results: Sequence[Result], axis: str) -> float:
    """Where an axis ends: a run of one worker, which others are compared with, may go on beyond it."""
    compared = [one for one in results if one.workers > 1 and one.points] or [one for one in results if one.points]
    return max((float(one.points[-1][axis]) for one in compared), default=0.0) * 1.02


def draw_panel(panel: Axes, results: Sequence[Result], metric: str, axis: str) -> None:
    unit = MEGABYTE if axis == "bytes" else 1.0
    for one, (style, color) in zip(results, itertools.cycle(LOOKS), strict=False):
        points = [point for point in one.points if point.get(metric) is not None]
        along = [point[axis] / unit for point in points]
        panel.plot(along, [typical(point, metric) for point in points], color=color, linestyle=style)
        ends = list(spread(one, metric))
        if len(ends) == len(along) and has_bands(results, metric):
            low, high = zip(*ends, strict=True) if ends else ((), ())
            panel.fill_between(along, low, high, color=color, alpha=0.15, lw=0)
    panel.set_xlim(0, furthest(results, axis) / unit or None)
    virtual = all(one.virtual for one in results)
    seconds = "seconds of the virtual clock" if virtual else "seconds"
    panel.set_xlabel(LABELS.get(axis, seconds))
    values = [point[metric] for one in results for point in one.points if point.get(metric) is not None]
    if values and not rises(metric) and min(values) > 0 and max(values) > 30 * min(values):
        panel.set_yscale("log")


def add_names(figure: Figure, results: Sequence[Result], metric: str, columns: int) -> None:
    """Under the panels: the name of each run and its last value."""
    from matplotlib.lines import Line2D

    looks = list(itertools.islice(itertools.cycle(LOOKS), len(results)))
    handles = [Line2D([], [], color=color, linestyle=style) for style, color in looks]
    texts = [f"{shortened(one.name, LONGEST)}   {typical(one.last, metric):.4g}" for one in results]
    figure.legend(handles, texts, loc="outside lower left", ncols=columns)


def draw_staleness(path: Path, title: str, results: Sequence[Result]) -> bool:
    """How many steps late updates were, of the runs in which some were; False where there are none."""
    late = [(one, histogram(one)) for one in results]
    late = [(one, counts) for one, counts in late if len(counts) > 1]
    if not late:
        return False
    columns = min(3, len(late))
    rows = -(-len(late) // columns)
    with replacing(path) as scratch, sheet(scratch, (3.2 * columns, 0.9 + 2.0 * rows)) as figure:
        panels = figure.subplots(rows, columns, squeeze=False)
        for panel, (one, counts) in zip(panels.flat, late, strict=False):
            total = sum(counts)
            panel.bar(range(len(counts)), [count / total for count in counts], color=LOOKS[0][1], width=0.9)
            panel.set_title(shortened(one.name), fontsize=8)
            panel.set_xlabel("steps late")
        for panel in list(panels.flat)[len(late) :]:
            panel.set_axis_off()
        head_lines(figure, f"{title}: staleness", "the share of all updates that were so many steps late")
    return True


def histogram(result: Result) -> list[int]:
    """Updates by how many steps late they were, over the whole run."""
    all_of_them = [entry["staleness"]["histogram"] for entry in result.epochs]
    longest = max(map(len, all_of_them), default=0)
    return [sum(one[delay] if delay < len(one) else 0 for one in all_of_them) for delay in range(longest)]


def draw_graph(path: Path, title: str, graph: nx.Graph, gap: float) -> None:
    """Nodes on a circle, by the numbers of their ranks; `gap` is that of the mixing weights."""
    with replacing(path) as scratch, sheet(scratch, (4.6, 4.6)) as figure:
        panel = figure.subplots()
        where = nx.circular_layout(graph)
        nx.draw_networkx(
            graph, where, ax=panel, node_color=LOOKS[0][1], font_color="white", font_size=8, edge_color="0.6",
            labels={node: node + 1 for node in graph},
        )  # fmt: skip
        panel.set_axis_off()
        head_lines(figure, title, f"{len(graph)} nodes, {graph.number_of_edges()} edges, spectral gap {gap:.3g}")


def draw_all(folder: Path, title: str, results: Sequence[Result], separate: bool) -> list[Path]:
    """A picture of each metric that a run has, in `folder`; nothing without matplotlib."""
    if not installed() or not results:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    left = []
    for metric in dict.fromkeys(name for one in results for name in one.metrics()):
        parts = [[axis] for axis in AXES] if separate else []
        for axes in ([*AXES], *parts):
            left.append(folder / f"{'_'.join([metric, *(AXES[axis] for axis in axes if len(axes) == 1)])}.png")
            draw_metric(left[-1], title, results, metric, axes)
    if draw_staleness(folder / "staleness.png", title, results):
        left.append(folder / "staleness.png")
    return left
