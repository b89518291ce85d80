"""DiNNO, consensus ADMM on a graph (Yu, Vincent and Schwager 2021, arXiv 2109.08665, algorithm 1).

N_i: the neighbours of node i, l_i: the loss of its own data.

    rho <- scale rho;  p_i <- p_i + rho sum_{j in N_i} (x_i - x_j)
    x_i <- about argmin l_i(x) + <x, p_i> + rho sum_{j in N_i} |x - (x_i + x_j) / 2|^2

by tau steps of the optimizer, each on the gradient of one batch: g + p_i + 2 rho sum_j (x - (x_i + x_j) / 2). All nodes
begin at the same weights, so that the first exchange, which is none here, would change nothing. The optimizer begins
anew in each round, or goes on; its rate follows the schedule either way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nnlo.algos.base import Place, State
from nnlo.algos.gossip import GossipAlgorithm, Value
from nnlo.blocks import blocks
from nnlo.options import option
from nnlo.topology.graphs import GraphOptions


@dataclass(frozen=True, kw_only=True)
class DinnoOptions(GraphOptions):
    """Consensus ADMM, DiNNO (--mode dinno)."""

    rho: float = option(0.5, help="how much it costs a worker to differ from its neighbours", metavar="RHO", above=0)
    rho_scale: float = option(1.0003, help="what RHO is multiplied by in each round", metavar="FACTOR", above=0)
    primal_steps: int = option(2, help="steps of the optimizer between two exchanges", metavar="N", at_least=1)
    persistent_optimizer: bool = option(False, help="let the optimizer keep its state from one round to the next")


class Dinno(GossipAlgorithm):
    """The steps of the module's docstring.

    `p`: the dual variable; `anchor`: x_i at the last exchange, with `degree` neighbours; `pull`: the sum of
    (x_j - x_i) / 2 over these, so that sum_j (x - (x_i + x_j) / 2) is degree (x - anchor) - pull.
    """

    both_ways = True

    def __init__(self, options: DinnoOptions) -> None:
        super().__init__(options, options.primal_steps)
        self.options = options

    def init(self, x: Tensor, update: Tensor, place: Place) -> State:
        return {
            "sent": update,
            "p": torch.zeros_like(x),
            "anchor": torch.zeros_like(x),
            "pull": torch.zeros_like(x),
            "degree": place.neighbours,
            "rho": self.options.rho * self.options.rho_scale,
            "optimizer": place.build_optimizer(x),
        }

    def start(self, x: Tensor, weights: Tensor, state: State) -> None:
        super().start(x, weights, state)
        state["anchor"].copy_(x)
        state["pull"].zero_()

    def rejoin(self, x: Tensor, place: Place, state: State) -> None:
        """The p of all nodes add up to 0 again."""
        state["p"].zero_()
        state["degree"] = place.neighbours
        self.start(x, x, state)

    def local(self, x: Tensor, gradient: Tensor, samples: int, state: State) -> None:
        twice = 2.0 * state["rho"]
        for g, p, now, anchor, pull in blocks(gradient, state["p"], x, state["anchor"], state["pull"]):
            g.add_(p).add_(now - anchor, alpha=twice * state["degree"]).sub_(pull, alpha=twice)
        state["optimizer"].step(x, gradient)

    def send(self, x: Tensor, state: State) -> Tensor:
        sent: Tensor = state["sent"]
        return sent.copy_(x)

    def mix(self, x: Tensor, values: Sequence[Value], own: int, state: State) -> None:
        others = [value.vectors[0] for place, value in enumerate(values) if place != own]
        state["degree"] = len(others)
        state["rho"] *= self.options.rho_scale
        for p, anchor, pull, now, *theirs in blocks(state["p"], state["anchor"], state["pull"], x, *others):
            anchor.copy_(now)
            pull.zero_()
            for other in theirs:
                pull.add_(other - now, alpha=0.5)
            p.sub_(pull, alpha=2 * state["rho"])
        if not self.options.persistent_optimizer:
            state["optimizer"].reset()
