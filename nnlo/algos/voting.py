"""Votes on whole numbers: what `sign` and `vote` have in common.

With K the largest level, c the number of workers that have an update in this step, and x the weights, the same
on every worker and on the master where there is one:

    worker   l = levels of its mean gradient, whole numbers from -K to K;  send l, packed
    all      S = sum l;  v = S / c rounded away from 0;  x <- Opt(x, v)

A worker has one vote, whatever the size of its batch. Levels are never scaled back to gradients, hence rates of
1e-3 or less. With a master the vote v travels down, packed as well, and each worker takes the step itself; otherwise
every worker gets all levels and counts the votes itself. Both give the same weights, bit for bit.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nnlo.algos.base import (
    CollectiveAlgorithm,
    Lineage,
    Pattern,
    Place,
    ServerAlgorithm,
    State,
    SyncEveryOptions,
    Update,
    total,
)
from nnlo.algos.mean_gradient import MeanGradient
from nnlo.blocks import blocks
from nnlo.compress.levels import Levels, LevelSettings
from nnlo.flat import Layout, finite
from nnlo.options import option

EXCHANGES = (Pattern.SERVER.value, Pattern.COLLECTIVE.value)
#: What a zero may become.
ZEROS = ("zero", "plus", "random")


@dataclass(frozen=True, kw_only=True)
class VoteOptions(SyncEveryOptions):
    """Votes (--mode sign, vote)."""

    exchange: str = option(
        "server",
        help="who counts the votes: the master (server), or each worker, which gets those of all (collective); the "
        "weights are the same",
        choices=lambda: EXCHANGES,
    )
    rand_zero: bool = option(
        False, help="make -1 or +1 of a zero by a fair coin, in what a worker sends and in the vote; saves a bit"
    )


class Voting(MeanGradient, ServerAlgorithm, CollectiveAlgorithm):
    """The steps of the module's docstring. most: K; zero: one of ZEROS; count: whether `report` tells of the votes."""

    synchronous = True
    lockstep = True
    gathers = True
    fixed = frozenset(("seed", "index"))
    alike = frozenset(("optimizer", "steps", "usages"))

    def __init__(self, options: VoteOptions, most: int, zero: str, count: bool = False) -> None:
        super().__init__(options.sync_every)
        self.pattern = Pattern(options.exchange)
        self.levels, self.zero, self.count = LevelSettings(most=most, zeros=zero == "zero"), zero, count

    def wire(self, layout: Layout) -> Levels:
        return Levels(self.levels, layout)

    def reply_wire(self, layout: Layout) -> Levels:
        return self.wire(layout)

    @abstractmethod
    def memory(self, x: Tensor) -> State:
        """What a worker keeps from one gradient to the next, for weights of shape (n,)."""

    @abstractmethod
    def vote(self, gradient: Tensor, state: State) -> None:
        """Overwrite a finite gradient, shape (n,), with levels, zero among them where the rule says so."""

    # On a worker.

    def init(self, x: Tensor, update: Tensor, place: Place) -> State:
        counts = self.pattern is Pattern.COLLECTIVE  # on each of them: any may be the one that reports in the end
        return {**self.summing(update), **self.memory(x), **self.replica(x, place, counts)}

    def send(self, x: Tensor, state: State) -> Tensor:
        """Levels; a gradient that is not finite stays as it is, so that it is refused, and leaves no trace."""
        update = super().send(x, state)
        if finite(update):
            self.vote(update, state)
            fill_zeros(update, self.zero, (state["seed"], state["index"], state["steps"]))
        return update

    def receive(self, x: Tensor, reply: Tensor, state: State) -> None:
        self.apply(x, reply, state)

    # On a master.

    def combine(self, updates: Sequence[Update]) -> Tensor:
        return total(updates)

    def init_master(self, w: Tensor, place: Place) -> State:
        return self.replica(w, place, counts=True)

    def step(self, w: Tensor, merged: Tensor, lineages: Sequence[Lineage], state: State) -> Tensor:
        self.apply(w, merged, state)
        return merged

    # Wherever the votes are counted, and the step is taken.

    def replica(self, x: Tensor, place: Place, counts: bool) -> State:
        """What all who apply votes have alike."""
        return {
            "optimizer": place.build_optimizer(x),
            "seed": place.seed,
            "index": place.index,
            "steps": 0,
            "usages": torch.zeros(2 * self.levels.most + 1, dtype=torch.int64) if self.count and counts else None,
        }

    def merge(self, updates: Sequence[Update], w: Tensor, state: State) -> Tensor:
        voters = sum(update.workers for update in updates)
        vote = rounded_mean([update.vector for update in updates], self.levels.most, voters)
        fill_zeros(vote, self.zero, (state["seed"], 0, state["steps"]))
        return vote

    def apply(self, x: Tensor, merged: Tensor, state: State) -> None:
        state["steps"] += 1
        if state["usages"] is not None:
            codes = merged.to(torch.int32).add_(self.levels.most)
            state["usages"].add_(torch.bincount(codes, minlength=len(state["usages"])))
        state["optimizer"].step(x, merged)

    def report(self, state: State) -> dict[str, Any]:
        """How often each level was voted, by its number, where that is counted."""
        if state["usages"] is None:
            return {}
        most, counts = self.levels.most, state["usages"].tolist()
        state["usages"].zero_()
        used = [level for level in range(-most, most + 1) if level or self.levels.zeros]
        return {"usages": {str(level): counts[level + most] for level in used}}


def rounded_mean(votes: Sequence[Tensor], most: int, voters: int) -> Tensor:
    """The mean of whole numbers up to `most`, each of shape (n,), rounded away from 0; exactly, whatever the order.

    A vote may be the sum of several voters', of whom there are so many in all; the votes are overwritten. The
    quotient of two whole numbers is rounded to one by mistake only where their sum is too large for the type.
    """
    kind = votes[0].dtype
    exact = most * voters * torch.finfo(kind).eps <= 2
    for parts in blocks(*votes):
        summed = parts[0] if exact else parts[0].to(torch.float64)
        for part in parts[1:]:
            summed.add_(part)
        summed.div_(voters)
        parts[0].copy_(summed.abs().ceil_().copysign_(summed))
    return votes[0]


def fill_zeros(levels: Tensor, zero: str, stream: tuple[int, int, int]) -> None:
    """What zeros become, in place. stream: seed, number of the worker or 0 for the vote, and step."""
    if zero == "zero":
        return
    places = levels == 0
    if zero == "plus":
        levels.masked_fill_(places, 1.0)
        return
    coins = np.random.default_rng(stream).integers(0, 2, int(places.sum()), dtype=np.int8)
    levels.masked_scatter_(places, torch.from_numpy(2 * coins - 1).to(levels.dtype))
