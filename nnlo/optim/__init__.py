"""torch's optimizers on one flat tensor, in place; schedules of their rate."""

from nnlo.optim.clip import NO_CLIP, Clip
from nnlo.optim.flat_optimizer import OPTIMIZERS, FlatOptimizer, OptimizerSpec
from nnlo.optim.groups import Group, groups_of
from nnlo.optim.schedules import SCHEDULES, Schedule

__all__ = [
    "NO_CLIP",
    "OPTIMIZERS",
    "SCHEDULES",
    "Clip",
    "FlatOptimizer",
    "Group",
    "OptimizerSpec",
    "Schedule",
    "groups_of",
]
