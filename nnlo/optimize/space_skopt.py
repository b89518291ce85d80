"""A search space out of the dimensions of scikit-optimize that a model lists as its `get_model.parameter_range`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from nnlo.errors import OptionsError
from nnlo.optimize.dimensions import Categorical, Dimension, Integer, Real
from nnlo.optimize.space import Space


def space_of_skopt(dimensions: Iterable[Any], what: str) -> Space:
    """The space of those dimensions. Raises OptionsError, which names `what`: the model, as messages name it."""
    try:
        return Space([dimension_of(given) for given in dimensions])
    except OptionsError as error:
        raise OptionsError(f"{what}: get_model.parameter_range: {error}") from None


def dimension_of(given: Any) -> Dimension:
    from skopt import space as skopt  # takes seconds, but whoever has its dimensions has paid for it

    if not isinstance(given, (skopt.Real, skopt.Integer, skopt.Categorical)):
        raise OptionsError(f"{given!r} is no dimension: write skopt.space.Real(low, high, name='...') or the like")
    if given.name is None:
        raise OptionsError(f"{given} has no name: add name='...'")
    if isinstance(given, skopt.Categorical):
        if given.prior is not None:
            raise OptionsError(f"{given.name}: all choices are equally likely here: drop prior=...")
        return Categorical(given.name, tuple(plain(choice) for choice in given.categories))
    kind = Integer if isinstance(given, skopt.Integer) else Real
    return kind(given.name, plain(given.low), plain(given.high), given.prior == "log-uniform")


def plain(value: Any) -> Any:
    """Python's own number or text in the place of numpy's."""
    return value.item() if isinstance(value, np.generic) else value
