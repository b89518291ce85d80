"""Hogwild!: workers step on weights that they all have in memory, without locks.

Niu, Recht, Re and Wright, "Hogwild!: a lock-free approach to parallelizing stochastic gradient descent", NIPS 2011
(arXiv 1106.5730); here with dense gradients and any optimizer. The weights w are in memory that the ranks share. On
worker i, each with a state of the optimizer of its own:

    w <- Opt_i(w, g(w))

A gradient may be taken from weights that others are writing, and of two writes at once one may be lost. The master
deals batches, counts and validates; there is no vector in what it is told, nor in what it answers, and nobody waits for
the answer before the next batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nnlo.algos.base import Lineage, Place, ServerAlgorithm, State
from nnlo.algos.downpour_options import DownpourOptions
from nnlo.compress import Codec
from nnlo.flat import Layout, finite
from nnlo.options import Options


class Nothing(Codec[Options]):
    """A vector that the other side does not need."""

    needs_feedback = False
    types = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    nbytes = 0

    def encode(self, vector: Tensor, memory: Tensor, state: State) -> None:
        """There is nothing to say."""

    def decode(self, memory: Tensor, out: Tensor) -> None:
        """Nothing was said."""


class Hogwild(ServerAlgorithm):
    """The steps of the module's docstring. x is w."""

    in_place = reply_is_weights = gradient_is_update = pipelined = True

    def __init__(self, options: DownpourOptions) -> None:
        self.sync_every = options.sync_every

    def wire(self, layout: Layout) -> Codec[Any]:
        return Nothing(Options(), layout)

    def init(self, x: Tensor, update: Tensor, place: Place) -> State:
        return {"optimizer": place.build_optimizer(x), "said": torch.zeros(1)}

    def local(self, x: Tensor, gradient: Tensor, samples: int, state: State) -> None:
        if finite(gradient):
            state["optimizer"].step(x, gradient)
        else:
            state["said"].fill_(math.nan)

    def send(self, x: Tensor, state: State) -> Tensor:
        """One number: nan where a gradient was not finite, which has been left out."""
        said: Tensor = state["said"].clone()
        state["said"].zero_()
        return said

    def receive(self, x: Tensor, reply: Tensor, state: State) -> None:
        """x has moved already."""

    def init_master(self, w: Tensor, place: Place) -> State:
        """Its optimizer only knows the rate."""
        return {"optimizer": place.build_optimizer(w)}

    def step(self, w: Tensor, merged: Tensor, lineages: Sequence[Lineage], state: State) -> Tensor:
        return w
