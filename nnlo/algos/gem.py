"""Gradient energy matching: workers scale their updates so that together they step as one with momentum would.

Hermans and Louppe 2018 (arXiv 1805.08469). With rate eta, momentum mu, kappa, clip C; worker weights x, what the
worker pulled last time s, centre w:

    worker   u = -eta sum g(x) over tau batches, x -= g(x) between them
             pull w;  c = w - s;  s = w;  m = mu m + u
             pi = (kappa |m| - |c|) / (|u| + eps), to [0, C];  q = pi u;  send q;  x = w, or w + q
    master   w += q

s begins as the weights that training begins with. The paper leaves pi unlimited (C = 0 here) and goes on from w; the
authors' code limits it to [0, 5] and goes on from w + q. Unlimited, pi is negative wherever the centre has moved by
more than kappa |m|, so that several workers near a minimum may drive each other away from it. eps = 1e-16 as in the
paper, or what the type has instead. Gradients are summed, since differences of weights would lose their low bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nnlo.algos.base import Lineage, Place, ServerAlgorithm, State, SyncEveryOptions, Update, total
from nnlo.blocks import blocks
from nnlo.options import option

EPS = 1e-16


@dataclass(frozen=True, kw_only=True)
class GemOptions(SyncEveryOptions):
    """Gradient energy matching (--mode gem)."""

    gem_lr: float = option(0.01, help="learning rate of the workers' updates", metavar="RATE", at_least=0)
    gem_momentum: float = option(0.9, help="momentum that the centre is to have", metavar="FACTOR", at_least=0, below=1)
    gem_kappa: float = option(
        2.0,
        help="how far the centre may move between two pulls, in lengths of the momentum",
        metavar="KAPPA",
        at_least=0,
    )
    gem_clip: float = option(
        5.0,
        help="limit the scale of an update's elements to 0 and this; 0 for no limits (as in the paper)",
        metavar="SCALE",
        at_least=0,
    )
    gem_variant: str = option(
        "paper",
        help="go on from the centre as it was pulled (paper), or from that plus the worker's own update (code)",
        choices=lambda: ("paper", "code"),
    )


class Gem(ServerAlgorithm):
    """The steps of the module's docstring; the memory that is sent holds the sum of gradients, then u, then q."""

    rate_flag = "--gem-lr"
    pull_first = True
    reply_is_weights = True

    def __init__(self, options: GemOptions) -> None:
        self.options = options
        self.sync_every, self.rate = options.sync_every, options.gem_lr
        self.gradient_is_update = options.sync_every == 1

    def init(self, x: Tensor, update: Tensor, place: Place) -> State:
        stale, momentum = x.clone(), torch.zeros_like(x)
        return {"update": update, "stale": stale, "momentum": momentum, "batches": 0, "factor": 1.0}

    def start(self, x: Tensor, weights: Tensor, state: State) -> None:
        """The momentum begins anew as well: an update that was refused may have put inf or nan into it."""
        super().start(x, weights, state)
        state["stale"].copy_(weights)
        state["momentum"].zero_()
        state["batches"] = 0

    def local(self, x: Tensor, gradient: Tensor, samples: int, state: State) -> None:
        if self.gradient_is_update:
            return
        if state["batches"] == 0:
            state["update"].zero_()
        state["batches"] += 1
        state["update"].add_(gradient)
        x.sub_(gradient)

    def receive(self, x: Tensor, reply: Tensor, state: State) -> None:
        u = state["update"]
        for update, momentum, stale, centre in blocks(u, state["momentum"], state["stale"], reply):
            update.mul_(-self.rate * state["factor"])
            momentum.mul_(self.options.gem_momentum).add_(update)
            self._match(update, momentum, moved=stale.sub_(centre).abs_())
            stale.copy_(centre)
        state["batches"] = 0
        if x.data_ptr() != reply.data_ptr():
            x.copy_(reply)
        if self.options.gem_variant == "code":
            x.add_(u)

    def _match(self, u: Tensor, momentum: Tensor, moved: Tensor) -> None:
        """u <- pi u, as (pi (|u| + eps)) (u / (|u| + eps)): of factors that stay finite where u is 0."""
        size = u.abs().add_(max(EPS, torch.finfo(u.dtype).tiny))
        energy = momentum.abs().mul_(self.options.gem_kappa).sub_(moved)
        if self.options.gem_clip:
            energy.clamp_(min=0).clamp_(max=size * self.options.gem_clip)
        u.div_(size).mul_(energy)

    def send(self, x: Tensor, state: State) -> Tensor:
        update: Tensor = state["update"]
        return update

    def combine(self, updates: Sequence[Update]) -> Tensor:
        return total(updates)

    def init_master(self, w: Tensor, place: Place) -> State:
        return {}

    def merge(self, updates: Sequence[Update], w: Tensor, state: State) -> Tensor:
        return total(updates)

    def step(self, w: Tensor, merged: Tensor, lineages: Sequence[Lineage], state: State) -> Tensor:
        return w.add_(merged)
