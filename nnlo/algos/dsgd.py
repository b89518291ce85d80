"""Decentralised SGD on a graph (Lian et al. 2017, arXiv 1705.09056): a step on the own data, a mean with neighbours.

W: the mixing weights, g_i: a gradient of node i's own data, Opt(x, g): an optimizer's step, for SGD x - alpha g.

    adapt-then-combine   x_i <- sum_j W_ij Opt(x_j, g_j(x_j))
    combine-then-adapt   y_i = sum_j W_ij x_j;  x_i <- Opt(y_i, g_i(y_i))
    together             x_i <- sum_j W_ij x_j + Opt(x_i, g_i(x_i)) - x_i

The last is Lian's, and all three differ by what a node has at a round's end. With `mu` the rate falls with each round,
alpha <- alpha (1 - mu alpha) (Yu et al. 2021, arXiv 2109.08665, in their experiments). With tau batches behind an
exchange a node takes tau steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nnlo.algos.base import Place, State, SyncEveryOptions
from nnlo.algos.gossip import GossipAlgorithm, Value, mixed
from nnlo.options import option
from nnlo.topology.graphs import GraphOptions

ADAPT, COMBINE, TOGETHER = "adapt-then-combine", "combine-then-adapt", "together"


@dataclass(frozen=True, kw_only=True)
class DsgdOptions(SyncEveryOptions, GraphOptions):
    """Decentralised SGD (--mode dsgd)."""

    dsgd_order: str = option(
        ADAPT,
        help="whether a worker's step comes before the mean with its neighbours, after it, or both begin at the same "
        "weights",
        choices=lambda: (ADAPT, COMBINE, TOGETHER),
    )
    dsgd_mu: float = option(
        0.0, help="let the learning rate A fall with each round, to A (1 - MU A)", metavar="MU", at_least=0
    )  # fmt: skip


class Dsgd(GossipAlgorithm):
    """The steps of the module's docstring. `sent`: the memory of what is sent.

    A round computes, then mixes, so that what a node that combines first has at the end of one is what it sent.
    """

    def __init__(self, options: DsgdOptions) -> None:
        super().__init__(options, options.sync_every)
        self.order, self.mu = options.dsgd_order, options.dsgd_mu

    def init(self, x: Tensor, update: Tensor, place: Place) -> State:
        return {"sent": update, "optimizer": place.build_optimizer(x), "factor": 1.0, "fall": 1.0}

    def start(self, x: Tensor, weights: Tensor, state: State) -> None:
        super().start(x, weights, state)
        state["sent"].copy_(x)

    def local(self, x: Tensor, gradient: Tensor, samples: int, state: State) -> None:
        state["optimizer"].step(x, gradient)

    def send(self, x: Tensor, state: State) -> Tensor:
        sent: Tensor = state["sent"]
        return sent if self.order == TOGETHER else sent.copy_(x)

    def mix(self, x: Tensor, values: Sequence[Value], own: int, state: State) -> None:
        if self.order == TOGETHER:
            x.sub_(state["sent"])
            x.add_(mixed(torch.empty_like(x), values, own))
            state["sent"].copy_(x)
        else:
            mixed(x, values, own)
        if self.mu:
            state["fall"] *= 1.0 - self.mu * state["optimizer"].lr
            self.scale(state["factor"], state)

    def shown(self, x: Tensor, state: State) -> Tensor:
        return state["sent"] if self.order == COMBINE else x

    def scale(self, factor: float, state: State) -> None:
        state["factor"] = factor
        state["optimizer"].scale(factor * state["fall"])
