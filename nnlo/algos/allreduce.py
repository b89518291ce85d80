"""Synchronous data parallel training: the mean gradient of all workers, and the same step on each.

    all   g = sum b_i g_i / sum b_i;  x <- Opt(x, g)

with b the samples behind a worker's gradient, so that M workers with batch b step as one process with batch M b.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from nnlo.algos.base import CollectiveAlgorithm, Place, State, SyncEveryOptions
from nnlo.compress.options import CompressOptions


@dataclass(frozen=True, kw_only=True)
class AllreduceOptions(SyncEveryOptions, CompressOptions):
    """Synchronous data parallel (--mode allreduce)."""


class Allreduce(CollectiveAlgorithm):
    """The step of the module's docstring; a gradient of several batches is their mean by samples."""

    sends_gradient = True

    def __init__(self, options: AllreduceOptions) -> None:
        self.sync_every = options.sync_every
        self.gradient_is_update = options.sync_every == 1
        self.codec, self.feedback = options.codec, options.feedback

    def init(self, x: Tensor, update: Tensor, place: Place) -> State:
        return {"sum": update, "samples": 0, "optimizer": place.build_optimizer(x)}

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

    def apply(self, x: Tensor, merged: Tensor, state: State) -> None:
        state["optimizer"].step(x, merged)
