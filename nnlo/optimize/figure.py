"""The figure of merit: what a search looks for, and which of two values of it is the better one.

from nnlo.optimize.figure import FigureOfMerit
FigureOfMerit.of("val_loss,min")
FigureOfMerit.of("val_acc")          its kind says that more of it is better
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from nnlo.errors import OptionsError
from nnlo.training.measured import LESS_IS_BETTER, MORE_IS_BETTER, canonical, check_mode, direction, measured_figure

FLAG = "--figure-of-merit"
DEFAULT = "val_loss,min"


@dataclass(frozen=True)
class FigureOfMerit:
    """`name` as histories have it; `mode` min or max. Values are as measured; costs are so that less is better."""

    name: str
    mode: str

    @classmethod
    def of(cls, text: str = DEFAULT) -> FigureOfMerit:
        """From "metric,min", "metric,max", or "metric" where its kind says which. Raises OptionsError."""
        parts = [part.strip() for part in text.split(",")]
        if len(parts) > 2 or not all(parts):
            raise OptionsError(f"{FLAG} {text!r}: expected metric,min or metric,max, such as '{DEFAULT}'")
        name = canonical(parts[0])
        return cls(name, parts[1] if len(parts) == 2 else direction(name, FLAG))

    def __post_init__(self) -> None:
        """Whoever looks for the largest loss has the sign the wrong way round. Raises OptionsError."""
        check_mode(self.mode, FLAG)
        kind = self.name.removeprefix("val_")
        if kind in (*LESS_IS_BETTER, *MORE_IS_BETTER) and self.mode != direction(self.name, FLAG):
            right = f"{self.name},{direction(self.name, FLAG)}"
            raise OptionsError(f"{FLAG} {self}: {self.mode} looks for the worst {self.name}: write '{right}'")

    def __str__(self) -> str:
        return f"{self.name},{self.mode}"

    def check(self, measured: Collection[str]) -> None:
        """Raises OptionsError where a run with the figures `measured` does not have this one."""
        measured_figure(self.name, measured, FLAG)

    def value_of(self, entry: Mapping[str, Any]) -> float:
        """The figure in a history's entry of an epoch; NaN where it is not there."""
        value = entry.get(self.name)
        return math.nan if value is None else float(value)

    def cost(self, value: float) -> float:
        """Less is better; NaN for a value that is not finite."""
        if not math.isfinite(value):
            return math.nan
        return value if self.mode == "min" else -value

    def better(self, one: float, other: float) -> bool:
        """Whether the value `one` is better than `other`; one that is not finite is worse than all others."""
        cost, than = self.cost(one), self.cost(other)
        return cost < than or (math.isnan(than) and not math.isnan(cost))

    def reaches(self, value: float, target: float) -> bool:
        """Whether `value` is as good as `target`, or better."""
        return self.cost(value) <= self.cost(target)
