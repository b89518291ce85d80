"""Local SGD and its outer optimizers: workers take steps of their own, and then average where they have got to.

    worker   x <- Inner(x, g), for tau batches;  D_i = w - x
    all      D = sum b_i D_i / sum b_i
             u = beta u + D;  w -= alpha (D + beta u if nesterov else u);  x = w

with w the weights after the last exchange, the same everywhere, and b the samples behind D_i. The inner
optimizer's state stays where it is.

- alpha = 1, beta = 0: x is the mean of the workers' weights, local SGD (Stich 2019, arXiv 1805.09767).
- Post-local SGD (Lin et al. 2020, arXiv 1808.07217) exchanges every batch until an epoch, and every tau batches from
  then on. While every batch is exchanged, w is the plain mean, and u rests.
- SlowMo (Wang et al. 2020, arXiv 1910.00643, algorithm 1) is alpha and beta without nesterov. It keeps u / gamma, with
  gamma the inner rate, so that u here, whenever a schedule changes the rate, is changed in proportion. One
  worker with beta = 0 is Lookahead.
- DiLoCo (Douillard et al. 2023, arXiv 2311.08105) is AdamW inside, and alpha = 0.7, beta = 0.9 with nesterov
  outside; that u follows a schedule is SlowMo's.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nnlo.algos.base import CollectiveAlgorithm, Place, State, SyncEveryOptions
from nnlo.algos.worker_optimizer import WorkerOptimizerOptions
from nnlo.compress.options import CompressOptions
from nnlo.errors import OptionsError
from nnlo.options import option


@dataclass(frozen=True, kw_only=True)
class LocalOptions(SyncEveryOptions, WorkerOptimizerOptions, CompressOptions):
    """Local SGD, SlowMo, DiLoCo (--mode local)."""

    reduces = True

    outer_lr: float = option(
        1.0, help="how far the weights move towards the mean of the workers': 1 is all the way", metavar="RATE", above=0
    )
    outer_momentum: float = option(
        0.0, help="momentum of the moves from one exchange to the next", metavar="FACTOR", at_least=0, below=1
    )
    nesterov_outer: bool = option(False, help="take the outer momentum in Nesterov's form")
    post_local_from: int | None = option(
        None,
        help="exchange every batch in the first EPOCH epochs, and every TAU batches after them",
        metavar="EPOCH",
        at_least=1,
    )

    def check(self) -> None:
        super().check()
        if self.nesterov_outer and not self.outer_momentum:
            raise OptionsError("--nesterov-outer needs --outer-momentum: give one above 0, or drop it")
        if self.post_local_from is not None and self.sync_every == 1:
            raise OptionsError(
                "--post-local-from has no effect with --sync-every 1: give --sync-every 2 or more, or drop it"
            )


class Local(CollectiveAlgorithm):
    """The steps of the module's docstring."""

    rate_flag = "--worker-optimizer-params lr=..."
    alike = frozenset(("w", "u", "u_factor", "averages"))

    def __init__(self, options: LocalOptions) -> None:
        self.options = options
        self.sync_every, self.rate = options.sync_every, options.worker_rate
        self.codec, self.feedback = options.codec, options.feedback
        self.averaged_until = options.post_local_from or 0

    def check(self, workers: int, epochs: int) -> None:
        if self.averaged_until >= epochs:
            raise OptionsError(
                f"--post-local-from {self.averaged_until} has no effect with --epochs {epochs}: lower it, or drop it"
            )

    def batches(self, epoch: int) -> int:
        return 1 if epoch < self.averaged_until else self.sync_every

    def init(self, x: Tensor, update: Tensor, place: Place) -> State:
        """`u` moves with the rate: it is in the unit of steps at `u_factor` times the first rate."""
        state = {"w": x.clone(), "delta": update, "optimizer": self.options.build_worker_optimizer(x)}
        state |= {"factor": 1.0, "averages": self.averaged_until > 0}
        return state | ({"u": torch.zeros_like(x), "u_factor": 1.0} if self.options.outer_momentum else {})

    def start(self, x: Tensor, weights: Tensor, state: State) -> None:
        super().start(x, weights, state)
        state["w"].copy_(weights)

    def begin(self, epoch: int, state: State) -> None:
        state["averages"] = epoch < self.averaged_until

    def local(self, x: Tensor, gradient: Tensor, samples: int, state: State) -> None:
        state["optimizer"].step(x, gradient)

    def send(self, x: Tensor, state: State) -> Tensor:
        return torch.sub(state["w"], x, out=state["delta"])

    def apply(self, x: Tensor, merged: Tensor, state: State) -> None:
        if state["averages"]:
            state["w"].sub_(merged)
        else:
            state["w"].sub_(self.direction(merged, state), alpha=self.options.outer_lr)
        x.copy_(state["w"])

    def direction(self, delta: Tensor, state: State) -> Tensor:
        """What the outer step goes along, from the workers' mean `delta`, shape (n,), which may be overwritten.

        At a rate of 0 workers stand still, and u rests.
        """
        beta, factor = self.options.outer_momentum, state["factor"]
        if not beta or not factor:
            return delta
        u: Tensor = state["u"].mul_(beta * (factor / state["u_factor"])).add_(delta)
        state["u_factor"] = factor
        return delta.add_(u, alpha=beta) if self.options.nesterov_outer else u

    def dropped(self, x: Tensor, state: State) -> None:
        """An inner optimizer that has kept an inf or nan begins anew."""
        state["optimizer"] = self.options.sound(state["optimizer"], x, state["factor"])

    def refused(self, x: Tensor, state: State) -> None:
        x.copy_(state["w"])
