"""A master and its workers as plain calls, by the contract of `ServerAlgorithm`: no transport, no model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from nnlo import Algo
from nnlo.algos import Lineage, Place, ServerAlgorithm, Update
from nnlo.flat import Layout, Slot

Gradient = Callable[[Tensor], Tensor]


class Server:
    """All weights begin as `w`; each worker computes and exchanges when it is told to."""

    def __init__(self, algo: Algo, w: Tensor, workers: int) -> None:
        assert isinstance(algo.algorithm, ServerAlgorithm)
        self.algorithm, self.w = algo.algorithm, w.clone()
        self.layout = Layout(w.dtype, (Slot("w", (len(w),), 0),), (), (), "")
        self.codec = self.algorithm.wire(self.layout)
        self.x = [torch.zeros_like(w) for _ in range(workers)]
        self.memory = [torch.zeros_like(w) for _ in range(workers)]
        self.master = self.algorithm.init_master(self.w, Place(0, workers, self.layout))
        self.states = [
            self.algorithm.init(x, memory, Place(1 + i, workers, self.layout))
            for i, (x, memory) in enumerate(zip(self.x, self.memory, strict=True))
        ]
        for x, state in zip(self.x, self.states, strict=True):
            self.algorithm.start(x, self.w.clone(), state)

    def train(self, worker: int, gradient: Gradient) -> None:
        """One batch."""
        x, fresh = self.x[worker], torch.empty_like(self.w)
        memory = self.memory[worker] if self.algorithm.gradient_is_update else fresh
        self.algorithm.probe(x, self.states[worker])
        memory.copy_(gradient(x))
        self.algorithm.local(x, memory, 1, self.states[worker])

    def exchange(self, *workers: int) -> None:
        """One step of the centre with the updates of these workers, and their answers."""
        before = self.w.clone()
        lineages = [Lineage(i, 0, 0, 1) for i in workers]
        updates = [Update(self.update(i), lineage) for i, lineage in zip(workers, lineages, strict=True)]
        merged = self.algorithm.merge(updates, self.w, self.master)
        answer = self.algorithm.step(self.w, merged, lineages, self.master)
        for i in workers if not self.algorithm.pull_first else ():
            reply = before if self.algorithm.answers_before else answer
            self.algorithm.receive(self.x[i], reply.clone(), self.states[i])

    def update(self, worker: int) -> Tensor:
        """What arrives at the master."""
        x, state = self.x[worker], self.states[worker]
        if self.algorithm.pull_first:
            self.algorithm.receive(x, self.w.clone(), state)
        update = self.algorithm.send(x, state)
        if self.codec is None:
            return update.clone()
        memory, left = torch.zeros(self.codec.nbytes, dtype=torch.uint8), torch.zeros_like(update)
        self.codec.encode(update, memory, self.codec.init(0))
        self.codec.decode(memory, left)
        self.algorithm.sent(x, left, state)
        return left.clone()

    def round(self, gradient: Gradient, *, batches: int = 1) -> None:
        """Every worker computes so many batches; then all exchange, together or one after another in their order."""
        workers = range(len(self.x))
        for group in [workers] if self.algorithm.synchronous else [[i] for i in workers]:
            for i in group:
                for _ in range(batches):
                    self.train(i, gradient)
            self.exchange(*group)


def server(mode: str, w: Any, workers: int, **options: Any) -> Server:
    """One of float64 weights `w`."""
    algo = Algo(None, mode=mode, **options)
    return Server(algo, torch.as_tensor(w, dtype=torch.float64), workers)
