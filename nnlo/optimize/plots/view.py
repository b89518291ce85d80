"""A search as its pictures see it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from nnlo.optimize.dimensions import Dimension
from nnlo.optimize.figure import FigureOfMerit
from nnlo.optimize.plots.scale import Scale
from nnlo.optimize.results import cost_of, ranked
from nnlo.optimize.search import Stretch
from nnlo.optimize.space_file import dimension_of
from nnlo.optimize.trial import Status, Trial
from nnlo.training.plots.series import time_unit
from nnlo.training.progress import figure
from nnlo.training.report.text import plural, seconds


@dataclass(frozen=True)
class View:
    """Trials, each as far as it has come, and what blocks did when, as far as that is known.

    space: {name: {"type": ..., "low": ..., "high": ..., "log": ...}} or {name: {"type": ..., "choices": [...]}}.
    name: whose search it is.
    """

    trials: Sequence[Trial]
    stretches: Sequence[Stretch]
    space: Mapping[str, Mapping[str, Any]]
    merit: FigureOfMerit
    name: str

    @cached_property
    def dimensions(self) -> list[Dimension]:
        return [dimension_of(name, given) for name, given in self.space.items()]

    @cached_property
    def tried(self) -> list[Trial]:
        """Those that are not running now."""
        return [trial for trial in self.trials if trial.status is not Status.RUNNING]

    @cached_property
    def scored(self) -> dict[int, float]:
        """The figures that are finite, of trials that did not fail, by number; the best one first."""
        known = [trial for trial in ranked(self.tried, self.merit) if not math.isnan(cost_of(trial, self.merit))]
        return {trial.number: trial.figure for trial in known if trial.figure is not None}

    @cached_property
    def whole(self) -> dict[int, float]:
        """The same of those that were trained to their ends, among which the best one is; of all, where none was."""
        done = {trial.number for trial in self.tried if trial.status is Status.DONE}
        return {number: figure for number, figure in self.scored.items() if number in done} or self.scored

    @cached_property
    def scale(self) -> Scale:
        """Of the figures."""
        return Scale.of(list(self.scored.values()), self.merit)

    @cached_property
    def ends(self) -> dict[int, float]:
        """When each trial came to its figure, in seconds, by number."""
        known = {trial.number: trial.began + trial.seconds for trial in self.tried}
        last = {one.trial: one.ended for one in sorted(self.stretches, key=lambda one: one.ended)}
        return {number: last.get(number, end) for number, end in known.items()}

    @property
    def seconds(self) -> float:
        """The time that it took until now."""
        return max([*self.ends.values(), *(one.ended for one in self.stretches)], default=0.0)

    @property
    def time(self) -> tuple[float, str]:
        """What its times are shown in: seconds of one unit, and the title of an axis."""
        unit, name = time_unit(self.seconds)
        return unit, f"{name} of the search"

    @property
    def best(self) -> str:
        """The best figure, in words."""
        number, value = next(iter(self.scored.items()), (None, math.nan))
        return "no trial has a finite figure" if number is None else f"best {figure(value)} (trial {number})"

    def summary(self) -> str:
        """One line: how many trials ended how, the best of them, and how long it took."""
        counts = {status: sum(trial.status is status for trial in self.trials) for status in Status}
        told = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
        parts = [f"{plural(len(self.trials), 'trial')}: {told}", f"{self.merit.name}: {self.best}"]
        return "   ·   ".join([*parts, seconds(self.seconds)])
