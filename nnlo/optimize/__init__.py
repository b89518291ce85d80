"""Search of hyperparameters: a coordinator, blocks of ranks that train trials, searchers and pruners."""

from nnlo.optimize.api import optimize
from nnlo.optimize.search import Limits, Search
from nnlo.optimize.space import Space
from nnlo.optimize.trial import Status, Trial

__all__ = ["Limits", "Search", "Space", "Status", "Trial", "optimize"]
