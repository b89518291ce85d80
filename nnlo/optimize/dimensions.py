"""The dimensions of a search space: which values a hyperparameter may take, and how they lie on the unit interval.

A uniform draw from [0, 1] gives each dimension the draw that is meant: uniform, or log-uniform where it says `log`;
an integer k owns what lies between k - 1/2 and k + 1/2, a choice as much as any other.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

from nnlo.errors import OptionsError

Value: TypeAlias = int | float | str | bool | None

#: Beyond it the halves between two neighbours, on a log scale too, are lost in the rounding of a float.
LARGEST_INTEGER = 2**40


@dataclass(frozen=True)
class Dimension(ABC):
    """A hyperparameter by name; dashes in it are underscores. Raises OptionsError for what cannot be searched."""

    name: str
    kind: ClassVar[str]

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", checked_name(self.name))

    @property
    @abstractmethod
    def size(self) -> int | None:
        """How many values there are; None: as many as there are floats."""

    @abstractmethod
    def from_unit(self, place: float) -> Value:
        """The value at `place`, 0 to 1."""

    @abstractmethod
    def to_unit(self, value: Any) -> float:
        """The place of a value; of an integer or a choice, well within what it owns."""

    @abstractmethod
    def grid(self, points: int) -> Sequence[Value]:
        """At most so many distinct values (of choices all), evenly spread from end to end."""

    @abstractmethod
    def check(self, value: Any) -> None:
        """Raises OptionsError for what is none of its values."""

    @abstractmethod
    def recorded(self) -> dict[str, Any]:
        """As JSON keeps it."""


@dataclass(frozen=True)
class Range(Dimension):
    """From `low` to `high`, both included; by their ratio where `log`."""

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for end in ("low", "high"):
            object.__setattr__(self, end, self._number(end, getattr(self, end)))
        if not isinstance(self.log, bool):
            raise OptionsError(f"{self.name}: log must be true or false, not {self.log!r}")
        if not self.low < self.high:
            raise OptionsError(f"{self.name}: low must be below high, but {self.low} is not below {self.high}")
        if self.log and self.low <= 0:
            raise OptionsError(f"{self.name}: log needs a low above 0, not {self.low}: raise it, or drop log")

    @abstractmethod
    def _number(self, end: str, value: Any) -> float:
        """That end as a plain number."""

    def recorded(self) -> dict[str, Any]:
        return {"name": self.name, "type": self.kind, "low": self.low, "high": self.high, "log": self.log}


@dataclass(frozen=True)
class Real(Range):
    kind = "real"

    @property
    def size(self) -> None:
        return None

    def from_unit(self, place: float) -> float:
        return min(max(stretched(place, self.low, self.high, self.log), self.low), self.high)

    def to_unit(self, value: Any) -> float:
        return placed(value, self.low, self.high, self.log)

    def grid(self, points: int) -> Sequence[Value]:
        return [self.from_unit(k / (points - 1)) for k in range(points)]

    def check(self, value: Any) -> None:
        if not is_number(value) or not self.low <= value <= self.high:
            raise OptionsError(f"{self.name} must be a number from {self.low} to {self.high}, not {value!r}")

    def _number(self, end: str, value: Any) -> float:
        if not is_number(value):
            raise OptionsError(f"{self.name}: {end} must be a finite number, not {value!r}")
        return float(value)


@dataclass(frozen=True)
class Integer(Range):
    low: int
    high: int
    kind = "integer"

    @property
    def size(self) -> int:
        return self.high - self.low + 1

    def from_unit(self, place: float) -> int:
        return self._nearest(stretched(place, self.low - 0.5, self.high + 0.5, self.log))

    def to_unit(self, value: Any) -> float:
        return placed(value, self.low - 0.5, self.high + 0.5, self.log)

    def grid(self, points: int) -> Sequence[Value]:
        if self.size <= points:
            return range(self.low, self.high + 1)
        places = (k / (points - 1) for k in range(points))
        return sorted({self._nearest(stretched(place, self.low, self.high, self.log)) for place in places})

    def check(self, value: Any) -> None:
        if not isinstance(value, int) or isinstance(value, bool) or not self.low <= value <= self.high:
            raise OptionsError(f"{self.name} must be a whole number from {self.low} to {self.high}, not {value!r}")

    def _nearest(self, value: float) -> int:
        return min(max(math.floor(value + 0.5), self.low), self.high)

    def _number(self, end: str, value: Any) -> int:
        if not is_number(value) or value != int(value):
            raise OptionsError(f"{self.name}: {end} must be a whole number, not {value!r}: or make it real")
        if abs(value) > LARGEST_INTEGER:
            raise OptionsError(f"{self.name}: {end} must be within 2^40 of 0, not {value}")
        return int(value)


@dataclass(frozen=True)
class Categorical(Dimension):
    """One of `choices`, which have no order: numbers, texts, true, false or null, no two of them equal."""

    choices: tuple[Value, ...]
    kind = "categorical"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.choices, (list, tuple)) or not self.choices:
            raise OptionsError(f"{self.name}: choices must be a list of at least one, not {self.choices!r}")
        object.__setattr__(self, "choices", tuple(self.choices))
        for place, choice in enumerate(self.choices):
            if not (choice is None or isinstance(choice, (str, bool)) or is_number(choice)):
                raise OptionsError(
                    f"{self.name}: a choice must be a finite number, a text, true, false or null, not {choice!r}"
                )
            if choice in self.choices[:place]:
                equal = self.choices[self.choices.index(choice)]
                raise OptionsError(f"{self.name}: the choices {equal!r} and {choice!r} are the same: drop one of them")

    @property
    def size(self) -> int:
        return len(self.choices)

    def from_unit(self, place: float) -> Value:
        return self.choices[min(int(place * self.size), self.size - 1)]

    def to_unit(self, value: Any) -> float:
        return (self.choices.index(value) + 0.5) / self.size

    def grid(self, points: int) -> Sequence[Value]:
        return self.choices

    def check(self, value: Any) -> None:
        if not any(value == choice and type(value) is type(choice) for choice in self.choices):
            raise OptionsError(f"{self.name} must be one of {', '.join(map(repr, self.choices))}, not {value!r}")

    def recorded(self) -> dict[str, Any]:
        return {"name": self.name, "type": self.kind, "choices": list(self.choices)}


def checked_name(name: Any) -> str:
    found = name.replace("-", "_") if isinstance(name, str) else ""
    if not found.isidentifier():
        raise OptionsError(f"{name!r} is no name of a parameter: use letters, digits and _")
    return found


def is_number(value: Any) -> bool:
    """Whether it is a finite int or float."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def stretched(place: float, low: float, high: float, log: bool) -> float:
    """What lies at `place` on the way from low (0) to high (1), exactly so at both ends; by ratios where `log`."""
    if log:
        return float(low ** (1.0 - place) * high**place)
    return (1.0 - place) * low + place * high


def placed(value: float, low: float, high: float, log: bool) -> float:
    """Where `stretched` has that value."""
    if log:
        return math.log(value / low) / math.log(high / low)
    return (value - low) / (high - low)
