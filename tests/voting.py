"""Workers that vote, as plain calls: what each sends goes through the codec, as it does over a transport."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nnlo.algos import Lineage, Place, Update
from nnlo.algos.voting import Voting
from nnlo.compress import Codec
from nnlo.flat import Layout
from nnlo.optim import OptimizerSpec

SGD = OptimizerSpec.of("sgd", {"lr": 2.0**-5}, fused=False)


def layout(n: int, dtype: torch.dtype = torch.float32) -> Layout:
    module = nn.Module()
    module.register_parameter("w", nn.Parameter(torch.zeros(n, dtype=dtype)))
    return Layout.of(module)


def through(codec: Codec[Any], vector: Tensor) -> Tensor:
    """What the other side reads."""
    memory, out = torch.full((codec.nbytes,), 255, dtype=torch.uint8), torch.full_like(vector, torch.nan)
    codec.encode(vector, memory, codec.init(0))
    codec.decode(memory, out)
    return out


class Workers:
    """Their weights and states; with a master of their own where the algorithm has one, else each for itself."""

    def __init__(
        self, algorithm: Voting, count: int, weights: Tensor, optimizer: OptimizerSpec = SGD, seed: int = 0
    ) -> None:
        self.algorithm, self.layout = algorithm, layout(len(weights), weights.dtype)
        self.codec = algorithm.wire(self.layout)
        places = [Place(i, count, self.layout, seed, optimizer) for i in range(count + 1)]
        self.w, self.x = weights.clone(), [weights.clone() for _ in range(count)]
        self.update = [torch.zeros_like(weights) for _ in range(count)]
        threes = zip(self.x, self.update, places[1:], strict=True)
        self.states = [algorithm.init(x, update, place) for x, update, place in threes]
        self.master = algorithm.init_master(self.w, places[0])

    def send(self, worker: int, gradient: Tensor, samples: int = 1) -> Tensor:
        """Of one batch, as it is before it is encoded."""
        self.take_in(worker, gradient, samples)
        return self.algorithm.send(self.x[worker], self.states[worker])

    def take_in(self, worker: int, gradient: Tensor, samples: int) -> None:
        held = self.update[worker] if self.algorithm.gradient_is_update else gradient.clone()
        held.copy_(gradient)
        self.algorithm.local(self.x[worker], held, samples, self.states[worker])

    def round(self, gradients: Sequence[Tensor | None]) -> Tensor:
        """One step of those that have a gradient; the vote."""
        sent = {i: through(self.codec, self.send(i, g)) for i, g in enumerate(gradients) if g is not None}
        return self.exchange(sent)

    def exchange(self, sent: Mapping[int, Tensor]) -> Tensor:
        lineages = [Lineage(i, 0, 0, 1 + i) for i in sent]
        together = self.algorithm.pattern.value == "server"
        if together:
            updates = [Update(sent[one.sender].clone(), one) for one in lineages]
            merged = self.algorithm.merge(updates, self.w, self.master)
            vote = through(self.codec, self.algorithm.step(self.w, merged, lineages, self.master))
        for x, state in zip(self.x, self.states, strict=True):
            if together:
                self.algorithm.receive(x, vote.clone(), state)
            else:
                updates = [Update(sent[one.sender].clone(), one) for one in lineages]
                vote = self.algorithm.merge(updates, x, state)
                self.algorithm.apply(x, vote.clone(), state)
        return vote
