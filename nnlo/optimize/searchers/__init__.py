"""The searchers by name: one line each."""

from nnlo.optimize.searchers.base import SEARCHERS, Asked, Searcher, Told
from nnlo.optimize.searchers.bayesian import Bayesian
from nnlo.optimize.searchers.genetic import Genetic
from nnlo.optimize.searchers.grid import Grid
from nnlo.optimize.searchers.optuna import Optuna
from nnlo.optimize.searchers.random import Random

SEARCHERS.register("bayesian", Bayesian)
SEARCHERS.register("random", Random)
SEARCHERS.register("grid", Grid)
SEARCHERS.register("genetic", Genetic)
SEARCHERS.register("optuna", Optuna)

__all__ = ["SEARCHERS", "Asked", "Searcher", "Told"]
