"""What the ready-made models ask of their parameters."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

from nnlo.errors import OptionsError


def whole(model: str, name: str, value: Any, least: int, most: int | None = None) -> int:
    """`value` as an int, from `least` to `most`. Raises OptionsError, naming the model and the parameter."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise OptionsError(f"model '{model}': {name} is {value}, give a whole number")
    if not _between(int(value), least, most):
        raise OptionsError(f"model '{model}': {name} is {value}, give {_limits(least, most)}")
    return int(value)


def share(model: str, name: str, value: Any) -> float:
    """`value` as a float, from 0 to 1. Raises OptionsError, naming the model and the parameter."""
    if isinstance(value, bool) or not isinstance(value, Real) or not _between(float(value), 0, 1):
        raise OptionsError(f"model '{model}': {name} is {value}, give {_limits(0, 1)}")
    return float(value)


def _between(value: float, least: float, most: float | None) -> bool:
    return least <= value <= (math.inf if most is None else most)


def _limits(least: float, most: float | None) -> str:
    return f"{least} or more" if most is None else f"{least} to {most}"
