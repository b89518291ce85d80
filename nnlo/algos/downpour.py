"""Downpour SGD: workers push gradients to a master that applies them as they come.

Dean et al., "Large Scale Distributed Deep Networks", NIPS 2012, section 4.1; the synchronous form is
the mean of one gradient from each worker, as in Chen et al. 2016 (arXiv 1604.00981) without backups.
With n_push = n_fetch = tau, local rate eta_l, worker weights x, centre w:

    worker   s += b_j g_j(x);  x -= eta_l g_j(x);  after tau batches send a = s / sum b_j, set s = 0
    master   w <- Opt(w, a), or Opt(w, sum b_i a_i / sum b_i) when synchronous; reply w, and x = w

b is the number of samples, so that short batches count for what they hold. Gradients are sent, never
differences of weights, which would lose their low bits.

What else can be done about an update a that is d steps late, with w_i what worker i was sent last:

    staleness           the rate is eta / max(1, d) or eta / (d + 1)   Zhang et al. 2016, arXiv 1511.05950
    max staleness D     refused where d > D; the worker begins again from w
    delay compensation  a + lambda a * a * (w - w_i) in a's stead      Zheng et al. 2017, arXiv 1609.08326
    backup workers K    synchronous, and a step waits for the first M - K gradients at w alone;
                        the others come too late and are refused       Chen et al. 2016

Pipelined, a worker computes at what the last reply but one said: with one worker w_{t+1} = Opt(w_t, g(w_{t-1})).

Where replies are compressed, worker i has weights v_i near w: it is told C(w - v_i), and both ends add that to v_i.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from nnlo.algos.base import Lineage, Place, ServerAlgorithm, State, Update
from nnlo.algos.downpour_options import DIVISORS, DownpourOptions
from nnlo.algos.mean_gradient import MeanGradient
from nnlo.compress import Codec
from nnlo.errors import OptionsError
from nnlo.flat import Layout
from nnlo.optim import FlatOptimizer


class Downpour(MeanGradient, ServerAlgorithm):
    """The steps of the module's docstring."""

    sends_gradient = True
    fixed = frozenset(("known",))

    def __init__(self, options: DownpourOptions) -> None:
        super().__init__(options.sync_every)
        self.options, self.synchronous = options, options.synchronous
        self.codec, self.feedback, self.down = options.codec, options.feedback, options.down
        self.reply_is_move, self.pipelined = self.down is not None, options.pipeline
        self.reply_is_weights = not (self.reply_is_move or self.pipelined)
        self.backup_workers = options.backup_workers
        self.most_late = 0 if options.backup_workers else options.max_staleness
        self.divisor = DIVISORS[options.staleness]

    def check(self, workers: int, epochs: int) -> None:
        if self.backup_workers >= workers:
            raise OptionsError(
                f"--backup-workers {self.backup_workers} must be below the number of workers, which is {workers}: "
                "lower it or start more ranks"
            )

    def reply_wire(self, layout: Layout) -> Codec[Any] | None:
        return self.down.build(layout) if self.down else None

    def init(self, x: Tensor, update: Tensor, place: Place) -> State:
        state = {**self.summing(update), "factor": 1.0}
        if self.reply_is_move and self.options.local_lr:
            state["had"] = x.clone()
        return state

    def start(self, x: Tensor, weights: Tensor, state: State) -> None:
        super().start(x, weights, state)
        if "had" in state:
            state["had"].copy_(weights)

    def local(self, x: Tensor, gradient: Tensor, samples: int, state: State) -> None:
        super().local(x, gradient, samples, state)
        if self.options.local_lr:
            x.add_(gradient, alpha=-self.options.local_lr * state["factor"])

    def receive(self, x: Tensor, reply: Tensor, state: State) -> None:
        if "had" in state:
            x.copy_(state["had"].add_(reply))
        elif self.reply_is_move:
            x.add_(reply)
        elif x.data_ptr() != reply.data_ptr():
            x.copy_(reply)

    def init_master(self, w: Tensor, place: Place) -> State:
        return {"optimizer": place.build_optimizer(w), "known": {}}

    def accepts(self, lineage: Lineage, state: State) -> bool:
        return self.most_late is None or lineage.delay <= self.most_late

    def merge(self, updates: Sequence[Update], w: Tensor, state: State) -> Tensor:
        merged, lineage = super().merge(updates, w, state), updates[0].lineage
        if self.options.delay_compensation and lineage.delay:
            moved = w - state["known"][lineage.sender]
            merged.addcmul_(moved.mul_(merged), merged, value=self.options.delay_compensation)
        return merged

    def step(self, w: Tensor, merged: Tensor, lineages: Sequence[Lineage], state: State) -> Tensor:
        """Late updates that a master between has combined count as so many steps, at the same weights."""
        optimizer: FlatOptimizer = state["optimizer"]
        factor, steps = optimizer.factor, 1 if self.synchronous else len(lineages)
        late = max([self.divisor(lineage.delay) for lineage in lineages])
        if late == steps:
            optimizer.step(w, merged)
            return w
        optimizer.scale(factor * steps / late)
        optimizer.step(w, merged)
        optimizer.scale(factor)
        return w

    def answered(self, worker: int, w: Tensor, state: State) -> None:
        """What a worker knows is copied: the centre's weights go on in their own memory."""
        if self.options.delay_compensation:
            known: dict[int, Tensor] = state["known"]
            known[worker] = known[worker].copy_(w) if worker in known else w.clone()
