"""Hyperband: brackets of successive halving, from many trials that begin short to few that are trained whole.

Li et al. 2018 (arXiv 1603.06560), Algorithm 1. A rung is decided once all of its trials are in.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, pairwise

from nnlo.errors import OptionsError
from nnlo.optimize.pruners.base import Curves, Leg, Pruner, best
from nnlo.options import Options, option


@dataclass(frozen=True, kw_only=True)
class HyperbandOptions(Options):
    """Hyperband."""

    reduction: int = option(3, help="one of so many trials of a rung goes on to the next one", at_least=2)


@dataclass(frozen=True)
class Bracket:
    """The trials `numbers`, which rest at `rungs`; `reduction` is eta."""

    numbers: range
    rungs: tuple[int, ...]
    reduction: int

    def next_leg(self, resting: Mapping[int, int], curves: Curves, ended: Collection[int]) -> Leg | None:
        """Follow the bracket from rung to rung, until one of which not all trials are in.

        A trial that ended before a rung is worse there than all others.
        """
        going: Collection[int] = self.numbers
        for step, (rung, until) in enumerate(pairwise(self.rungs), 1):
            costs = {number: cost_at(rung, number, curves) for number in going}
            if any(cost is None and number not in ended for number, cost in costs.items()):
                return None
            known = {number: cost for number, cost in costs.items() if cost is not None}
            going = best(known, max(1, len(self.numbers) // self.reduction**step))
            for number in going:
                if resting.get(number) == rung:
                    return Leg(number, until)
        return None


class Hyperband(Pruner[HyperbandOptions]):
    """Trials fill the brackets s = s_max, ..., 0 in the order of their numbers, and then begin with the first again.

    With R = epochs, s_max = floor(log_eta R); bracket s has ceil((s_max + 1) eta^s / (s + 1)) trials, and its rungs
    are at the ends of epochs floor(R eta^-s), ..., floor(R / eta), R. Where the search ends before a bracket is full,
    shares of what it has go on, and one trial at least.
    """

    Settings = HyperbandOptions

    def __init__(self, epochs: int, trials: int, settings: HyperbandOptions) -> None:
        super().__init__(epochs, trials, settings)
        if epochs < settings.reduction:
            raise OptionsError(f"a trial of {epochs} epochs never rests: give --epochs {settings.reduction} or more")
        self.brackets = tuple(self._filled())

    def _filled(self) -> Iterator[Bracket]:
        eta, first = self.settings.reduction, 0
        most = whole_log(self.epochs, eta)
        for s in cycle(range(most, -1, -1)):
            if first >= self.trials:
                return
            size = -(-(most + 1) * eta**s // (s + 1))
            numbers = range(first, min(first + size, self.trials))
            yield Bracket(numbers, tuple(self.epochs // eta**i for i in range(s, -1, -1)), eta)
            first += size

    def rungs_of(self, number: int) -> Sequence[int]:
        return next(bracket.rungs for bracket in self.brackets if number in bracket.numbers)

    def next_leg(self, resting: Mapping[int, int], curves: Curves, ended: Collection[int]) -> Leg | None:
        legs = (bracket.next_leg(resting, curves, ended) for bracket in self.brackets)
        return next((leg for leg in legs if leg is not None), None)


def cost_at(rung: int, number: int, curves: Curves) -> float | None:
    """None: it has not got so far."""
    curve = curves.get(number, ())
    return curve[rung - 1] if len(curve) >= rung else None


def whole_log(number: int, base: int) -> int:
    """The largest k with base^k <= number."""
    return next(k for k in range(number) if base ** (k + 1) > number)
