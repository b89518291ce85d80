"""Gradient tracking on a graph (Pu and Nedic 2018, arXiv 1805.11454): nodes go along the mean of all gradients.

    x_i <- sum_j W_ij (x_j - alpha y_j);  y_i <- sum_j W_ij y_j + g_i(x_i) - g_i(x_i before)

with y_i = g_i at first, so that the mean of all y_i is always that of all g_i, and nodes whose data differ come to the
optimum of their sum. In a round of ours a node takes its gradient, brings y up to it, and sends both vectors. A node
without a batch keeps its gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nnlo.algos.base import Place, State
from nnlo.algos.gossip import GossipAlgorithm, Value, mixed
from nnlo.options import option
from nnlo.topology.graphs import GraphOptions


@dataclass(frozen=True, kw_only=True)
class DsgtOptions(GraphOptions):
    """Gradient tracking (--mode dsgt)."""

    init_grads: bool = option(
        True, help="begin with the gradients of the first batches; otherwise with 0, and those are looked at in vain"
    )


class Dsgt(GossipAlgorithm):
    """The steps of the module's docstring; x - alpha y is the optimizer's step, with `y` for a gradient."""

    vectors = 2

    def __init__(self, options: DsgtOptions) -> None:
        super().__init__(options)
        self.init_grads = options.init_grads

    def init(self, x: Tensor, update: Tensor, place: Place) -> State:
        return {
            "sent": update,
            "y": torch.zeros_like(x),
            "gradient": torch.zeros_like(x),
            "passes": not self.init_grads,
            "optimizer": place.build_optimizer(x),
        }

    def local(self, x: Tensor, gradient: Tensor, samples: int, state: State) -> None:
        if state["passes"]:
            state["passes"] = False
            return
        state["y"].add_(gradient).sub_(state["gradient"])
        state["gradient"].copy_(gradient)

    def rejoin(self, x: Tensor, place: Place, state: State) -> None:
        """The mean of all y is that of all gradients again."""
        state["y"].copy_(state["gradient"])

    def send(self, x: Tensor, state: State) -> Tensor:
        sent: Tensor = state["sent"]
        ahead, y = sent.view(2, -1)
        state["optimizer"].step(ahead.copy_(x), y.copy_(state["y"]))
        return sent

    def mix(self, x: Tensor, values: Sequence[Value], own: int, state: State) -> None:
        mixed(x, values, own, 0)
        mixed(state["y"], values, own, 1)
