"""Grid search: the product of a few values of each dimension, point by point."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

from nnlo.errors import OptionsError
from nnlo.optimize.searchers.base import Asked, Searcher, Told
from nnlo.optimize.space import Space
from nnlo.optimize.trial import Parameters


class Grid(Searcher):
    """All points in order, the last dimension running fastest; no more than `iterations` of them.

    points: values of a real dimension, evenly (by ratios where it says `log`) from end to end; an integer one has at
    most so many distinct ones, a categorical one all its choices.
    """

    settings: ClassVar[Mapping[str, str]] = {"grid_points": "points"}

    def __init__(self, space: Space, seed: int, iterations: int, *, points: int = 5) -> None:
        super().__init__(space, seed, iterations)
        if points < 2:
            raise OptionsError(f"--grid-points must be at least 2, the two ends of a range, not {points}")
        self.axes = [dimension.grid(points) for dimension in space.dimensions]

    @property
    def size(self) -> int:
        """Points of the whole grid."""
        return math.prod(map(len, self.axes))

    @property
    def trials(self) -> int:
        return min(self.iterations, self.size)

    def ask(self, number: int, ended: Sequence[Told], running: Sequence[Asked]) -> Parameters:
        values = []
        for axis in reversed(self.axes):
            number, place = divmod(number, len(axis))
            values.append(axis[place])
        return dict(zip(self.space.names, reversed(values), strict=True))
