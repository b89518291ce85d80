"""torch's optimizers on one flat tensor, in place."""

from nnlo.optim.flat_optimizer import OPTIMIZERS, FlatOptimizer, OptimizerSpec

__all__ = ["OPTIMIZERS", "FlatOptimizer", "OptimizerSpec"]
