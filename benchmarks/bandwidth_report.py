"""What `bandwidth.py` found, as tables and as a picture."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from nnlo.training.plots.curves import head_lines
from nnlo.training.plots.style import COLORS, installed, sheet

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BASE = "dense"
#: Figures of each round, by the contender.
Found: TypeAlias = Mapping[str, list[dict[str, float]]]
#: The same by part and rate.
Everything: TypeAlias = dict[str, dict[str, Found]]

#: What a part is about: a figure, in seconds, and what it is called.
FIGURES = {"mlp": ("exchange", "an exchange"), "mnist": ("target", "to 97 %")}
HEADINGS = {
    "mlp": "An exchange of 10 million parameters",
    "mnist": "MNIST to 97 % of validation accuracy",
}


def table(part: str, by_rate: Mapping[str, Found]) -> str:
    """Markdown: a line a contender; for each rate what the part is about, that of `BASE` over it, and an epoch."""
    key, called = FIGURES[part]
    sized = part == "mlp"
    columns = [f"{rate}: {called}, s | times as fast | an epoch, s" for rate in by_rate]
    lines = [" | ".join(["|", *(["MB each way"] if sized else []), *columns]) + " |"]
    lines.append("| --- " * (lines[0].count("|") - 1) + "|")
    for name, rows in next(iter(by_rate.values())).items():
        cells = [name, *([number(statistics.median(row["megabytes"] for row in rows))] if sized else [])]
        for found in by_rate.values():
            own, base = ([row[key] for row in found[one]] for one in (name, BASE))
            faster = [theirs / ours for ours, theirs in zip(own, base, strict=True)]
            cells += [spread(own), spread(faster), spread([row["epoch"] for row in found[name]])]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def spread(values: Sequence[float]) -> str:
    """The median, with the lowest and the highest where there are several."""
    middle, least, most = (number(pick(values)) for pick in (statistics.median, min, max))
    return middle if least == most else f"{middle} ({least} to {most})"


def number(value: float) -> str:
    """Three digits, as far as they stand for something; what was never reached is a dash."""
    if not math.isfinite(value):
        return "-"
    return f"{value:,.{max(0, min(3, 2 - math.floor(math.log10(value))))}f}" if value > 0 else "-"


def draw(everything: Everything, path: Path) -> None:
    """A panel for each part, with a line for each contender, and a point for each rate."""
    if not installed():
        print(f"no {path.name}: it needs matplotlib")
        return
    longest = max(len(found) for by_rate in everything.values() for found in by_rate.values())
    with sheet(path, (5.8 * len(everything), 1.8 + 0.36 * longest)) as figure:
        for place, (part, by_rate) in enumerate(everything.items(), 1):
            panel = figure.add_subplot(1, len(everything), place)
            draw_part(panel, FIGURES[part][0], by_rate)
            panel.set_title(HEADINGS[part])
        head_lines(
            figure, "A master and two workers on three hosts", "Medians, and lines from the lowest to the highest"
        )


def draw_part(panel: Axes, key: str, by_rate: Mapping[str, Found]) -> None:
    from matplotlib.ticker import LogLocator

    names = list(next(iter(by_rate.values())))
    for turn, ((rate, found), color) in enumerate(zip(by_rate.items(), COLORS, strict=False)):
        for place, name in enumerate(names):
            draw_point(panel, place, color, [row[key] for row in found[name]], above=turn % 2 == 0)
        panel.plot([], [], "o", color=color, label=rate)
    panel.set_yticks(range(len(names)), names)
    panel.set_ylim(len(names) - 0.4, -0.6)
    panel.set_xscale("log")
    panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.xaxis.set_major_formatter("{x:g}")
    panel.xaxis.set_minor_formatter("")
    panel.set_xlabel("seconds")
    panel.margins(x=0.12)
    panel.legend(loc="best")


def draw_point(panel: Axes, place: int, color: str, values: Sequence[float], above: bool) -> None:
    """The median with its number; nothing where it was never reached."""
    middle = statistics.median(values)
    if math.isfinite(middle):
        panel.plot([min(values), max(filter(math.isfinite, values))], [place, place], color=color)
        panel.plot(middle, place, "o", color=color, markersize=5)
        where, side = ((0, 4), "bottom") if above else ((0, -4), "top")
        how: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "fontsize": 7.5, "color": color}
        panel.annotate(number(middle), (middle, place), where, va=side, **how)
