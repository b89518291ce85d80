"""The picture of several trainings: a figure a row, training at the left, validation at the right."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnlo.training.plots.curves import head_lines
from nnlo.training.plots.marks import choose_scale, label_places, note, plot
from nnlo.training.plots.series import Curve, History, axis_of, metric_names, pair, title_of
from nnlo.training.plots.style import COLORS, sheet

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOOKS: tuple[tuple[Any, str], ...] = tuple(itertools.product(("-", "--", ":"), COLORS))
"""The colors come again in other strokes."""

LONGEST = 44
"""Letters of a label; of a longer one the middle is left out."""

Pairs = list[tuple[Curve, Curve]]


def draw_overlay(runs: Mapping[str, History], path: Path, along: str = "epochs", metric: str | None = None) -> None:
    """Write the picture of `runs`, by their labels, to `path`.

    along: one of `series.ALONG`. metric: the one to compare beside the loss (default the first that all know).
    """
    histories = list(runs.values())
    axis = axis_of(histories, along)
    rows = {name: [pair(one, name, axis) for one in histories] for name in figures_to_compare(histories, metric)}
    columns = 2 if any(validated.known for row in rows.values() for _, validated in row) else 1
    lines = -(-len(runs) // columns)
    with sheet(path, (4.6 * columns, 0.8 + 2.7 * len(rows) + 0.2 * lines)) as figure:
        panels = figure.subplots(len(rows), columns, sharex=True, sharey="row", squeeze=False)
        for line, (name, row) in zip(panels, rows.items(), strict=True):
            draw_row(list(line), name, row)
        curves = [one for row in rows.values() for both in row for one in both]
        label_places(list(panels.flat), list(panels[-1]), curves, axis)
        head_lines(
            figure, heading(histories), f"{len(runs)} runs; beside each name the last validation {list(rows)[-1]}"
        )
        add_legend(figure, list(runs), list(rows.values())[-1], columns)


def figures_to_compare(histories: Sequence[History], metric: str | None) -> list[str]:
    """The loss, and a metric if there is one to compare."""
    known = [metric_names(history) for history in histories]
    common = [name for name in known[0] if all(name in names for names in known)]
    chosen = metric or next(iter(common), "loss")
    return ["loss"] if chosen == "loss" else ["loss", chosen]


def draw_row(panels: Sequence[Axes], name: str, row: Pairs) -> None:
    """One figure of all runs, in training and, where there is a second panel, in validation."""
    for panel, part, curves in zip(panels, ("training", "validation"), zip(*row, strict=True), strict=False):
        for curve, (style, color) in zip(curves, itertools.cycle(LOOKS), strict=False):
            plot(panel, curve, color, style)
        if not any(curve.known for curve in curves):
            note(panel, "no finite value")
        panel.set_title(f"{title_of(name)}, {part}")
    choose_scale(panels[0], [curve for both in row for curve in both])


def add_legend(figure: Figure, labels: Sequence[str], row: Pairs, columns: int) -> None:
    """Under the panels: every run's name, and its last figure of `row`."""
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=color, linestyle=style)
        for style, color in itertools.islice(itertools.cycle(LOOKS), len(labels))
    ]
    texts = [f"{shortened(label)}   {last(both)}" for label, both in zip(labels, row, strict=True)]
    figure.legend(handles, texts, loc="outside lower left", ncols=columns)


def last(both: tuple[Curve, Curve]) -> str:
    """The last value that is known: of the validation, else of the training."""
    trained, validated = both
    if validated.known:
        return f"{validated.known[-1]:#.4g}"
    return f"{trained.known[-1]:#.4g} (training)" if trained.known else "-"


def heading(histories: Sequence[History]) -> str:
    """The models that are compared, each once."""
    return ", ".join(dict.fromkeys(str(history.get("model", "?")) for history in histories))


def shortened(label: str, longest: int = LONGEST) -> str:
    half = longest // 2
    return label if len(label) <= longest else f"{label[:half]}…{label[-half:]}"
