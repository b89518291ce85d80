"""What searchers draw by: a stream for each trial, and a point that no other trial has."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Sequence
from enum import IntEnum

import numpy as np

from nnlo.optimize.searchers.base import Asked, Told
from nnlo.optimize.space import Space
from nnlo.optimize.trial import Parameters


class Purpose(IntEnum):
    """Streams of one seed, apart from those of `nnlo.training.seeds`, which are below 16."""

    RANDOM = 16
    GENETIC = 17
    BAYESIAN = 18
    DESIGN = 19
    OPTUNA = 20
    SAMPLER = 21


def generator(seed: int, purpose: Purpose, number: int) -> np.random.Generator:
    """The stream of one trial, whichever others were drawn before."""
    return np.random.default_rng(np.random.SeedSequence([seed, purpose, number]))


def succeeded(ended: Iterable[Told]) -> list[tuple[float, Told]]:
    """(cost, trial) of those that have a cost, in their order; one that is not finite is none."""
    return [(one.cost, one) for one in ended if one.cost is not None and math.isfinite(one.cost)]


def unlike(
    space: Space, rng: np.random.Generator, known: Sequence[Asked], proposals: Iterable[Parameters] = ()
) -> Parameters:
    """The first of `proposals` that no known trial has, else a random point that none has.

    Where the known ones are all points of the space there is nothing to avoid, and the first one is taken.
    """
    points = itertools.chain(proposals, iter(lambda: space.sample(rng), None))
    taken = {key(space, one.parameters) for one in known}
    if space.size is not None and len(taken) >= space.size:
        taken.clear()
    return next(point for point in points if key(space, point) not in taken)


def key(space: Space, point: Parameters) -> str:
    """A text that two points have in common only where they are equal, true and 1 being two."""
    return json.dumps([point[name] for name in space.names])
