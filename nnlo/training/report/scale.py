"""From values to places on an axis, and the values that its ticks stand at."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True)
class Scale:
    """An axis from `low` to `high`, drawn from pixel `start` to pixel `end`."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        low, high, at = (math.log(one) if self.logarithmic else one for one in (self.low, self.high, value))
        return self.start + (self.end - self.start) * (at - low) / (high - low)

    def ticks(self, about: int = 5, whole: bool = False) -> list[float]:
        """Round values within the range, not many more than `about`; `whole`: integers alone."""
        return decades(self.low, self.high) if self.logarithmic else rounded(self.low, self.high, about, whole)


def rounded(low: float, high: float, about: int, whole: bool) -> list[float]:
    """The multiples, within the range, of the smallest round step that is large enough."""
    least = max((high - low) / about, 1.0 if whole else 0.0)
    power = 10.0 ** math.floor(math.log10(least))
    step = next(one * power for one in STEPS if one * power >= least * (1 - 1e-9) and not (whole and one * power % 1))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def decades(low: float, high: float) -> list[float]:
    """Powers of ten, of few with their double and their fivefold, of many some."""
    first, last = math.floor(math.log10(low)), math.floor(math.log10(high))
    powers = range(first, last + 1, 1 + (last - first) // 8)
    factors = (1, 2, 5) if last - first <= 3 else (1,)
    return [factor * 10.0**power for power in powers for factor in factors if low <= factor * 10.0**power <= high]


def padded(values: Sequence[float], zero: bool) -> tuple[float, float]:
    """A range that holds finite `values` with a little room, from 0 on where `zero`."""
    low, high = min(values), max(values)
    if zero:
        return min(0.0, low), high * 1.06 if high > 0 else 1.0
    room = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
    return low - room, high + room
