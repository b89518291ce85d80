"""The manager that user code makes: it checks what it is given, and trains when it is told to."""

from __future__ import annotations

import atexit
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from torch import nn

from nnlo.allocation import keep_freed_memory
from nnlo.comm.base import TRANSPORTS, WAITS, World
from nnlo.comm.local import LocalWorld
from nnlo.comm.virtual import VirtualWorld
from nnlo.data.base import Data
from nnlo.data.fold import Fold
from nnlo.data.lists import FileList
from nnlo.data.partition import DataSplit, check_classes
from nnlo.errors import OptionsError
from nnlo.launcher import check_alone
from nnlo.manager.given import check_kinds, check_ranks, check_seed, check_survival
from nnlo.manager.run import Run
from nnlo.model import ModelBuilder
from nnlo.optim import Schedule
from nnlo.optim.schedules import Function
from nnlo.training.algo import Algo
from nnlo.training.callbacks import Callback, Callbacks
from nnlo.training.checkpoint.arguments import CheckpointArguments
from nnlo.training.export import checked_formats
from nnlo.training.files import OutputFiles, Wanted, write_history
from nnlo.training.history import History
from nnlo.training.job import MAX_BAD_UPDATES, Job
from nnlo.training.observe import Observation, ObserveArguments
from nnlo.training.replay import ReplayArguments
from nnlo.training.signals import Signals
from nnlo.training.stopping import EarlyStopping, TargetMetric, stopping_rules
from nnlo.training.survival import SurvivalArguments


