"""The training modes by name: one line each."""

from nnlo.algos.allreduce import Allreduce, AllreduceOptions
from nnlo.algos.base import (
    Algorithm,
    CollectiveAlgorithm,
    Lineage,
    Mode,
    Pattern,
    Place,
    ServerAlgorithm,
    Update,
)
from nnlo.algos.downpour import Downpour, DownpourOptions
from nnlo.algos.local import Local, LocalOptions
from nnlo.registry import Registry

MODES: Registry[Mode] = Registry("mode")
MODES.register("downpour", Mode(DownpourOptions, Downpour, needs_optimizer=True), aliases=("sgd",))
MODES.register("allreduce", Mode(AllreduceOptions, Allreduce, needs_optimizer=True))
MODES.register("local", Mode(LocalOptions, Local, needs_optimizer=False))

__all__ = [
    "MODES",
    "Algorithm",
    "CollectiveAlgorithm",
    "Lineage",
    "Mode",
    "Pattern",
    "Place",
    "ServerAlgorithm",
    "Update",
]
