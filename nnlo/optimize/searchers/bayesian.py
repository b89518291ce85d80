"""Bayesian search: a Gaussian process over what is known says where it pays most to look next.

The process and its expected improvement are scikit-optimize's. Trials that run are told to it as if they had come out
as it expects (the kriging believer of Ginsbourger et al. 2010), so that it looks where it is not sure of anything yet.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from nnlo.errors import OptionsError
from nnlo.optimize.dimensions import Categorical, Dimension, Integer, Range, Value
from nnlo.optimize.searchers.base import Asked, Searcher, Told
from nnlo.optimize.searchers.draws import Purpose, generator, succeeded, unlike
from nnlo.optimize.space import Space, Unit
from nnlo.optimize.trial import Parameters

#: Trials at the beginning that fill the space, at most, and at most half of all.
DESIGNED = 10

#: Dimensions of the Sobol sequence that scikit-optimize has; a Gaussian process is at a loss long before.
MOST = 40

#: Variance, beside 1 of all costs, without which a process could not be solved for points that lie close together.
LEAST_NOISE = 1e-10


class Bayesian(Searcher):
    """The first trials fill the space; for each later one the process is fitted anew to all that is known.

    A failed trial counts as much as the worst that succeeded; while none has, the search goes on filling the space.
    """

    def __init__(self, space: Space, seed: int, iterations: int) -> None:
        super().__init__(space, seed, iterations)
        if len(space.names) > MOST:
            raise OptionsError(f"--hyper-opt bayesian searches at most {MOST} parameters, not {len(space.names)}")
        self.designed = min(DESIGNED, max(1, iterations // 2))

    def ask(self, number: int, ended: Sequence[Told], running: Sequence[Asked]) -> Parameters:
        rng = generator(self.seed, Purpose.BAYESIAN, number)
        if number < self.designed or not succeeded(ended):
            point: Parameters = self.space.from_unit(self.design(number))
        else:
            point = self._promising(rng, ended, running)
        return unlike(self.space, rng, [*ended, *running], [point])

    def design(self, number: int) -> Unit:
        """That point of a Sobol sequence, shifted at random modulo 1 (Cranley and Patterson 1976)."""
        from skopt.sampler import Sobol  # takes seconds

        seed = int(generator(self.seed, Purpose.DESIGN, 0).integers(2**32))
        enough = 2 ** number.bit_length()
        points = Sobol().generate([(0.0, 1.0)] * len(self.space.names), enough, random_state=seed)
        return np.array(points[number])

    def _promising(self, rng: np.random.Generator, ended: Sequence[Told], running: Sequence[Asked]) -> Parameters:
        """The point of the greatest expected improvement."""
        from skopt import Optimizer

        dimensions, seed = [dimension_for(one) for one in self.space.dimensions], int(rng.integers(2**32))
        known, pending = ([coordinates(self.space, one.parameters) for one in some] for some in (ended, running))
        process, expected = believed(dimensions, known, costs(ended), pending, seed)
        optimizer = Optimizer(
            dimensions, base_estimator=process, n_initial_points=0, acq_func="EI", random_state=seed
        )  # fmt: skip
        optimizer.tell(known + pending, costs(ended) + expected)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The objective has been evaluated at point")  # `unlike` sees to it
            found = optimizer.ask()
        return {one.name: value_of(one, value) for one, value in zip(self.space.dimensions, found, strict=True)}


def believed(
    dimensions: list[Any], known: list[list[Any]], values: list[float], pending: list[list[Any]], seed: int
) -> tuple[Any, list[float]]:
    """A process with the kernel that fits what is known, and what that expects of the pending points.

    Its kernel is fixed: what is only believed has no say in that, nor is it fitted twice.
    """
    from skopt.learning import GaussianProcessRegressor
    from skopt.utils import cook_estimator, normalize_dimensions

    space = normalize_dimensions(dimensions)
    fitted = cook_estimator("GP", space=space, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of bounds that a length scale comes close to, as scikit-optimize does
        fitted.fit(space.transform(known), values)
    expected = fitted.predict(space.transform(pending)).tolist() if pending else []
    noise = max(float(fitted.noise_ or 0.0), LEAST_NOISE)
    return GaussianProcessRegressor(fitted.kernel_, alpha=noise, optimizer=None, normalize_y=True), expected


def costs(ended: Sequence[Told]) -> list[float]:
    """What the process is told: of a failed trial the worst cost."""
    known = {one.number: cost for cost, one in succeeded(ended)}
    worst = max(known.values())
    return [known.get(one.number, worst) for one in ended]


def dimension_for(dimension: Dimension) -> Any:
    """That of scikit-optimize; a choice is its place in the list, for a mixture of types would become texts."""
    from skopt.space import space as skopt

    if isinstance(dimension, Categorical):
        return skopt.Categorical(range(dimension.size))
    assert isinstance(dimension, Range)
    kind = skopt.Integer if isinstance(dimension, Integer) else skopt.Real
    return kind(dimension.low, dimension.high, prior="log-uniform" if dimension.log else "uniform")


def coordinates(space: Space, point: Parameters) -> list[Any]:
    """A point as scikit-optimize knows it."""
    return [
        one.choices.index(point[one.name]) if isinstance(one, Categorical) else point[one.name]
        for one in space.dimensions
    ]


def value_of(dimension: Dimension, found: Any) -> Value:
    """What scikit-optimize means by it, as a plain value."""
    if isinstance(dimension, Categorical):
        return dimension.choices[int(found)]
    return int(found) if isinstance(dimension, Integer) else float(found)
