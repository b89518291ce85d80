"""Stops a trial whose best cost so far is worse than the median of what the others had on average by then.

Golovin et al. 2017, "Google Vizier", section 3.2.2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median

from nnlo.errors import OptionsError
from nnlo.optimize.pruners.base import Curves, Pruner
from nnlo.options import Options, option


@dataclass(frozen=True, kw_only=True)
class MedianOptions(Options):
    """Median stopping."""

    grace: int = option(1, help="epochs that each trial trains at least", at_least=1)
    min_trials: int = option(3, help="other trials that have got as far, at least, before one is stopped", at_least=1)


class Median(Pruner[MedianOptions]):
    """Compares at the end of each epoch but the last one; trials that ended count as others do, as far as they got."""

    Settings = MedianOptions

    def __init__(self, epochs: int, trials: int, settings: MedianOptions) -> None:
        super().__init__(epochs, trials, settings)
        if settings.grace >= epochs:
            raise OptionsError(f"a trial of {epochs} epochs never stops early: lower the grace, or give more --epochs")

    def stops(self, number: int, curves: Curves) -> str | None:
        epoch = len(curves[number])
        others = [curve[:epoch] for other, curve in curves.items() if other != number and len(curve) >= epoch]
        if not self.settings.grace <= epoch < self.epochs or len(others) < self.settings.min_trials:
            return None
        if least(curves[number]) > median(map(mean, others)):
            return f"after epoch {epoch} its best is worse than the median of the means of {len(others)} others"
        return None


def least(costs: Sequence[float]) -> float:
    """The best of them; inf where all are NaN."""
    return min((cost for cost in costs if not math.isnan(cost)), default=math.inf)


def mean(costs: Sequence[float]) -> float:
    """Their mean; inf where one is NaN."""
    found = fmean(costs)
    return math.inf if math.isnan(found) else found
