"""What every rank that trains computes with: the model laid out flat, its batches, its gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from nnlo.comm.base import Transport
from nnlo.data.dealing import Range
from nnlo.data.feed import Batch
from nnlo.flat import Arena, Flat
from nnlo.gradients import Gradients
from nnlo.model import GradientStep, ScaledStep
from nnlo.roles.prefetch import Prefetch
from nnlo.roles.setup import Setup
from nnlo.training.job import Job
from nnlo.training.seeds import random_state, set_random_state


@dataclass
class Work:
    """What was computed for one update: batches `first` to `first + count - 1` of an epoch and what they held.

    `ended`: the rank's own generator came to its end. `unread`: the samples of a batch that could not be read, which
    is all that this is about then.
    """

    epoch: int
    first: int
    count: int = 0
    samples: int = 0
    busy: float = 0.0
    ended: bool = False
    unread: int = 0

    @property
    def busy_us(self) -> int:
        return round(1e6 * self.busy)


class Computing:
    """Gradients of batches at the weights `x`, into `gradient`, both of shape (n,).

    Sums of loss and metrics, float buffers and, when gathered, integer buffers lie in the arena `up`.
    """

    def __init__(
        self, transport: Transport, job: Job, setup: Setup, x: Tensor, gradient: Tensor, up: Arena, sums: Tensor
    ) -> None:
        self._transport, self._sums = transport, sums
        self.flat = Flat(setup.module, setup.layout, x, up.buffers, adopts=setup.common is not None)
        self._gradients = Gradients(setup.module, setup.layout, gradient)
        step = GradientStep(setup.module, job.loss, job.metrics, job.amp)
        self._step = ScaledStep(step, gradient) if job.amp is torch.float16 else step
        self.kept = up.buffers.clone()
        self._watchdog, self._delay = setup.watchdog, job.delay
        self._skips = job.survival.on_bad_file == "skip"
        self.prefetch = Prefetch(transport, setup.intake.feed(setup.layout.dtype), self._skips)

    def add(self, dealt: Range) -> None:
        """A range of batches to compute, after those that are there."""
        self.prefetch.add(dealt)

    async def deal_again(self, dealt: Sequence[Range]) -> None:
        """These ranges are to be computed, and none of those from before."""
        self.prefetch.restart(dealt)

    async def next(self) -> Batch | None:
        """The next batch; None where the rank's own generator has ended."""
        return await self.prefetch.next()

    async def end(self) -> None:
        """There is no more to compute."""
        self._gradients.close()

    async def one(self, batch: Batch, before: Callable[[int], None], after: Callable[[int], None]) -> None:
        """The gradient of one batch."""
        await self._transport.compute(partial(self._compute, batch, before, after), batch.samples)

    async def work(self, most: int, before: Callable[[int], None], after: Callable[[int], None]) -> Work:
        """Gradients of at most `most` batches of one range; `before` and `after` each, with its samples."""
        self._sums.zero_()
        self.keep_buffers()
        first = self.prefetch.ranges[0]
        done = Work(first.epoch, first.first)
        while done.count < min(most, first.count):
            self._watchdog.begin()
            if done.count and self._skips and (coming := await self.prefetch.peek()) and coming.fault:
                break
            batch = await self.next()
            if batch is None:
                done.ended = True
                break
            if batch.fault is not None:
                done.unread, done.count = batch.samples, 1
                break
            began = self._transport.clock()
            await self.one(batch, before, after)
            if self._delay is not None:
                await self._transport.wait([], self._transport.clock() + self._delay(self._transport.id))
            done.busy += self._transport.clock() - began
            self._transport.trace.add("compute", began, batch.samples)
            done.samples, done.count = done.samples + batch.samples, done.count + 1
        self._watchdog.end()
        return done

    async def state_dict(self) -> dict[str, Any]:
        """Where the random streams are, and the scale of a narrow type's losses."""
        step = self._step.state_dict() if isinstance(self._step, ScaledStep) else None
        return {"random": random_state(), "step": step}

    async def load_state_dict(self, state: dict[str, Any]) -> None:
        set_random_state(state["random"])
        if isinstance(self._step, ScaledStep):
            self._step.load_state_dict(state["step"])

    def keep_buffers(self) -> None:
        """Remember the float buffers as they are now."""
        self.kept.copy_(self.flat.buffers)

    def restore_buffers(self) -> None:
        """Those before the last `work`: what became of them does not count."""
        self.flat.buffers.copy_(self.kept)

    def _compute(self, batch: Batch, before: Callable[[int], None], after: Callable[[int], None]) -> None:
        self._gradients.begin()
        before(batch.samples)
        self._step(batch.x, batch.y, self._sums)
        self._gradients.end()
        after(batch.samples)
