"""Where the values of a hyperparameter stand on an axis from 0 to 1, and which of them are named."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from nnlo.optimize.dimensions import Categorical, Dimension, Integer, Range

FEW_VALUES = 12
"""Of so few values, evenly spaced, many trials have the same: they are spread around it."""

CLEAR = 0.06
"""Ticks that are nearer to one another run into one another."""

LONGEST = 13
"""Letters of a choice."""

GOLDEN = (math.sqrt(5) - 1) / 2

Ticks = list[tuple[float, str]]


def place_of(dimension: Dimension, value: Any, number: int) -> float:
    """Of the value that trial `number` has."""
    place = dimension.to_unit(value)
    log = isinstance(dimension, Range) and dimension.log
    if dimension.size is None or dimension.size > FEW_VALUES or log:
        return place
    return place + (number * GOLDEN % 1 - 0.5) * 0.5 / dimension.size


def ticks_of(dimension: Dimension, most: int) -> Ticks:
    """At most so many places, or a few more, and the values there in few letters."""
    if isinstance(dimension, Range):
        values = range_ticks(dimension.low, dimension.high, most, dimension.log, isinstance(dimension, Integer))
        return [(dimension.to_unit(value), written(value, dimension.low, dimension.high)) for value in values]
    assert isinstance(dimension, Categorical)
    return [(dimension.to_unit(value), shortened(str(value), LONGEST)) for value in thinned(dimension.choices, most)]


def with_ends(dimension: Dimension, most: int) -> Ticks:
    """The same, and both ends of a range, in the place of what is too near to them."""
    ticks = ticks_of(dimension, most)
    if not isinstance(dimension, Range):
        return ticks
    low, high = dimension.low, dimension.high
    return between([(dimension.to_unit(end), written(end, low, high)) for end in (low, high)], ticks)


def between(ends: Ticks, ticks: Ticks) -> Ticks:
    """Both ends, and those ticks that are clear of them."""
    (low, _), (high, _) = ends
    return [ends[0], *(tick for tick in ticks if low + CLEAR < tick[0] < high - CLEAR), ends[1]]


def range_ticks(low: float, high: float, most: int, log: bool = False, whole: bool = False) -> Sequence[float]:
    """Round values from low to high."""
    values = log_ticks(low, high) if log else []
    return thinned(values, most) if len(values) > 1 else even_ticks(low, high, most, whole)


def log_ticks(low: float, high: float) -> list[float]:
    """The powers of ten from low to high; with 2 and 5 times each where there are less than three."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    powers, fine = ([float(f"{digit}e{decade}") for decade in decades for digit in some] for some in ((1,), (1, 2, 5)))
    inside = [value for value in powers if low <= value <= high]
    return inside if len(inside) > 2 else [value for value in fine if low <= value <= high]


def even_ticks(low: float, high: float, most: int, whole: bool) -> list[float]:
    from matplotlib.ticker import MaxNLocator

    found = MaxNLocator(nbins=most, integer=whole, min_n_ticks=1).tick_values(low, high)
    return [float(value) for value in found if low <= value <= high]


def thinned(values: Sequence[Any], most: int) -> Sequence[Any]:
    """Every second, third ... of them."""
    return values[:: math.ceil(len(values) / most)]


def written(value: float, low: float, high: float) -> str:
    """A number in as many digits as tell it from its neighbours between low and high."""
    if abs(value) < 1e6 and value == int(value):
        return f"{value:.0f}"
    return f"{value:.{max(4, 2 + math.ceil(math.log10(max(abs(low), abs(high)) / (high - low))))}g}"


def shortened(text: str, longest: int) -> str:
    """Without its middle, where it is longer; $ is a letter like another."""
    half = (longest - 1) // 2
    cut = text if len(text) <= longest else f"{text[:half]}…{text[-half:]}"
    return cut.replace("$", r"\$")