class MPIManager:
    """One training job over the ranks of `comm`; every rank makes one and calls `train()`.

    comm: an mpi4py communicator; None, or one of size 1, trains in this process alone with the same
    loops; a `nnlo.comm.virtual.VirtualWorld` runs all ranks here on a virtual clock.
    train_list, val_list: a file that lists paths, or a list of paths; `val_list` is read with the same
    `data`, or with `val_data`; train_split instead trains on that share of the samples and validates on the
    rest, or, where it is a `nnlo.data.fold.Fold`, on that fold. shuffle_buffer: samples that are shuffled together,
    None for what fits into 32 MiB.
    data_split: who has which training samples, "even", "shared", "label" or "dirichlet:alpha=0.5"; classes: the
    classes that are taken, as "0-4", in training and validation.
    num_masters: above 1, rank 0 is the head of num_masters - 1 others, which share the workers; num_processes: the
    ranks of each worker, which compute a part of every batch each; team_backend: "mpi", or "gloo" or "nccl" of
    torch.distributed, is what those add up their gradients with.
    early_stopping: as "val_loss,~<,4"; target_metric: as "val_acc,>,0.97". schedule: of the learning rate, by
    name, as a `nnlo.optim.Schedule`, or a function from the epoch to a factor.
    output: the folder for the run's files, None for none; trial_name: in their names, None for a time stamp.
    save_model, report, timeline, export: whether the weights, an HTML report, a timeline of all ranks, and the
    model in the formats of `nnlo.training.export` are among them. monitor: seconds between two samples
    of each process's load. model_accuracy, worker_accuracy: measure the centre on the training samples at the
    ends of epochs, and each worker on its share of them at the end. max_bad_updates: updates in a row that are inf or
    nan and end the job. on_worker_loss: "continue" or "stop"; min_workers: with fewer left the job stops.
    on_bad_file: "stop" or "skip", for training samples that cannot be read; stall_timeout: seconds that a batch may
    take, 0 for no limit. checkpoint: a folder for checkpoints, one every `checkpoint_interval` epochs and, as "10m",
    every `checkpoint_every`; the last `keep` and the best by `keep_best`, as ("val_acc", "max"), stay. restore: the
    folder to go on from, or "auto". record, replay: the file of what decided the run, to be written or followed.
    wait: "sleep" or "spin". transport: how ranks of one host exchange, "auto", "mpi" or "shm". verbose: show progress.
    delay: the seconds that a rank takes longer for its next batch, by its number, for studies of uneven workers.
    arguments: what else the history is to record.

    Constructing it starts nothing. Raises OptionsError for what cannot work.
    """

    def __init__(
        self,
        comm: Any,
        data: Data,
        algo: Algo,
        model_builder: ModelBuilder,
        num_epochs: int,
        train_list: FileList,
        val_list: FileList,
        num_masters: int = 1,
        num_processes: int = 1,
        *,
        callbacks: Sequence[Callback] = (),
        early_stopping: str | EarlyStopping | None = None,
        target_metric: str | TargetMetric | None = None,
        seed: int = 0,
        schedule: str | Schedule | Function | None = None,
        output: str | Path | None = ".",
        trial_name: str | None = None,
        overwrite: bool = False,
        save_model: bool = True,
        report: bool = False,
        export: Sequence[str] = (),
        val_data: Data | None = None,
        shuffle_buffer: int | None = None,
        train_split: float | Fold | None = None,
        data_split: str | None = None,
        classes: str | None = None,
        model_accuracy: bool = False,
        worker_accuracy: bool = False,
        max_bad_updates: int = MAX_BAD_UPDATES,
        on_worker_loss: str = "continue",
        min_workers: int = 1,
        on_bad_file: str = "stop",
        stall_timeout: float = 1800.0,
        checkpoint: str | Path | None = None,
        checkpoint_interval: int = 5,
        checkpoint_every: str | None = None,
        keep: int = 2,
        keep_best: Sequence[str] = (),
        restore: str | Path | None = None,
        record: str | Path | None = None,
        replay: str | Path | None = None,
        wait: str = "sleep",
        transport: str = "auto",
        verbose: bool = False,
        timeline: bool = False,
        monitor: float | None = None,
        team_backend: str = "mpi",
        delay: Callable[[int], float] | None = None,
        arguments: dict[str, Any] | None = None,
    ) -> None:
        check_kinds(data, val_data, algo, model_builder, callbacks)
        check_seed(seed)
        check_basics(num_epochs, shuffle_buffer, max_bad_updates)
        check_split(train_split, val_list, val_data)
        if classes is not None:
            check_classes(classes)
        self.world = choose_world(comm, wait, transport)
        topology = check_ranks(self.world, algo, num_masters, num_processes, team_backend)
        self.train_list, self.val_list = train_list, val_list
        self.job = Job(
            data=data,
            val_data=val_data or data,
            train_files=[],
            val_files=[],
            builder=model_builder,
            algorithm=algo.algorithm,
            optimizer=algo.optimizer,
            loss=algo.loss,
            metrics=algo.metrics,
            epochs=num_epochs,
            topology=topology,
            team_backend=team_backend,
            seed=seed,
            validate_every=algo.validate_every,
            shuffle_buffer=shuffle_buffer,
            schedule=Schedule.of(schedule).checked(num_epochs),
            amp=algo.amp,
            train_split=train_split,
            data_split=None if data_split is None else DataSplit.of(data_split),
            classes=classes,
            model_accuracy=model_accuracy,
            worker_accuracy=worker_accuracy,
            max_bad_updates=max_bad_updates,
            delay=delay,
            survival=SurvivalArguments(
                on_worker_loss=on_worker_loss,
                min_workers=min_workers,
                on_bad_file=on_bad_file,
                stall_timeout=stall_timeout,
            ),
            checkpoints=CheckpointArguments(
                checkpoint=folder(checkpoint),
                checkpoint_interval=checkpoint_interval,
                checkpoint_every=checkpoint_every,
                keep=keep,
                keep_best=tuple(keep_best),
                restore=folder(restore),
            ),
            replay=ReplayArguments(record=folder(record), replay=folder(replay)),
        )
        check_survival(self.job.survival, num_processes)
        rules = stopping_rules(early_stopping, target_metric)
        own = {"batch": data.batch_size, "epochs": num_epochs, "schedule": self.job.schedule.recorded()}
        ranks = {"n_masters": num_masters, "n_processes": num_processes, "team_backend": team_backend}
        self.arguments = {
            **(arguments or {}),
            **algo.recorded(),
            **own,
            **ranks,
            **{rule.name: str(rule) for rule in rules},
        }
        self.callbacks = Callbacks([*callbacks, *rules]).callbacks
        self.rules = [f"{rule.flag} {rule}" for rule in rules]
        self.signals = Signals()
        self.restored = False  # whether the training goes on from a checkpoint
        wanted = Wanted(save_model, report, timeline, checked_formats(export))
        wanted.check_folder(output)
        self.overwrite, self.verbose = overwrite, verbose
        self.files = None
        if output is not None:
            self.files = OutputFiles(output, model_builder.name, trial_name, overwrite, wanted)
        watched = ObserveArguments(timeline=timeline, monitor=monitor)
        self.observation = Observation(watched, one_process=isinstance(self.world, VirtualWorld))
        self.stop_training = self.stop_at_once = False
        self.stop_reason: str | None = None
        self.model: nn.Module | None = None
        self.history: History | None = None
        atexit.register(self._check_left)

    def train(self) -> History | None:
        """Train; every rank calls it. Returns the history on rank 0, None elsewhere.

        Raises, on every rank alike, OptionsError or DataError before training if something cannot
        work, and TrainingError if training cannot go on.
        """
        atexit.unregister(self._check_left)
        self.stop_training = self.stop_at_once = False
        self.stop_reason = None
        keep_freed_memory()
        watched = self.signals if self.job.checkpoints.checkpoint is not None else nullcontext()
        with self.observation, watched:
            self.history = self.world.run(Run(self).train)
        return self.history

    def stop(self, reason: str, at_once: bool = False) -> None:
        """Have the training stop at the next validation point; `reason` goes into the history. On rank 0.

        at_once: as soon as the updates that are under way allow, and without another validation.
        """
        self.stop_training, self.stop_reason = True, reason
        self.stop_at_once |= at_once

    def evaluate(self) -> dict[str, float] | None:
        """Validate once, without training; every rank calls it. Returns {"val_loss": ..., "val_acc": ...} on rank 0,
        None elsewhere.

        What is evaluated is the trained model after `train()`, before it what the builder builds, with the
        weights that it was given. Raises OptionsError or DataError on every rank alike.
        """
        atexit.unregister(self._check_left)
        return self.world.run(Run(self).evaluate)

    def check_data(self) -> list[str] | None:
        """Look through the data of both lists; every rank calls it. Prints a line on each file on rank 0, and returns
        the lines there.

        Raises DataError on every rank where something is wrong. `train()` may follow.
        """
        atexit.unregister(self._check_left)
        return self.world.run(Run(self).check_data)

    def figure_of_merit(self) -> float | None:
        """The last validation loss, or the last training loss where nothing was validated; on rank 0."""
        if not self.history or not self.history["epochs"]:
            return None
        last = self.history["epochs"][-1]
        return float(last.get("val_loss", last["loss"]))

    def record_details(self, json_name: str | Path) -> None:
        """Write the history to a file of that name; on ranks other than 0 nothing happens."""
        if self.history is not None:
            write_history(Path(json_name), self.history)

    def close(self) -> None:
        """Leave without training; every rank that made a manager calls it or `train()`."""
        atexit.unregister(self._check_left)

    def _check_left(self) -> None:
        """At exit: a rank that leaves without `train()` would let the others wait for ever."""
        self.world.abandon("it made an MPIManager and ended without train(): call train() (or close()) on every rank")


