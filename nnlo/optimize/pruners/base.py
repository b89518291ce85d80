"""What a pruner is: it tells which trials stop early, and which of those that rest go on."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from nnlo.compress.base import checked_settings
from nnlo.errors import OptionsError
from nnlo.options import Options, parse_params
from nnlo.registry import Registry

S = TypeVar("S", bound=Options)

#: The cost of each trial at each epoch's end, from the first one: less is better, NaN is worse than all.
Curves = Mapping[int, Sequence[float]]


@dataclass(frozen=True)
class Leg:
    """A trial, and the epoch until which it trains before it is looked at again."""

    number: int
    until: int


class Pruner(Generic[S]):
    """Looks at the costs of all trials at the ends of epochs.

    A trial trains until the end of its leg. Where that is the end of the whole training, of `epochs`, it has ended;
    otherwise it rests there, and `next_leg` tells which of the resting trials is worth going on with, which may be the
    same. `trials`: how many the search makes. What it answers depends on its settings and on what it is given alone.
    This one prunes nothing.
    """

    Settings: ClassVar[type[Options]] = Options

    def __init__(self, epochs: int, trials: int, settings: S) -> None:
        """Raises OptionsError for settings with which it would prune nothing."""
        self.epochs, self.trials, self.settings = epochs, trials, settings

    def rungs_of(self, number: int) -> Sequence[int]:
        """The ends of epochs at which that trial rests, and that of a whole training."""
        return (self.epochs,)

    def first_leg(self, number: int, trained: int = 0) -> Leg:
        """What a new trial trains at first, or one that was cut off with `trained` epochs behind it: until a rung.

        One that was cut off at a rung had been found worth going on with.
        """
        return Leg(number, next((rung for rung in self.rungs_of(number) if rung > trained), self.epochs))

    def stops(self, number: int, curves: Curves) -> str | None:
        """Why this trial, which has just ended an epoch within its leg, is to stop for good; None: it goes on."""
        return None

    def next_leg(self, resting: Mapping[int, int], curves: Curves, ended: Collection[int]) -> Leg | None:
        """Which of the `resting` trials, {number: the epoch at which it rests}, goes on now, and until when.

        curves: of all trials that have begun, also of those that ended. ended: trials that will not go on, for
        whatever reason. None: no trial goes on, as things are; a new one may begin.
        """
        return None


PRUNERS: Registry[type[Pruner[Any]]] = Registry("pruner", "--pruner")


def pruner_of(text: str, epochs: int, trials: int) -> Pruner[Any]:
    """What the flag says, "asha" or "asha:reduction=3,grace=2". Raises OptionsError."""
    name, _, params = text.partition(":")
    kind = PRUNERS[name]
    try:
        return kind(epochs, trials, checked_settings(kind.Settings, parse_params(params)))
    except OptionsError as error:
        raise OptionsError(f"--pruner {text}: {error}") from None


def best(costs: Mapping[int, float], count: int) -> list[int]:
    """The `count` trials of least cost, best first and ties by number; none of them is one whose cost is NaN."""
    known = {number: cost for number, cost in costs.items() if not math.isnan(cost)}
    return sorted(known, key=lambda number: (known[number], number))[:count]
