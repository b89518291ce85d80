"""Updates that are the mean gradient of the batches behind them, by samples."""

from __future__ import annotations

from torch import Tensor

from nnlo.algos.base import Algorithm, State


class MeanGradient(Algorithm):
    """A worker's side of modes that send gradients: a = sum b_j g_j / sum b_j over `sync_every` batches.

    With one batch behind an update, the backward pass writes it where it is sent from.
    """

    def __init__(self, sync_every: int) -> None:
        self.sync_every = sync_every
        self.gradient_is_update = sync_every == 1

    def summing(self, update: Tensor) -> State:
        """The state that this needs."""
        return {"sum": update, "samples": 0}

    def start(self, x: Tensor, weights: Tensor, state: State) -> None:
        super().start(x, weights, state)
        state["samples"] = 0

    def local(self, x: Tensor, gradient: Tensor, samples: int, state: State) -> None:
        if self.gradient_is_update:
            return
        if state["samples"] == 0:
            state["sum"].zero_()
        state["sum"].add_(gradient, alpha=samples)
        state["samples"] += samples

    def send(self, x: Tensor, state: State) -> Tensor:
        update: Tensor = state["sum"]
        if not self.gradient_is_update:
            update.div_(state["samples"])
            state["samples"] = 0
        return update