def check_basics(num_epochs: int, shuffle_buffer: int | None, max_bad_updates: int) -> None:
    """Raises OptionsError for what is of the wrong kind or size."""
    if not isinstance(max_bad_updates, int) or max_bad_updates < 1:
        raise OptionsError(f"--max-bad-updates must be a whole number, at least 1, not {max_bad_updates!r}")
    if not isinstance(num_epochs, int) or num_epochs < 1:
        raise OptionsError(f"--epochs must be a whole number, at least 1, not {num_epochs!r}")
    if shuffle_buffer is not None and shuffle_buffer < 1:
        raise OptionsError(f"--shuffle-buffer must be at least 1, not {shuffle_buffer}")


def check_split(train_split: float | Fold | None, val_list: FileList, val_data: Data | None) -> None:
    """Raises OptionsError for a share that is none, and for one beside validation data."""
    if train_split is None:
        return
    folds = isinstance(train_split, Fold)
    if not folds and not (isinstance(train_split, (int, float)) and 0 < train_split < 1):
        raise OptionsError(f"--train-split must be above 0 and below 1, not {train_split!r}")
    if val_list is not None or val_data is not None:
        flag = "--n-fold" if folds else "--train-split"
        raise OptionsError(f"{flag} validates on a part of the training data: drop it or --val-data")


def folder(path: str | Path | None) -> Path | None:
    return None if path is None else Path(path)


def choose_world(comm: Any, wait: str, transport: str) -> World:
    """Where the ranks of `comm` run."""
    for flag, given, known in (("--wait", wait, WAITS), ("--transport", transport, TRANSPORTS)):
        if given not in known:
            raise OptionsError(f"{flag} must be one of {', '.join(known)}, not {given!r}")
    if isinstance(comm, World):
        return comm
    if comm is None:
        return LocalWorld(2)
    from nnlo.comm.mpi import MPI, MpiWorld

    if comm.size == 1:
        if MPI.COMM_WORLD.size == 1:
            check_alone()
        return LocalWorld(2)
    return MpiWorld(comm, spin=wait == "spin", transport=transport)
