"""Asynchronous successive halving: whoever is among the best of a rung goes on to the next one, without waiting.

Li et al. 2020 (arXiv 1810.05934), Algorithm 2, with one bracket.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from nnlo.errors import OptionsError
from nnlo.optimize.pruners.base import Curves, Leg, Pruner, best
from nnlo.options import Options, option


@dataclass(frozen=True, kw_only=True)
class AshaOptions(Options):
    """Asynchronous successive halving."""

    reduction: int = option(4, help="one of so many trials of a rung goes on to the next one", at_least=2)
    grace: int = option(1, help="epochs at the end of which the first rung is", at_least=1)


class Asha(Pruner[AshaOptions]):
    """Trials rest at the rungs, the ends of epochs grace * reduction^k; the last rung is the end of the training."""

    Settings = AshaOptions

    def __init__(self, epochs: int, trials: int, settings: AshaOptions) -> None:
        super().__init__(epochs, trials, settings)
        if settings.grace >= epochs:
            raise OptionsError(f"a trial of {epochs} epochs never rests: lower the grace, or give more --epochs")
        self.rungs = [settings.grace]
        while self.rungs[-1] < epochs:
            self.rungs.append(min(self.rungs[-1] * settings.reduction, epochs))

    def rungs_of(self, number: int) -> Sequence[int]:
        return self.rungs

    def next_leg(self, resting: Mapping[int, int], curves: Curves, ended: Collection[int]) -> Leg | None:
        for rung, until in reversed(list(pairwise(self.rungs))):
            reached = {number: curve[rung - 1] for number, curve in curves.items() if len(curve) >= rung}
            for number in best(reached, len(reached) // self.settings.reduction):
                if resting.get(number) == rung:
                    return Leg(number, until)
        return None
