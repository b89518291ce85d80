"""Rank 0's checkpoints: when one is due, and how what all ranks show becomes one on the disk.

What is kept of a moment is taken while no update is under way. Training goes on as soon as it is taken: a validation
that is under way then still belongs to it, and it is put on the disk aside.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from nnlo.comm.base import Task, Transport
from nnlo.errors import DataError, PeerLost, Preempted, TrainingError, describe
from nnlo.logs import LOG
from nnlo.roles.milestones import Milestones
from nnlo.roles.parcels import Parcels
from nnlo.roles.setup import Setup
from nnlo.training.callbacks import Callback
from nnlo.training.checkpoint.arguments import CheckpointArguments
from nnlo.training.checkpoint.contents import MASTER, RECORD, fingerprint, worker_file
from nnlo.training.checkpoint.parcel import Tree, packed
from nnlo.training.checkpoint.store import Draft, Store
from nnlo.training.history import History
from nnlo.training.job import Job
from nnlo.training.measured import Monitor, monitor_of
from nnlo.version import __version__

FLAG = "--keep-best"


class Checkpoints:
    """`owner` is the manager; `seconds` the training clock."""

    def __init__(
        self, transport: Transport, job: Job, setup: Setup, milestones: Milestones, owner: Any, history: History,
        seconds: Callable[[], float],
    ) -> None:  # fmt: skip
        wanted = job.checkpoints
        self._transport, self._job, self._setup, self._milestones = transport, job, setup, milestones
        self._owner, self._history, self._seconds = owner, history, seconds
        self._store = Store(wanted.checkpoint, wanted.keep) if wanted.checkpoint else None
        self._interval, self._every = wanted.checkpoint_interval, wanted.seconds
        self._epochs, self._at = self._before = 0, seconds()
        if setup.restored:
            before = setup.restored.master
            self._epochs, self._at = before["marks"]["epochs_closed"], before["seconds"]
        self._draft: Draft | None = None
        self._about: dict[str, Any] = {}
        self._at_end = False  # whether an epoch has ended since the checkpoint before
        self._task: Task[None] | None = None
        self.best = math.nan
        self.last = next(reversed(self._store.names()), None) if self._store else None
        milestones.settled = self._finish
        self._monitor = best_of(wanted, job, setup)
        if self._monitor and setup.restored and setup.restored.record["keep_best"] == self._monitor.name:
            self.best = setup.restored.record["best"]

    # When.

    def due(self, over: bool, signalled: bool) -> bool:
        """Whether there is to be one now; `over`: training ends here, `signalled`: the job was told to leave."""
        if self._store is None:
            return False
        closed = self._milestones.marks.epochs_closed
        by_epoch = closed // self._interval > self._epochs // self._interval
        by_time = self._every is not None and self._seconds() - self._at >= self._every
        return over or signalled or by_epoch or by_time

    # What.

    async def begin(self, clock: int, over: bool) -> None:
        """No update is under way, and what is added from now on is kept together; `over`: training ends here."""
        if self._draft is not None:
            await self._milestones.settle()
        await self._done()
        assert self._store is not None
        closed = self._milestones.marks.epochs_closed
        self._before = self._epochs, self._at
        self._at_end, self._epochs, self._at = closed > self._epochs, closed, self._seconds()
        self._draft = self._store.draft()
        self._about = {
            "nnlo": __version__,
            "model": self._job.builder.name,
            "samples": clock,
            "epoch": clock / self._milestones.samples,
            "over": over,
            "job": fingerprint(self._job, self._setup.layout, self._setup.intake.samples, self._setup.intake.grain),
        }

    async def collect(self, numbered: Sequence[tuple[int, Parcels]], all_of_them: bool = False) -> bool:
        """What these workers show, each under its number; one who dies meanwhile is left out.

        all_of_them: without one of them there is no checkpoint. Whether there is one.
        """
        assert self._draft is not None
        complete = True
        for number, parcels in numbered:
            self._draft.begin(worker_file(number))
            try:
                await parcels.receive(self._draft.add)
            except PeerLost:
                self._draft.drop(worker_file(number))
                complete = False
            else:
                self._draft.end()
        if all_of_them and not complete:
            self._draft.discard()
            self._draft = None
            self._epochs, self._at = self._before
        return complete or not all_of_them

    def close(self, tree: Tree) -> None:
        """With what rank 0 itself has, it is all there; the record is added once the validation under way has ended."""
        self._add(MASTER, tree)
        if not self._milestones.validating:
            self._finish()

    def _add(self, name: str, tree: Tree) -> None:
        assert self._draft is not None
        self._draft.begin(name)
        self._draft.add(packed(tree))
        self._draft.end()

    def _finish(self) -> None:
        """All that is still to come is known."""
        if self._draft is None:
            return
        best = self._is_best()
        self._add(RECORD, self._record())
        write = partial(self._write, self._draft, self._about, best)
        self._draft, self._task = None, self._transport.offload(write, "checkpoint")

    def _record(self) -> Tree:
        """What is remembered of the training, beside what it goes on from."""
        return {
            "history": json.loads(json.dumps(self._history, default=plainly)),
            "callbacks": states_of(self._owner.callbacks),
            "stop": self._owner.stop_reason if self._owner.stop_training else None,
            "stopping": bool(self._owner.stop_training),
            "best": self.best,
            "keep_best": self._monitor and self._monitor.name,
        }

    def _is_best(self) -> bool:
        """Whether the last epoch that ended was the best one, where that is looked at."""
        if self._monitor is None or not self._at_end:
            return False
        value = self._history["epochs"][-1].get(self._monitor.name, math.nan)
        better = self._monitor.better(value, self.best)
        self.best = value if better else self.best
        return better

    def _write(self, draft: Draft, about: dict[str, Any], best: bool) -> None:
        """On a thread. Where the disk is full, or the folder gone, training is worth more."""
        assert self._store is not None
        try:
            name = self._store.following()
            path = draft.finish(about, name)
            if best:
                self._store.mark_best(name)
            self.last = name
            self.tell("running")
            self._store.clean()
        except DataError as error:
            draft.discard()
            LOG.error("%s; training goes on, and the checkpoint before this one stays", error)
        else:
            LOG.info("checkpoint %s: epoch %.4g", path, about["epoch"])

    async def written(self) -> None:
        """Wait until what was taken is on the disk."""
        await self._milestones.settle()
        await self._done()

    async def _done(self) -> None:
        if self._task is not None:
            await self._transport.wait([self._task])
            self._task.result()
            self._task = None

    def tell(self, state: str, exit_code: int | None = None) -> None:
        """Leave word of how the run is doing. A failure to is logged alone."""
        if self._store is None:
            return
        try:
            self._store.status(state=state, checkpoint=self.last, exit_code=exit_code)
        except DataError as error:
            LOG.error("%s", error)


def states_of(callbacks: Sequence[Callback]) -> list[list[Any]]:
    """The state of each, beside its class's name. Raises TrainingError for one that no file can hold."""
    states = []
    for callback in callbacks:
        name = type(callback).__name__
        try:
            packed(state := callback.state_dict())
        except Exception as error:
            raise TrainingError(f"callback {name}, state_dict: {describe(error)}") from error
        states.append([name, state])
    return states


