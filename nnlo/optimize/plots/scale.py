"""How figures of merit are drawn: a range that shows the good ones, and an edge for all that are beyond it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from nnlo.optimize.figure import FigureOfMerit
from nnlo.optimize.plots.ticks import Ticks, range_ticks, written
from nnlo.training.plots.marks import WIDE_RANGE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FEW = 8
"""Fewer figures are all drawn, however far apart they are."""

FENCE = 3.0
"""A figure is beyond if it is farther from the third quartile than so many times the way from there to the best."""

ROOM, BORDER, RIM, EDGE, END = 0.06, 0.04, 0.08, 0.16, 0.21
"""Parts of the range: how far a panel goes on beyond the best figure, and on the worse side the border of a band, the
places in it of figures that are beyond, and of those that are none, and where the panel ends."""


MOST_TICKS = 7


class Scale(NamedTuple):
    """From `low` to `high`, by their ratio where `log`; the larger figures are the worse ones where `rising`."""

    low: float
    high: float
    log: bool
    rising: bool

    @classmethod
    def of(cls, figures: Sequence[float], merit: FigureOfMerit) -> Scale:
        """What suits these figures, all of them finite."""
        rising = merit.mode == "min"
        if not figures:
            return cls(0.0, 1.0, False, rising)
        measure = math.log if rising and is_wide(figures) else float
        costs = [measure(figure) if rising else -figure for figure in figures]
        limit = fence(costs)
        kept = [figure for figure, cost in zip(figures, costs, strict=True) if cost <= limit]
        low, high = ends(min(kept), max(kept))
        return cls(low, high, rising and is_wide(kept), rising)

    def place(self, figure: float) -> float:
        """0 at `low`, 1 at `high`; a figure beyond is at the end that it is nearer to."""
        inside = min(max(figure, self.low), self.high)
        if self.log:
            return math.log(inside / self.low) / math.log(self.high / self.low)
        return (inside - self.low) / (self.high - self.low)

    def at(self, place: float) -> float:
        """The figure at a place, which may be below 0 or above 1."""
        if self.log:
            return float(self.low * (self.high / self.low) ** place)
        return self.low + place * (self.high - self.low)

    def beyond(self, figure: float) -> bool:
        return not self.low <= figure <= self.high

    def worse(self, part: float) -> float:
        """So far beyond the worse end."""
        return self.at(1 + part if self.rising else -part)

    def shown(self, figure: float | None) -> float:
        """Where a figure stands; those that are beyond do so side by side, and so do those that are None."""
        if figure is None:
            return self.worse(EDGE)
        return self.worse(RIM) if self.beyond(figure) else figure

    def ticks(self, most: int) -> Ticks:
        """Places, and the figures there."""
        values = range_ticks(self.low, self.high, most, self.log)
        return [(self.place(value), self.written(value)) for value in values]

    def written(self, figure: float) -> str:
        return written(figure, self.low, self.high)

    def fit(self, panel: Axes, banded: bool) -> None:
        """Make it the vertical axis of a panel, which has a band at the worse end or none."""
        room = END if banded else ROOM
        below, above = (ROOM, room) if self.rising else (room, ROOM)
        ticks = self.ticks(MOST_TICKS)
        panel.set_yscale("log" if self.log else "linear")
        panel.minorticks_off()
        panel.set_yticks([self.at(place) for place, _ in ticks], [text for _, text in ticks])
        panel.set_ylim(self.at(-below), self.at(1 + above))
        if banded:
            panel.axhspan(self.worse(BORDER), self.worse(END), color="0.95", zorder=0)


def is_wide(figures: Sequence[float]) -> bool:
    """Whether they are told apart on a logarithmic scale alone."""
    return 0 < min(figures) < max(figures) / WIDE_RANGE


def fence(costs: Sequence[float]) -> float:
    """The largest cost that is within."""
    best, third = min(costs), sorted(costs)[3 * len(costs) // 4]
    return third + FENCE * (third - best) if len(costs) >= FEW and third > best else math.inf


def ends(low: float, high: float) -> tuple[float, float]:
    """Of a range that has a width."""
    if low < high:
        return low, high
    half = abs(low) / 2 or 0.5
    return low - half, high + half
