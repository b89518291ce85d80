"""MPIManager: makes rank 0 the master and the others workers, and trains."""

from __future__ import annotations

import atexit
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nnlo.comm.agree import agree, everywhere, share
from nnlo.comm.base import Transport, World
from nnlo.comm.local import LocalWorld
from nnlo.comm.virtual import VirtualWorld
from nnlo.data.base import Data
from nnlo.data.lists import FileList, file_list
from nnlo.errors import OptionsError
from nnlo.launcher import check_alone
from nnlo.logs import LOG
from nnlo.model import ModelBuilder
from nnlo.optim import Schedule
from nnlo.optim.schedules import Function
from nnlo.roles.caching import CachedFiles
from nnlo.roles.checking import check_job
from nnlo.roles.evaluation import evaluated
from nnlo.roles.exporting import tried_exports
from nnlo.roles.master import Master
from nnlo.roles.setup import Setup, prepare
from nnlo.roles.worker import Worker
from nnlo.threads import Place, own_place, set_threads
from nnlo.training.algo import Algo
from nnlo.training.callbacks import Callback, Callbacks
from nnlo.training.export import Exports, checked_formats
from nnlo.training.files import OutputFiles, write_history
from nnlo.training.history import History, begin_history, named, outcome
from nnlo.training.job import Job
from nnlo.training.observe import Observation, ObserveArguments
from nnlo.training.progress import Progress
from nnlo.training.runlog import RunLog
from nnlo.training.seeds import streams
from nnlo.training.stopping import EarlyStopping, TargetMetric, stopping_rules
from nnlo.training.timeline import write_timeline