def put_back_states(callbacks: Sequence[Callback], states: Sequence[Sequence[Any]]) -> None:
    """Give each the state of one of its class, in their order."""
    left = list(states)
    for callback in callbacks:
        found = next((one for one in left if one[0] == type(callback).__name__), None)
        if found is not None:
            left.remove(found)
            callback.load_state_dict(found[1])


def preempted(signal: str, checkpoint: str | None) -> Preempted:
    """What a job leaves with that a signal told to."""
    if checkpoint is None:
        return Preempted(f"stopped by {signal}, and no checkpoint could be written")
    return Preempted(f"stopped by {signal} after checkpoint {checkpoint}: --restore auto goes on from there")


def best_of(wanted: CheckpointArguments, job: Job, setup: Setup) -> Monitor | None:
    """The figure by which the best one is kept, None for none. Raises OptionsError for what is not measured."""
    if not wanted.keep_best:
        return None
    return monitor_of(*two(wanted.keep_best), figures(job, setup), FLAG)


def figures(job: Job, setup: Setup) -> list[str]:
    """The names of what is measured."""
    return [*job.metric_names, *(f"val_{name}" for name in job.metric_names if setup.validation)]


def two(asked: Sequence[str]) -> tuple[str, str | None]:
    """A figure and its direction, where one is given."""
    return asked[0], asked[1] if len(asked) > 1 else None


def plainly(value: Any) -> Any:
    """What JSON has no form for."""
    return value.tolist() if hasattr(value, "tolist") else str(value)
