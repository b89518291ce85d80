"""Validation beside training: a snapshot of the centre, evaluated on a thread of its own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from nnlo.comm.base import Task, Transport
from nnlo.data.feed import Feed
from nnlo.flat import Arena, Flat, Layout
from nnlo.model import Loss, Metric, evaluate

Figures: TypeAlias = Callable[[nn.Module], "dict[str, float]"]


class Validator:
    """Evaluates `module`, which holds one snapshot at a time, on all batches of `feed`, None for none.

    `training`: the training samples, to be gone through at the ends of epochs as well; None for not. `also`: what finds
    more figures, with a function that tells those of any module on the same batches.
    """

    def __init__(
        self,
        module: nn.Module,
        loss: Loss,
        metrics: tuple[Metric, ...],
        feed: Feed | None,
        training: Feed | None = None,
    ) -> None:
        self._module, self._loss, self._metrics = module, loss, metrics
        self._feed, self._training = feed, training
        self._round = 0
        self.also: Callable[[Figures], dict[str, Any]] | None = None

    def wanted(self, epoch_end: bool) -> bool:
        """Whether there is anything to evaluate at this point."""
        return self._feed is not None or (epoch_end and self._training is not None)

    def start(self, transport: Transport, samples: int, epoch_end: bool) -> Task[dict[str, Any]]:
        """Evaluate what the module holds, aside; `samples` is what it costs."""
        return transport.offload(partial(self.evaluate, epoch_end), "validation", samples)

    def evaluate(self, epoch_end: bool = False) -> dict[str, Any]:
        """Here and now: the mean loss and metrics with val_ before their names, and in "training_set" those there."""
        self._round += 1
        found: dict[str, Any] = {}
        if self._feed is not None:
            found.update(self._validated(self._module))
            found.update(self.also(self._validated) if self.also else {})
        if epoch_end and self._training is not None:
            found["training_set"] = self._figures(self._module, self._training)
        return found

    def _validated(self, module: nn.Module) -> dict[str, float]:
        assert self._feed is not None
        return {f"val_{name}": value for name, value in self._figures(module, self._feed).items()}

    def _figures(self, module: nn.Module, feed: Feed) -> dict[str, float]:
        batches = ((batch.x, batch.y) for batch in feed.in_order(self._round))
        return evaluate(module, batches, self._loss, self._metrics)


class Snapshot:
    """A module of the master's own, in memory that no transport touches."""

    def __init__(self, module: nn.Module, layout: Layout) -> None:
        def memory(count: int) -> Tensor:
            return torch.zeros(count, dtype=layout.dtype)

        buffers = sum(slot.size for slot in layout.buffers)
        self.module = module
        self._flat = Flat(module, layout, memory(layout.numel), memory(buffers))

    def put(self, arena: Arena) -> None:
        """Copy the module's weights and buffers into an arena."""
        arena.vector.copy_(self._flat.vector)
        arena.buffers.copy_(self._flat.buffers)
        self._flat.gather(arena.counters)

    def take(self, arena: Arena) -> None:
        """Hold what the arena holds now."""
        self._flat.load(arena.vector, arena.buffers, arena.counters)
