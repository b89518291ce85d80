"""Trials over real MPI: each is an `MPIManager` on the communicator of its block, as any other training."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from nnlo.comm.agree import share
from nnlo.comm.base import Transport
from nnlo.comm.contained import ContainedWorld
from nnlo.comm.mpi import MpiWorld, drive
from nnlo.errors import Finished, NnloError, PeerLost, Preempted, TrialFailed, describe
from nnlo.manager import MPIManager
from nnlo.optimize.block import Talk, Trainer, Weights
from nnlo.optimize.figure import FigureOfMerit
from nnlo.optimize.files import folder_of
from nnlo.optimize.search import Outcome, Say, Verdict, Work
from nnlo.optimize.trial import Parameters, Status
from nnlo.optimize.weights import packed_weights
from nnlo.training.callbacks import Callback, Logs
from nnlo.training.checkpoint.arguments import AUTO
from nnlo.training.signals import Signals

#: Makes a training's manager: `build(comm, parameters, **options)`, on the ranks of a communicator. The options are
#: arguments of the manager: checkpoint and restore where there are checkpoints, train_split where there are folds.
Build = Callable[..., MPIManager]
#: Seconds between two looks at whether the coordinator has something to say that it was not asked.
LOOKS = 0.05
STATUS = {Say.ON: Status.DONE, Say.REST: Status.RESTING, Say.STOP: Status.PRUNED}


class Asks(Callback):
    """Tells the coordinator of each epoch's figure, and does what it says."""

    retells = True

    def __init__(self, talk: Talk, figure: FigureOfMerit, known: int) -> None:
        self._talk, self._figure, self._known = talk, figure, known
        self._looked = 0.0

    def check(self, measured: Collection[str]) -> None:
        self._figure.check(measured)

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        if epoch >= self._known:
            self._obey(drive(self._talk.epoch(epoch + 1, self._figure.value_of(logs))))

    def on_train_batch_end(self, batch: int, logs: Logs) -> None:
        if time.monotonic() - self._looked > LOOKS:
            self._obey(drive(self._talk.asked()))
            self._looked = time.monotonic()

    def _obey(self, verdict: Verdict) -> None:
        if verdict.say is Say.LEAVE:
            self.manager.signals.caught = verdict.reason
        if verdict.say is not Say.ON and not self.manager.stop_at_once:
            self.manager.stop(verdict.reason or f"it {verdict.say}s", at_once=True)


class Group:
    """The ranks of `comm`, which train together, one training after another; each fails alone."""

    def __init__(self, comm: Any, build: Build, signals: Signals) -> None:
        self.comm, self._build, self._signals = comm, build, signals
        self._world = ContainedWorld(comm)

    def manager(self, parameters: Parameters, checkpoints: Path | None, **options: Any) -> MPIManager:
        """That of a training on all ranks, each of which calls it. Raises TrialFailed where one of them raises."""
        kept = {} if checkpoints is None else {"checkpoint": checkpoints, "restore": AUTO}
        manager = self._world.everywhere(
            lambda: self._build(self.comm, parameters, **kept, **options), MPIManager.close
        )
        manager.signals = Signals(self._signals)
        if isinstance(manager.world, MpiWorld):
            self._world.spin, self._world.transport = manager.world.spin, manager.world.transport
            manager.world = self._world
        return manager

    def train(self, manager: MPIManager) -> Mapping[str, Any] | None:
        """The history, on the first rank. Raises an NnloError on all ranks, also where this one is left alone."""
        try:
            return manager.train()
        except NnloError:
            raise
        except Exception as error:
            raise TrialFailed(describe(error)) from error

    @property
    def lost(self) -> bool:
        """Whether a rank has died."""
        return self._world.lost

    def shrink(self) -> None:
        """Go on with those who are left, each of which calls it."""
        self.comm = self.comm.Shrink()
        self._world = ContainedWorld(self.comm)


class ManagerTrainer(Trainer):
    """All ranks of a block train a trial; `folder`, where there is one, has a folder of checkpoints for each trial."""

    def __init__(self, group: Group, figure: FigureOfMerit, folder: Path | None) -> None:
        self._group, self._figure, self._folder = group, figure, folder

    async def train(self, group: Transport, work: Work, talk: Talk | None) -> tuple[Outcome | None, Weights | None]:
        checkpoints = self._folder and folder_of(self._folder, work.number)
        try:
            manager = self._group.manager(work.parameters, checkpoints)
            if talk:
                manager.callbacks.append(Asks(talk, self._figure, work.known))
            self._group.train(manager)
        except Finished:  # a job was killed after the training, and before what came of it was recorded
            return await self._anew(group, work, talk, checkpoints)
        except PeerLost as lost:  # whose rank is that within the block
            raise PeerLost(group.peers[0], f"a block cannot do without its master ({lost.reason})") from lost
        except Preempted:
            return Outcome(Status.RUNNING, reason=manager.signals.caught or "a signal"), None
        except NnloError as error:
            return Outcome(Status.RUNNING) if self._group.lost else Outcome(Status.FAILED, reason=str(error)), None
        if talk is None:
            return None, None
        verdict = talk.last
        if manager.history and manager.history["outcome"] == "done":  # whatever was said when it had come to its end
            verdict = Verdict(Say.ON)
        if verdict.say is Say.LEAVE:
            return Outcome(Status.RUNNING, reason=verdict.reason), None
        weights = partial(packed_weights, manager.model) if manager.model is not None else None
        return Outcome(STATUS[verdict.say], reason=verdict.reason), weights

    async def _anew(
        self, group: Transport, work: Work, talk: Talk | None, checkpoints: Path | None
    ) -> tuple[Outcome | None, Weights | None]:
        """Train it once more: of what is there, nobody has the weights."""
        if talk and checkpoints is not None:
            shutil.rmtree(checkpoints, ignore_errors=True)
        await share(group, None)
        return await self.train(group, work, talk)

    async def mend(self, group: Transport) -> None:
        if any(await share(group, self._group.lost)):
            self._group.shrink()
