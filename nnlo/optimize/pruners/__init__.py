"""The pruners by name: one line each."""

from nnlo.optimize.pruners.asha import Asha
from nnlo.optimize.pruners.base import PRUNERS, Curves, Leg, Pruner, pruner_of
from nnlo.optimize.pruners.hyperband import Hyperband
from nnlo.optimize.pruners.median import Median

PRUNERS.register("none", Pruner)
PRUNERS.register("median", Median)
PRUNERS.register("asha", Asha)
PRUNERS.register("hyperband", Hyperband)

__all__ = ["PRUNERS", "Curves", "Leg", "Pruner", "pruner_of"]