class MPIManager:
    """One training job over the ranks of `comm`; every rank makes one and calls `train()`.

    comm: an mpi4py communicator; None, or one of size 1, trains in this process alone with the same
    loops; a `nnlo.comm.virtual.VirtualWorld` runs all ranks here on a virtual clock.
    train_list, val_list: a file that lists paths, or a list of paths; `val_list` is read with the same
    `data`, or with `val_data`. early_stopping: as "val_loss,~<,4"; target_metric: as "val_acc,>,0.97".
    schedule: of the learning rate, by name, as a `nnlo.optim.Schedule`, or a function from the epoch to a
    factor. output: the folder for the run's files, None for none. export: formats that the trained model is
    kept in as well, of `nnlo.training.export.FORMATS`. Raises OptionsError for what cannot work.
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
        *,
        callbacks: Sequence[Callback] = (),
        early_stopping: str | EarlyStopping | None = None,
        target_metric: str | TargetMetric | None = None,
        seed: int = 0,
        schedule: str | Schedule | Function | None = None,
        output: str | Path | None = ".",
        trial_name: str | None = None,
        overwrite: bool = False,
        val_data: Data | None = None,
        export: Sequence[str] = (),
        shuffle_buffer: int | None = None,
        train_split: float | None = None,
        wait: str = "sleep",
        verbose: bool = False,
        timeline: bool = False,
        monitor: float | None = None,
        arguments: dict[str, Any] | None = None,
    ) -> None:
        if not isinstance(num_epochs, int) or num_epochs < 1:
            raise OptionsError(f"--epochs must be a whole number, at least 1, not {num_epochs!r}")
        if not isinstance(data, Data):
            raise OptionsError(f"data must be a nnlo.Data, not {type(data).__name__}")
        if shuffle_buffer is not None and shuffle_buffer < 1:
            raise OptionsError(f"--shuffle-buffer must be at least 1, not {shuffle_buffer}")
        check_split(train_split, val_list, val_data)
        if timeline and output is None:
            raise OptionsError("--timeline writes a file into --output: output must not be None")
        self.world = choose_world(comm, wait)
        watched = ObserveArguments(timeline=timeline, monitor=monitor)
        self.observation = Observation(watched, one_process=isinstance(self.world, VirtualWorld))
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
            seed=seed,
            validate_every=algo.validate_every,
            shuffle_buffer=shuffle_buffer,
            schedule=Schedule.of(schedule).checked(num_epochs),
            amp=algo.amp,
            train_split=train_split,
        )
        if schedule is not None and algo.optimizer is None:
            raise OptionsError(f"--schedule: --mode {algo.mode} has no optimizer on the master: drop it")
        self.train_list, self.val_list = train_list, val_list
        rules = stopping_rules(early_stopping, target_metric)
        own = {"batch": data.batch_size, "epochs": num_epochs, "schedule": self.job.schedule.record()}
        self.arguments = {**(arguments or {}), **algo.record(), **own, **{rule.name: str(rule) for rule in rules}}
        self.callbacks = Callbacks([*callbacks, *rules]).callbacks
        self.overwrite = overwrite
        formats = checked_formats(export)
        if formats and output is None:
            raise OptionsError(f"--export {','.join(formats)} needs a folder to write to: give --output")
        self.files = None
        if output is not None:
            self.files = OutputFiles(output, model_builder.name, trial_name, overwrite, formats, timeline)
        self._exports: Exports | None = None
        self.verbose = verbose
        self.stop_training = False
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
        with self.observation:
            self.history = self.world.run(self._main)
        return self.history

    def stop(self, reason: str) -> None:
        """Have the training stop at the next validation point; `reason` goes into the history. On rank 0."""
        self.stop_training, self.stop_reason = True, reason

    def evaluate(self) -> dict[str, float] | None:
        """Validate once, without training; every rank calls it. Returns {"val_loss": ..., "val_acc": ...} on rank 0,
        None elsewhere.

        What is evaluated is the trained model after `train()`, before it what the builder builds, with the
        weights that it was given. Raises OptionsError or DataError on every rank alike.
        """
        atexit.unregister(self._check_left)
        return self.world.run(self._evaluate)

    async def _evaluate(self, transport: Transport) -> dict[str, float] | None:
        """What one rank does for it."""
        return await evaluated(transport, await everywhere(transport, self._with_files), self.model)

    async def _main(self, transport: Transport) -> History | None:
        """What one rank does."""
        self.observation.begin(transport)
        places = await share(transport, own_place())
        in_one_process = isinstance(self.world, VirtualWorld)
        threads = await share(
            transport, torch.get_num_threads() if in_one_process else set_threads(transport.rank, places)
        )
        await everywhere(transport, self._check_files if transport.rank == 0 else lambda: None)
        with CachedFiles(await everywhere(transport, self._with_files)) as cached:
            return await self._train(transport, await cached.copied(transport, places), places, threads)

    def check_data(self) -> list[str] | None:
        """Look through the data of both lists; every rank calls it. Prints a line on each file on rank 0, and returns
        the lines there.

        Raises DataError on every rank where something is wrong. `train()` may follow.
        """
        atexit.unregister(self._check_left)
        return self.world.run(self._check_data)

    async def _check_data(self, transport: Transport) -> list[str]:
        job = await everywhere(transport, self._with_files)
        with CachedFiles(job) as cached:
            return await check_job(transport, await cached.copied(transport, await share(transport, own_place())), job)

    async def _train(
        self, transport: Transport, job: Job, places: Sequence[Place], threads: list[int]
    ) -> History | None:
        setup = await prepare(transport, job)
        await everywhere(transport, lambda: None if transport.rank else self._check_callbacks(setup))
        if self.files is not None and self.files.exports:
            trial = partial(self._try_exports, self.files.exports, job, setup)
            await everywhere(transport, trial if transport.rank == 0 else lambda: None)
        transport.trace.add("setup", 0.0)
        if transport.rank:
            whose = {"rank": transport.id}
            LOG.info("begins on %s, torch threads: %d", places[transport.rank][0], threads[transport.rank], extra=whose)
            await Worker(transport, job, setup).run()
            LOG.info("done", extra=whose)
            await self.observation.end(transport)
            await agree(transport, None)
            return None
        LOG.info("%s", self._begin_line(setup, transport.size - 1))
        try:
            begun = self._begin_history(transport.peers, setup, places, threads)
            return await self._master(transport, job, setup, begun)
        finally:
            Callbacks(self.callbacks).close()

    def _begin_line(self, setup: Setup, workers: int) -> str:
        """What is about to run."""
        alone = isinstance(self.world, LocalWorld)
        ranks = "one process (for more: mpirun -np 3 ...)" if alone else f"a master and {workers} workers"
        samples = f"{setup.intake.samples:,} training samples"
        if setup.validation and setup.validation.samples:
            samples += f", {setup.validation.samples:,} to validate on"
        return f"{self.job.builder.name}: {setup.layout.numel:,} parameters, {samples}; {ranks}"

    def _check_files(self) -> None:
        if self.files is not None:
            self.files.check()

    def _check_callbacks(self, setup: Setup) -> None:
        names = self.job.metric_names
        validated = [f"val_{name}" for name in names] if setup.validation else []
        callbacks = Callbacks(self.callbacks)
        callbacks.set_manager(self)
        callbacks.check([*names, *validated])

    def _try_exports(self, paths: Mapping[str, Path], job: Job, setup: Setup) -> None:
        self._exports = tried_exports(paths, job, setup)

    def _with_files(self) -> Job:
        """The job with the files that its lists name, as this rank reads them."""
        train_files, val_files = file_list(self.train_list, "--train-data"), file_list(self.val_list, "--val-data")
        return replace(self.job, train_files=train_files, val_files=val_files)

    async def _master(self, transport: Transport, job: Job, setup: Setup, history: History) -> History:
        progress = [Progress(job.epochs, setup.intake.samples)] if self.verbose else []
        log = RunLog(job, history)
        callbacks = Callbacks([*self.callbacks, log, *progress])
        callbacks.set_manager(self)
        master = Master(transport, job, setup, callbacks, self, history)
        self.model = master.milestones.snapshot.module
        callbacks.on_train_begin({})
        callbacks.on_epoch_begin(0, {})
        await master.run()
        history["seconds"] = master.seconds()
        stopped = self.stop_training and not master.dealer.finished
        history["outcome"] = outcome(master.failure, stopped)
        history["stop_reason"] = (self.stop_reason or "a callback") if stopped else None
        figures, spans = await self.observation.end(transport)
        history.update(figures)
        callbacks.on_train_end(history["epochs"][-1] if history["epochs"] else {})
        if self.files is not None and master.failure is None:
            log.wrote(self.files.write(history, self.model))
            if self._exports is not None:
                log.wrote(self._exports.write(self.model))
        elif self.files is not None:
            log.wrote([self.files.write_history(history)])
        if self.files is not None and spans:
            log.wrote([write_timeline(self.files.timeline, spans)])
        await agree(transport, master.failure)
        return history

    def _begin_history(
        self, peers: Sequence[int], setup: Setup, places: Sequence[Place], threads: list[int]
    ) -> History:
        return begin_history(
            model=self.job.builder.name,
            trial=self.files.trial_name if self.files else None,
            arguments=self.arguments,
            seed=self.job.seed,
            seeds=streams(self.job.seed, peers),
            ranks=len(places),
            hosts=[host for host, _ in places],
            threads=threads,
            parameters=setup.layout.numel,
            train_data=named(self.train_list),
            val_data=named(self.val_list),
            train_samples=setup.intake.samples,
            val_samples=setup.validation.samples if setup.validation else 0,
        )

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


def check_split(train_split: float | None, val_list: FileList, val_data: Data | None) -> None:
    """Raises OptionsError for a share that is none, and for one beside validation data."""
    if train_split is None:
        return
    if not isinstance(train_split, (int, float)) or not 0 < train_split < 1:
        raise OptionsError(f"--train-split must be above 0 and below 1, not {train_split!r}")
    if val_list is not None or val_data is not None:
        raise OptionsError("--train-split validates on a part of the training data: drop it or --val-data")


def choose_world(comm: Any, wait: str) -> World:
    """Where the ranks of `comm` run."""
    if wait not in ("sleep", "spin"):
        raise OptionsError(f"--wait must be sleep or spin, not {wait!r}")
    if isinstance(comm, World):
        return comm
    if comm is None:
        return LocalWorld(2)
    from nnlo.comm.mpi import MPI, MpiWorld

    if comm.size == 1:
        if MPI.COMM_WORLD.size == 1:
            check_alone()
        return LocalWorld(2)
    return MpiWorld(comm, spin=wait == "spin")
