"""Tables and the picture of `master_scaling.py`."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnlo.training.plots.curves import head_lines
from nnlo.training.plots.style import COLORS, sheet

if TYPE_CHECKING:
    from matplotlib.axes import Axes

AIM = 0.15
Rows = Sequence[Mapping[str, Any]]


def markdown(everything: Mapping[str, Any]) -> str:
    parts = (
        priced(everything["prices"]),
        compared(everything["tried"]),
        crossed([{"name": "one master, a core for each rank", **row} for row in everything["alone"]], "workers"),
        crossed(everything["many"], "ranks"),
        crossed(everything["compressed"], "workers"),
    )
    return "\n\n".join(parts)


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def priced(prices: Mapping[str, float]) -> str:
    return table(
        ["a core's time for", "us"], [[name.replace("_", " "), f"{1e6 * p:,.0f}"] for name, p in prices.items()]
    )


def compared(rows: Rows) -> str:
    head = ["real ranks", "batches/s measured", "forecast of it", ""]
    lines = []
    for row in rows:
        verdict = "within 15 %" if abs(statistics.median(row["ratios"]) - 1) <= AIM else "misses"
        told = "prices are from here" if row["known"] else verdict
        lines.append([row["name"], spread(row["measured"], ",.0f"), spread(row["ratios"], ".2f"), told])
    return table(head, lines)


def spread(values: Sequence[float], form: str) -> str:
    """The median, the lowest and the highest."""
    middle, low, high = (format(value, form) for value in (statistics.median(values), min(values), max(values)))
    return f"{middle} ({low} to {high})"


def crossed(rows: Rows, by: str) -> str:
    """Batches a second by a number and a name, and of them the share of what workers do who never wait."""
    found = {(row[by], row["name"]): row for row in rows}
    names = list(dict.fromkeys(row["name"] for row in rows))
    numbers = dict.fromkeys(row[by] for row in rows)
    lines = [[f"{number:,}", *(cell(found[number, name]) for name in names)] for number in numbers]
    return table([f"batches/s, {by}", *names], lines)


def cell(row: Mapping[str, Any]) -> str:
    share = f" ({100 * row['forecast'] / row['ideal']:.0f} %)" if "ideal" in row else ""
    return f"{row['forecast']:,.0f}{share}"


def draw(everything: Mapping[str, Any], path: Path) -> None:
    with sheet(path, (13, 4.4)) as figure:
        panels = figure.subplots(1, 3)
        draw_tried(panels[0], everything)
        draw_lines(panels[1], everything["many"], "ranks", "Many ranks, a tiny model")
        draw_lines(panels[2], everything["compressed"], "workers", "A million parameters, a slow network")
        panels[0].set_ylabel("batches a second")
        details = "with bars: measured on real ranks   ·   lines: forecast on the virtual clock, at measured costs"
        head_lines(figure, "What one master can take", details)


def draw_tried(panel: Axes, everything: Mapping[str, Any]) -> None:
    """One master: real ranks with their range, what was forecast of them, and with a core for each."""
    real = [row for row in everything["tried"] if "-" not in row["name"]]
    workers, rates = [row["workers"] for row in real], [statistics.median(row["measured"]) for row in real]
    below = [rate - min(row["measured"]) for rate, row in zip(rates, real, strict=True)]
    above = [max(row["measured"]) - rate for rate, row in zip(rates, real, strict=True)]
    forecasts = [rate * statistics.median(row["ratios"]) for rate, row in zip(rates, real, strict=True)]
    panel.errorbar(workers, rates, [below, above], fmt="o", color=COLORS[1], capsize=3, label="measured", zorder=3)
    panel.plot(workers, forecasts, color=COLORS[1], label="forecast, this machine")
    free = [(row["workers"], row["forecast"]) for row in everything["alone"]]
    panel.plot(*zip(*free, strict=True), color=COLORS[0], label="forecast, a core each")
    limit = 1 / everything["prices"]["master"]
    panel.axhline(limit, color="0.5", linewidth=1, linestyle=":", label=f"a busy master: {limit:,.0f}")
    panel.set_ylim(0, 1.1 * limit)
    finish(panel, "workers", "One master, workers that only exchange", legend="lower right")


def draw_lines(panel: Axes, rows: Rows, by: str, title: str) -> None:
    names = list(dict.fromkeys(row["name"] for row in rows))
    for color, name in zip(COLORS, names, strict=False):
        own = [row for row in rows if row["name"] == name]
        panel.plot([row[by] for row in own], [row["forecast"] for row in own], "o-", color=color, label=name)
    own = [row for row in rows if row["name"] == names[0]]
    panel.plot([r[by] for r in own], [r["ideal"] for r in own], color="0.6", linestyle=":", label="workers never wait")
    panel.set_yscale("log")
    panel.yaxis.set_major_formatter("{x:,g}")
    finish(panel, by, title)


def finish(panel: Axes, by: str, title: str, legend: str = "best") -> None:
    panel.set_xscale("log", base=2)
    panel.xaxis.set_major_formatter("{x:,g}")
    panel.set_xlabel(by)
    panel.set_title(title)
    panel.legend(loc=legend)
