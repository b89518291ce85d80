"""The options of modes whose workers take optimizer steps of their own between two exchanges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nnlo.errors import OptionsError
from nnlo.optim import OPTIMIZERS, FlatOptimizer, OptimizerSpec
from nnlo.options import Options, option

#: The rate of a worker's SGD without momentum where none is given: ten times what suits it with one of 0.9.
SGD_RATE = 0.1


@dataclass(frozen=True, kw_only=True)
class WorkerOptimizerOptions(Options):
    """The workers' own optimizer (--mode easgd, local)."""

    worker_optimizer: str = option(
        "sgd", help="the optimizer of a worker's own steps between two exchanges", choices=lambda: OPTIMIZERS
    )
    worker_optimizer_params: dict[str, Any] = option(
        {},
        help=f"its settings, as lr=0.05,momentum=0.9 or a JSON object (sgd without momentum: lr={SGD_RATE:g})",
        metavar="K=V,...",
    )

    def check(self) -> None:
        super().check()
        _ = self.worker_spec

    @property
    def worker_settings(self) -> dict[str, Any]:
        """The settings of the worker's optimizer; a mode with flags for some of them adds those."""
        given = self.worker_optimizer_params
        plain = self.worker_optimizer == "sgd" and not given.keys() & {"learning_rate", "momentum"}
        return {"lr": SGD_RATE, **given} if plain else dict(given)

    @property
    def worker_spec(self) -> OptimizerSpec:
        """Raises OptionsError."""
        try:
            return OptimizerSpec.of(self.worker_optimizer, self.worker_settings)
        except OptionsError as error:
            raise OptionsError(f"--worker-optimizer, --worker-optimizer-params: {error}") from None

    def build_worker_optimizer(self, vector: Tensor) -> FlatOptimizer:
        return self.worker_spec.build(vector)

    def sound(self, optimizer: FlatOptimizer, vector: Tensor, factor: float) -> FlatOptimizer:
        """`optimizer`, or a new one at `factor` times its rate where an inf or nan has got into its state."""
        if finite_state(optimizer):
            return optimizer
        fresh = self.build_worker_optimizer(vector)
        fresh.scale(factor)
        return fresh

    @property
    def worker_rate(self) -> float:
        """The learning rate that the worker's optimizer begins with."""
        return self.worker_spec.build(torch.zeros(1)).lr


def finite_state(optimizer: FlatOptimizer) -> bool:
    """Whether no tensor that an optimizer keeps has an inf or nan."""
    kept = [value for state in optimizer.state_dict()["state"].values() for value in state.values()]
    return all(bool(torch.isfinite(value).all()) for value in kept if isinstance(value, Tensor))
