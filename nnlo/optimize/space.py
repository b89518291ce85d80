"""The space of a search: its named dimensions, and its points as plain values that JSON keeps as they are."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnlo.errors import OptionsError
from nnlo.optimize.dimensions import Dimension, Value
from nnlo.optimize.trial import Parameters

#: A point of the unit cube, or anything that is like one: shape (dimensions,), from 0 to 1.
Unit = NDArray[np.float64]


class Space:
    """A point is {name: value} in the order of the dimensions; values are int, float, str, bool or None.

    Raises OptionsError where there are no dimensions, or two of a name.
    """

    def __init__(self, dimensions: Iterable[Dimension]) -> None:
        self.dimensions = tuple(dimensions)
        self.names = tuple(dimension.name for dimension in self.dimensions)
        if not self.names:
            raise OptionsError("nothing to search: give at least one parameter its range")
        if twice := sorted({name for name in self.names if self.names.count(name) > 1}):
            raise OptionsError(f"{twice[0]} is there twice (- and _ are the same): drop or rename one")

    @property
    def size(self) -> int | None:
        """How many points it has; None: as many as there are floats."""
        sizes = [dimension.size for dimension in self.dimensions]
        return None if None in sizes else math.prod(size for size in sizes if size is not None)

    def sample(self, rng: np.random.Generator) -> dict[str, Value]:
        """A random point: uniform in each dimension, log-uniform where it says `log`."""
        return self.from_unit(rng.random(len(self.dimensions)))

    def to_unit(self, params: Parameters) -> Unit:
        return np.array([dimension.to_unit(params[dimension.name]) for dimension in self.dimensions])

    def from_unit(self, unit: Unit) -> dict[str, Value]:
        """The point there, or at the nearest place of the cube."""
        places = np.clip(unit, 0.0, 1.0).tolist()
        return {one.name: one.from_unit(place) for one, place in zip(self.dimensions, places, strict=True)}

    def check(self, params: Parameters) -> None:
        """Raises OptionsError for what is no point of this space."""
        if wrong := sorted(set(params).symmetric_difference(self.names)):
            fault = "is missing" if wrong[0] in self.names else "is not searched"
            raise OptionsError(f"{wrong[0]} {fault}: the search is over {', '.join(self.names)}")
        for dimension in self.dimensions:
            dimension.check(params[dimension.name])

    def recorded(self) -> list[dict[str, Any]]:
        """The dimensions as JSON keeps them, in their order."""
        return [dimension.recorded() for dimension in self.dimensions]

    def differences(self, recorded: Sequence[Mapping[str, Any]]) -> list[str]:
        """What is other than in the space that left `recorded`, in words; nothing where they are the same."""
        now = {one["name"]: one for one in self.recorded()}
        was = {one["name"]: one for one in recorded}
        found = [f"{name} is new" for name in now if name not in was]
        found += [f"{name} is gone" for name in was if name not in now]
        found += [words for name in now if name in was for words in changes(now[name], was[name])]
        if not found and list(now) != list(was):
            found = [f"the order is {', '.join(now)} (was {', '.join(was)})"]
        return found


def changes(now: Mapping[str, Any], was: Mapping[str, Any]) -> list[str]:
    """What is other about a dimension; of one of another type no more than that."""
    keys = ["type"] if now["type"] != was["type"] else [*now]
    texts = [(key, json.dumps(now[key]), json.dumps(was.get(key))) for key in keys]
    return [f"{now['name']}: {key} is {new} (was {old})" for key, new, old in texts if new != old]
