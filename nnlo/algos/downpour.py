"""Downpour SGD: workers push gradients to a master that applies them as they come.

Dean et al., "Large Scale Distributed Deep Networks", NIPS 2012, section 4.1; the synchronous form is
the mean of one gradient from each worker, as in Chen et al. 2016 (arXiv 1604.00981) without backups.
With n_push = n_fetch = tau, local rate eta_l, worker weights x, centre w:

    worker   s += b_j g_j(x);  x -= eta_l g_j(x);  after tau batches send a = s / sum b_j, set s = 0
    master   w <- Opt(w, a), or Opt(w, sum b_i a_i / sum b_i) when synchronous; reply w, and x = w

b is the number of samples, so that short batches count for what they hold. Gradients are sent, never
differences of weights, which would lose their low bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from nnlo.algos.base import Lineage, Place, ServerAlgorithm, ServerOptions, State
from nnlo.compress.options import CompressOptions
from nnlo.errors import OptionsError
from nnlo.options import option


@dataclass(frozen=True, kw_only=True)
class DownpourOptions(ServerOptions, CompressOptions):
    """Downpour SGD (--mode downpour)."""

    local_lr: float = option(
        0.0, help="learning rate of a worker's own steps between two exchanges; 0 keeps its weights still", at_least=0.0
    )

    def check(self) -> None:
        super().check()
        if self.local_lr and self.sync_every == 1:
            raise OptionsError("--local-lr has no effect with --sync-every 1: give --sync-every 2 or more, or drop it")


class Downpour(ServerAlgorithm):
    """The steps of the module's docstring."""

    reply_is_weights = True
    sends_gradient = True

    def __init__(self, options: DownpourOptions) -> None:
        self.options = options
        self.synchronous, self.sync_every = options.synchronous, options.sync_every
        self.gradient_is_update = options.sync_every == 1
        self.codec, self.feedback = options.codec, options.feedback

    def init(self, x: Tensor, update: Tensor, place: Place) -> State:
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
        if self.options.local_lr:
            x.add_(gradient, alpha=-self.options.local_lr)

    def send(self, x: Tensor, state: State) -> Tensor:
        update: Tensor = state["sum"]
        if not self.gradient_is_update:
            update.div_(state["samples"])
            state["samples"] = 0
        return update

    def receive(self, x: Tensor, reply: Tensor, state: State) -> None:
        if x.data_ptr() != reply.data_ptr():
            x.copy_(reply)

    def init_master(self, w: Tensor, place: Place) -> State:
        return {"optimizer": place.build_optimizer(w)}

    def step(self, w: Tensor, merged: Tensor, lineages: Sequence[Lineage], state: State) -> Tensor:
        state["optimizer"].step(w, merged)
        return w
