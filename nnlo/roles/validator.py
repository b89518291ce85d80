"""Validation beside training: a snapshot of the centre, evaluated on a thread of its own."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from nnlo.comm.base import Task, Transport
from nnlo.data.dealing import UNBOUNDED, Range
from nnlo.data.feed import Feed, Tensors
from nnlo.flat import Arena, Flat, Layout
from nnlo.model import Loss, Metric, evaluate


class Validator:
    """Evaluates `module`, which holds one snapshot at a time, on all batches of `feed`."""

    def __init__(self, module: nn.Module, feed: Feed, loss: Loss, metrics: tuple[Metric, ...]) -> None:
        self._module, self._feed, self._loss, self._metrics = module, feed, loss, metrics
        self._round = 0

    def start(self, transport: Transport, samples: int) -> Task[dict[str, float]]:
        """Validate what the module holds; names are those of training with val_ before them."""
        return transport.offload(self.evaluate, "validation", samples)

    def evaluate(self) -> dict[str, float]:
        """The mean loss and metrics over all batches, here and now."""
        self._round += 1
        found = evaluate(self._module, self._batches(), self._loss, self._metrics)
        return {f"val_{name}": value for name, value in found.items()}

    def _batches(self) -> Iterator[tuple[Tensors, Tensors]]:
        k = 0
        while (batch := self._feed.read(self._round, k)) is not None:
            k += 1
            self._feed.expect([Range(self._round, k, UNBOUNDED)])
            yield batch.x, batch.y


class Snapshot:
    """A module of the master's own, in memory that no transport touches."""

    def __init__(self, module: nn.Module, layout: Layout) -> None:
        def memory(count: int) -> Tensor:
            return torch.zeros(count, dtype=layout.dtype)

        buffers = sum(slot.size for slot in layout.buffers)
        self.module = module
        self._flat = Flat(module, layout, memory(layout.numel), None, memory(buffers))

    def put(self, arena: Arena) -> None:
        """Copy the module's weights and buffers into an arena."""
        arena.vector.copy_(self._flat.vector)
        arena.buffers.copy_(self._flat.buffers)
        self._flat.gather(arena.counters)

    def take(self, arena: Arena) -> None:
        """Hold what the arena holds now."""
        self._flat.load(arena.vector, arena.buffers, arena.counters)
