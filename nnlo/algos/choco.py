"""CHOCO-SGD: compressed gossip (Koloskova, Stich and Jaggi 2019, arXiv 1902.00340, algorithm 2).

h_i: what all who hear node i know of its weights, Q: a codec.

    x_i <- Opt(x_i, g_i);  q_i = Q(x_i - h_i);  h_i <- h_i + q_i
    x_i <- x_i + gamma sum_j W_ij (h_j - h_i)

A node keeps h_i and s_i = sum_j W_ij h_j, which grows by sum_j W_ij q_j. Both begin at the weights that all nodes
begin with. What a codec leaves out of one difference is part of the next, so that nothing is lost. Without a codec and
with gamma = 1 this is decentralised SGD that adapts, then combines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nnlo.algos.base import Place, State, SyncEveryOptions
from nnlo.algos.gossip import GossipAlgorithm, Value
from nnlo.blocks import blocks
from nnlo.compress.options import CompressOptions
from nnlo.errors import OptionsError
from nnlo.options import option
from nnlo.topology.graphs import GraphOptions


@dataclass(frozen=True, kw_only=True)
class ChocoOptions(SyncEveryOptions, GraphOptions, CompressOptions):
    """Compressed gossip, CHOCO-SGD (--mode choco)."""

    choco_gamma: float = option(
        1.0,
        help="how far a worker moves towards its neighbours: 1 where nothing is compressed, less the more is left out",
        metavar="GAMMA",
        above=0,
        at_most=1,
    )

    def check(self) -> None:
        super().check()
        if self.error_feedback is not None:
            raise OptionsError("--error-feedback is not for --mode choco, which keeps what is left out: drop it")


class Choco(GossipAlgorithm):
    """The steps of the module's docstring."""

    both_ways = True
    one_graph = True

    def __init__(self, options: ChocoOptions) -> None:
        super().__init__(options, options.sync_every)
        self.codec, self.gamma = options.codec, options.choco_gamma

    def init(self, x: Tensor, update: Tensor, place: Place) -> State:
        return {
            "sent": update,
            "known": torch.zeros_like(x),
            "around": torch.zeros_like(x),
            "optimizer": place.build_optimizer(x),
        }

    def start(self, x: Tensor, weights: Tensor, state: State) -> None:
        super().start(x, weights, state)
        state["known"].copy_(x)
        state["around"].copy_(x)

    def rejoin(self, x: Tensor, place: Place, state: State) -> None:
        """Nobody knows anything of the others any more, and what all begin at is 0."""
        state["known"].zero_()
        state["around"].zero_()

    def local(self, x: Tensor, gradient: Tensor, samples: int, state: State) -> None:
        state["optimizer"].step(x, gradient)

    def send(self, x: Tensor, state: State) -> Tensor:
        return torch.sub(x, state["known"], out=state["sent"])

    def mix(self, x: Tensor, values: Sequence[Value], own: int, state: State) -> None:
        gamma, weights = self.gamma, [value.weight for value in values]
        vectors = blocks(x, state["known"], state["around"], *(value.vectors[0] for value in values))
        for mine, known, around, *parts in vectors:
            known.add_(parts[own])
            for part, weight in zip(parts, weights, strict=True):
                around.add_(part, alpha=weight)
            mine.add_(around - known, alpha=gamma)
