"""MPIManager: makes rank 0 the master and the others workers, and trains."""

from __future__ import annotations

import atexit
from collections.abc import Sequence
from dataclasses import replace
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
from nnlo.roles.master import Master
from nnlo.roles.setup import Setup, prepare
from nnlo.roles.worker import Worker
from nnlo.threads import Place, own_place, set_threads
from nnlo.training.algo import Algo
from nnlo.training.callbacks import Callback, Callbacks
from nnlo.training.files import OutputFiles, write_history
from nnlo.training.history import History, begin_history, named, outcome, peak_memory
from nnlo.training.job import Job
from nnlo.training.progress import Progress


class MPIManager:
    """One training job over the ranks of `comm`; every rank makes one and calls `train()`.

    comm: an mpi4py communicator; None, or one of size 1, trains in this process alone with the same
    loops; a `nnlo.comm.virtual.VirtualWorld` runs all ranks here on a virtual clock.
    train_list, val_list: a file that lists paths, or a list of paths; `val_list` is read with the same
    `data`, or with `val_data`. output: the folder for the run's files, None for none; save_model,
    report: whether the weights and an HTML report are among them. Raises OptionsError for what cannot work.
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
        seed: int = 0,
        output: str | Path | None = ".",
        trial_name: str | None = None,
        overwrite: bool = False,
        save_model: bool = True,
        report: bool = False,
        val_data: Data | None = None,
        shuffle_buffer: int | None = None,
        wait: str = "sleep",
        verbose: bool = False,
        arguments: dict[str, Any] | None = None,
    ) -> None:
        if not isinstance(num_epochs, int) or num_epochs < 1:
            raise OptionsError(f"--epochs must be a whole number, at least 1, not {num_epochs!r}")
        if not isinstance(data, Data):
            raise OptionsError(f"data must be a nnlo.Data, not {type(data).__name__}")
        if shuffle_buffer is not None and shuffle_buffer < 1:
            raise OptionsError(f"--shuffle-buffer must be at least 1, not {shuffle_buffer}")
        self.world = choose_world(comm, wait)
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
        )
        self.train_list, self.val_list = train_list, val_list
        self.arguments = {**(arguments or {}), **algo.record(), "batch": data.batch_size, "epochs": num_epochs}
        self.callbacks = list(callbacks)
        self.files = None
        if output is not None:
            self.files = OutputFiles(output, model_builder.name, trial_name, overwrite, save_model, report)
        elif report:
            raise OptionsError("--report needs a folder to write it to: give an --output")
        self.verbose = verbose
        self.stop_training = False
        self.model: nn.Module | None = None
        self.history: History | None = None
        atexit.register(self._check_left)

    def train(self) -> History | None:
        """Train; every rank calls it. Returns the history on rank 0, None elsewhere.

        Raises, on every rank alike, OptionsError or DataError before training if something cannot
        work, and TrainingError if training cannot go on.
        """
        atexit.unregister(self._check_left)
        self.history = self.world.run(self._main)
        return self.history

    async def _main(self, transport: Transport) -> History | None:
        """What one rank does."""
        places = await share(transport, own_place())
        in_one_process = isinstance(self.world, VirtualWorld)
        threads = await share(
            transport, torch.get_num_threads() if in_one_process else set_threads(transport.rank, places)
        )
        await everywhere(transport, self._check_files if transport.rank == 0 else lambda: None)
        job = await everywhere(transport, self._with_files)
        setup = await prepare(transport, job)
        if transport.rank:
            LOG.debug("worker begins, torch threads: %d", threads[transport.rank])
            await Worker(transport, job, setup).run()
            LOG.debug("worker done")
            await share(transport, (str(transport.id), peak_memory()))
            await agree(transport, None)
            return None
        LOG.info("%s", self._begin_line(setup, transport.size - 1))
        return await self._master(transport, job, setup, self._begin_history(setup, places, threads))

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

    def _with_files(self) -> Job:
        """The job with the files that its lists name, as this rank reads them."""
        train_files, val_files = file_list(self.train_list, "--train-data"), file_list(self.val_list, "--val-data")
        return replace(self.job, train_files=train_files, val_files=val_files)

    async def _master(self, transport: Transport, job: Job, setup: Setup, history: History) -> History:
        progress = [Progress(job.epochs, setup.intake.samples)] if self.verbose else []
        callbacks = Callbacks([*self.callbacks, *progress])
        callbacks.set_manager(self)
        master = Master(transport, job, setup, callbacks, self, history)
        self.model = master.milestones.snapshot.module
        callbacks.on_train_begin({})
        callbacks.on_epoch_begin(0, {})
        await master.run()
        history["seconds"] = master.seconds()
        history["outcome"] = outcome(master.failure, self.stop_training and not master.dealer.finished)
        history["peak_memory_bytes"] = dict(await share(transport, (str(transport.id), peak_memory())))
        callbacks.on_train_end(history["epochs"][-1] if history["epochs"] else {})
        if self.files is not None and master.failure is None:
            self.files.write(history, self.model)
        elif self.files is not None:
            self.files.write_account(history)
        await agree(transport, master.failure)
        return history

    def _begin_history(self, setup: Setup, places: Sequence[Place], threads: list[int]) -> History:
        return begin_history(
            model=self.job.builder.name,
            trial=self.files.trial_name if self.files else None,
            arguments=self.arguments,
            seed=self.job.seed,
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
