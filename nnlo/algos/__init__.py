"""The training modes by name: one line each."""

from nnlo.algos.base import Lineage, Mode, ServerAlgorithm, Update
from nnlo.algos.downpour import Downpour, DownpourOptions
from nnlo.registry import Registry

MODES: Registry[Mode] = Registry("mode")
MODES.register("downpour", Mode(DownpourOptions, Downpour, needs_optimizer=True), aliases=("sgd",))

__all__ = ["MODES", "Lineage", "Mode", "ServerAlgorithm", "Update"]
