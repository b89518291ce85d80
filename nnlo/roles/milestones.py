"""The points of a run at which the master validates, closes epochs and may stop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from nnlo.comm.base import Source, Task, Transport
from nnlo.roles.centre import Centre
from nnlo.roles.setup import Setup
from nnlo.roles.validator import Snapshot, Validator
from nnlo.training.callbacks import Callbacks
from nnlo.training.job import Job
from nnlo.training.record import Recorder

Entry = dict[str, Any]


class Owner(Protocol):
    """Whom callbacks tell to stop."""

    stop_training: bool


@dataclass
class UnderWay:
    """A validation that runs: of which epoch's entry (None inside an epoch), and at which sample count."""

    task: Task[dict[str, Any]]
    entry: Entry | None
    samples: int


class Milestones:
    """The master's clock counts samples; each passing of a multiple of N ends an epoch.

    One validation is under way at a time and no epoch end is skipped: a point waits for the validation
    of the one before it, and what that decides takes effect here, wherever time has gone.
    """

    def __init__(
        self, transport: Transport, job: Job, setup: Setup, centre: Centre, recorder: Recorder,
        callbacks: Callbacks, owner: Owner, history: dict[str, Any], rate: Callable[[], float],
    ) -> None:  # fmt: skip
        self._transport, self._job, self._centre = transport, job, centre
        self._recorder, self._callbacks, self._owner, self._history = recorder, callbacks, owner, history
        self.samples, self._rate = setup.intake.samples, rate
        self.snapshot = Snapshot(setup.module, setup.layout)
        dtype = setup.layout.dtype
        feed = setup.validation.feed(dtype) if setup.validation else None
        training = setup.intake.measured.feed(dtype) if job.model_accuracy else None
        self._validates = feed is not None
        self._validator = Validator(setup.module, job.loss, job.metrics, feed, training)
        self._val_samples = (setup.validation.samples or 0) if setup.validation else 0
        self.epochs_closed = 0
        self._validated_batches = 0
        self._under_way: UnderWay | None = None

    def epoch_due(self, clock: int, finished: bool) -> bool:
        """Whether the clock (samples) has passed the end of an epoch; the last ends when all is done."""
        left = self._job.epochs - self.epochs_closed
        return left > 0 and (finished or (left > 1 and clock >= (self.epochs_closed + 1) * self.samples))

    def due(self, clock: int, batches: int, finished: bool) -> bool:
        every = self._job.validate_every
        inside = every is not None and batches // every > self._validated_batches // every
        return inside or self.epoch_due(clock, finished)

    async def reach(self, clock: int, batches: int, finished: bool) -> bool:
        """Pass a point; returns whether training is to stop here."""
        await self.settle()
        entry = None
        if self.epoch_due(clock, finished):
            self.epochs_closed = self._job.epochs if finished else self.epochs_closed + 1
            entry = self._recorder.close_epoch(self.epochs_closed, clock, self._rate())
        self._validated_batches = batches
        self.snapshot.take(self._centre.arena)
        self._begin(entry, clock)
        return self._owner.stop_training

    def _begin(self, entry: Entry | None, clock: int) -> None:
        at_end = entry is not None
        if not self._validator.wanted(at_end):
            self._complete(entry)
            return
        if self._validates:
            self._callbacks.on_test_begin({})
        cost = self._val_samples + (self.samples if at_end and self._job.model_accuracy else 0)
        self._under_way = UnderWay(self._validator.start(self._transport, cost, at_end), entry, clock)

    def sources(self) -> list[Source]:
        return [self._under_way.task] if self._under_way else []

    async def settle(self) -> None:
        """Wait for the validation under way, if there is one."""
        if self._under_way:
            began = self._transport.trace.now()
            await self._transport.wait([self._under_way.task])
            self._transport.trace.add("validation wait", began)
            self.collect()

    def collect(self) -> None:
        """Take in the validation that has ended."""
        if self._under_way is None or not self._under_way.task.ready:
            return
        ended, self._under_way = self._under_way, None
        found = ended.task.result()
        if ended.entry is not None:
            ended.entry.update(found)
        if self._validates:
            self._validated({name: value for name, value in found.items() if name != "training_set"}, ended.samples)
        self._complete(ended.entry)

    def _validated(self, found: Entry, clock: int) -> None:
        point = {"samples": clock, "epoch": clock / self.samples, "seconds": self._recorder.seconds()}
        self._history["validations"].append(validation := {**point, **found})
        self._callbacks.on_test_end(validation)

    def _complete(self, entry: Entry | None) -> None:
        """An epoch's entry is whole."""
        if entry is None:
            return
        self._history["epochs"].append(entry)
        self._callbacks.on_epoch_end(entry["epoch"] - 1, entry)
        if entry["epoch"] < self._job.epochs and not self._owner.stop_training:
            self._callbacks.on_epoch_begin(entry["epoch"], {})
