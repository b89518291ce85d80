"""The points of a run at which the master validates, closes epochs and may stop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from nnlo.comm.base import Source, Task, Transport
from nnlo.flat import Arena
from nnlo.roles.marks import Marks
from nnlo.roles.setup import Setup
from nnlo.roles.validator import Snapshot, Validator
from nnlo.training.callbacks import Callbacks
from nnlo.training.job import Job
from nnlo.training.record import Recorder

Entry = dict[str, Any]


class Owner(Protocol):
    """Whom callbacks tell to stop: at the next validation point, or at once."""

    stop_training: bool
    stop_at_once: bool


class HasArena(Protocol):
    """What weights are read from."""

    @property
    def arena(self) -> Arena: ...


class Learning(Protocol):
    """Who knows the rate of the last step, and the algorithm's figures of the epoch that ends."""

    @property
    def rate(self) -> float: ...
    def report(self) -> dict[str, Any]: ...


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
        self, transport: Transport, job: Job, setup: Setup, centre: HasArena, recorder: Recorder,
        callbacks: Callbacks, owner: Owner, history: dict[str, Any], learning: Learning,
    ) -> None:  # fmt: skip
        self._transport, self._job, self._centre = transport, job, centre
        self._recorder, self._callbacks, self._owner, self._history = recorder, callbacks, owner, history
        self.samples, self._learning = setup.intake.samples, learning
        self.marks = Marks(self.samples, job.epochs, job.validate_every)
        self.snapshot = Snapshot(setup.module, setup.layout)
        dtype = setup.layout.dtype
        feed = setup.validation.feed(dtype) if setup.validation else None
        training = setup.intake.measured.feed(dtype) if job.model_accuracy else None
        self._validates = feed is not None
        self.validator = Validator(setup.module, job.loss, job.metrics, feed, training)
        self._val_samples = (setup.validation.samples or 0) if setup.validation else 0
        self._under_way: UnderWay | None = None
        self.settled: Callable[[], None] = lambda: None

    @property
    def validating(self) -> bool:
        """Whether a validation is under way; `settled` is called when one has ended."""
        return self._under_way is not None

    def due(self, clock: int, batches: int, finished: bool) -> bool:
        return self.marks.due(clock, batches, finished)

    async def pass_all(self, clock: int, batches: int, finished: bool) -> bool:
        """Pass a point that is due, and before the last one all ends of epochs that one step has gone over."""
        while finished and self.marks.behind(clock):
            await self.reach(clock, batches, False)
        return await self.reach(clock, batches, finished)

    async def reach(self, clock: int, batches: int, finished: bool) -> bool:
        """Pass a point; returns whether training is to stop here."""
        await self.settle()
        entry = None
        if self.marks.take(clock, batches, finished):
            entry = self._recorder.close_epoch(self.marks.epochs_closed, clock, self._learning.rate)
            entry.update(self._learning.report())
        self.snapshot.take(self._centre.arena)
        self._begin(entry, clock)
        return self._owner.stop_training

    def _begin(self, entry: Entry | None, clock: int) -> None:
        at_end = entry is not None
        if not self.validator.wanted(at_end):
            self._complete(entry)
            return
        if self._validates:
            self._callbacks.on_test_begin({})
        cost = self._val_samples + (self.samples if at_end and self._job.model_accuracy else 0)
        self._under_way = UnderWay(self.validator.start(self._transport, cost, at_end), entry, clock)

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
        self.settled()

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
