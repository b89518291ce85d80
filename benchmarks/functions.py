"""Functions with known minima that searches are tried on, and when one has reached such a minimum.

Branin's as Dixon and Szego (Towards Global Optimisation 2, 1978) have it, and Hartman's of six dimensions, with the
constants, minima and places of Surjanovic and Bingham's Virtual Library of Simulation Experiments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from math import pi

import numpy as np
from numpy.typing import NDArray

from nnlo.optimize.dimensions import Real
from nnlo.optimize.space import Space

Array = NDArray[np.float64]

REACHED = 0.01
"""The gap at which a minimum counts as reached."""
DRAWS = 2**16


@dataclass(frozen=True)
class Function:
    """`formula` takes points (..., dimensions) within `ranges`; its `minimum` is at each of the `places`."""

    name: str
    ranges: tuple[tuple[float, float], ...]
    formula: Callable[[Array], Array]
    minimum: float
    places: tuple[tuple[float, ...], ...]

    def __call__(self, point: Iterable[float]) -> float:
        return float(self.formula(np.array([*point])))

    @property
    def space(self) -> Space:
        return Space([Real(f"x{number}", low, high) for number, (low, high) in enumerate(self.ranges, 1)])

    @cached_property
    def typical(self) -> float:
        """The median of its values at random points."""
        low, high = np.array(self.ranges).T
        points = np.random.default_rng(0).uniform(low, high, (DRAWS, len(low)))
        return float(np.median(self.formula(points)))

    def gap(self, value: float) -> float:
        """How far a value is above the minimum, as a share of how far a typical one is."""
        return (value - self.minimum) / (self.typical - self.minimum)

    @property
    def target(self) -> float:
        """The value whose gap is `REACHED`."""
        return self.minimum + REACHED * (self.typical - self.minimum)

    def evaluations(self, values: Iterable[float]) -> int | None:
        """How many it took, in their order, until the minimum was reached; None: it was not."""
        return next((count for count, value in enumerate(values, 1) if value <= self.target), None)


def branin(x: Array) -> Array:
    first, second = x[..., 0], x[..., 1]
    bend = second - 5.1 / (4 * pi**2) * first**2 + 5 / pi * first - 6
    wave: Array = bend**2 + 10 * (1 - 1 / (8 * pi)) * np.cos(first) + 10
    return wave


ALPHA = np.array([1.0, 1.2, 3.0, 3.2])
A = np.array([
    [10, 3, 17, 3.5, 1.7, 8],
    [0.05, 10, 17, 0.1, 8, 14],
    [3, 3.5, 1.7, 10, 17, 8],
    [17, 8, 0.05, 10, 0.1, 14],
])  # fmt: skip
P = 1e-4 * np.array([
    [1312, 1696, 5569, 124, 8283, 5886],
    [2329, 4135, 8307, 3736, 1004, 9991],
    [2348, 1451, 3522, 2883, 3047, 6650],
    [4047, 8828, 8732, 5743, 1091, 381],
])  # fmt: skip


def hartmann6(x: Array) -> Array:
    wells: Array = np.exp(-np.sum(A * (x[..., None, :] - P) ** 2, axis=-1))
    return -wells @ ALPHA


FUNCTIONS: dict[str, Function] = {
    "branin": Function("Branin", ((-5, 10), (0, 15)), branin, 0.397887, ((-pi, 12.275), (pi, 2.275), (9.42478, 2.475))),
    "hartmann6": Function(
        "Hartmann6", ((0, 1),) * 6, hartmann6, -3.32237, ((0.20169, 0.150011, 0.476874, 0.275332, 0.311652, 0.6573),)
    ),
}
