"""One step of the centre: updates of workers go into its weights and buffers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from nnlo.algos import Lineage, ServerAlgorithm, Update
from nnlo.comm.messages import Flag, Header
from nnlo.flat import Arena
from nnlo.optim import FlatOptimizer
from nnlo.roles.centre import Centre


@dataclass(frozen=True)
class Arrived:
    """An update that a worker sent: its header, its arena, and the sums of loss and metrics behind it."""

    peer: int
    header: Header
    arena: Arena
    sums: list[float]

    @property
    def finite(self) -> bool:
        return not self.header.flags & Flag.NON_FINITE


class Stepper:
    """Applies updates to the centre's weights; `version` counts the steps."""

    def __init__(self, make: Callable[[], Arena], algorithm: ServerAlgorithm, optimizer: FlatOptimizer | None) -> None:
        self.centre, self.version = Centre(make), 0
        self._algorithm = algorithm
        self._state = algorithm.init_master(self.centre.arena.vector, optimizer)

    def step(self, arrived: Sequence[Arrived], workers: int) -> list[Lineage]:
        """One step from these updates, of so many `workers` in all; where each came from."""
        arena = self.centre.writable()
        lineages = [self._lineage(one) for one in arrived]
        pairs = zip(arrived, lineages, strict=True)
        merged = self._algorithm.merge([Update(one.arena.vector, lineage) for one, lineage in pairs])
        self._algorithm.step(arena.vector, merged, lineages, self._state)
        self._merge_buffers(arena, arrived, 1.0 if self._algorithm.synchronous else 1.0 / workers)
        self.version += 1
        return lineages

    def _lineage(self, one: Arrived) -> Lineage:
        read = one.header.version
        return Lineage(one.peer, read, self.version - read, one.header.samples)

    def _merge_buffers(self, arena: Arena, arrived: Sequence[Arrived], weight: float) -> None:
        """Float buffers move by `weight` towards the mean of the senders', by samples.

        So a synchronous step takes that mean, and an asynchronous one counts its sender as one of M.
        Integer buffers (BatchNorm's batch counter) become the largest.
        """
        if arena.buffers.numel():
            samples = sum(one.header.samples for one in arrived)
            parts = [one.arena.buffers * (one.header.samples / samples) for one in arrived]
            arena.buffers.lerp_(torch.stack(parts).sum(0) if len(parts) > 1 else parts[0], weight)
        for one in arrived if arena.counters.numel() else ():
            arena.counters.copy_(arena.counters.maximum(one.arena.counters))
