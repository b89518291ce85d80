"""One training as each rank goes through it, from the lists of files to the files that are left."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from nnlo.comm.agree import agree, everywhere, share
from nnlo.comm.base import Transport
from nnlo.comm.local import LocalWorld
from nnlo.comm.virtual import VirtualWorld
from nnlo.data.lists import file_list
from nnlo.errors import DataError, Finished, OptionsError
from nnlo.logs import LOG
from nnlo.manager.account import accounted, told_of, write_account
from nnlo.roles.caching import CachedFiles
from nnlo.roles.checking import check_job
from nnlo.roles.checkpoints import best_of, figures, put_back_states
from nnlo.roles.evaluation import evaluated
from nnlo.roles.exporting import tried_exports
from nnlo.roles.measuring import measured
from nnlo.roles.patterns import ROLES, AtRankZero
from nnlo.roles.peer import Peer
from nnlo.roles.relay import Relay
from nnlo.roles.setup import Setup, prepare
from nnlo.roles.sharing import Member
from nnlo.roles.turns import turns_of
from nnlo.roles.watchdog import Watchdog
from nnlo.roles.worker import Worker
from nnlo.threads import Place, about_binding, own_place, set_threads
from nnlo.topology import Role
from nnlo.training.callbacks import Callbacks
from nnlo.training.checkpoint.contents import Restored, fingerprint
from nnlo.training.checkpoint.store import Saved, Store
from nnlo.training.export import Exports
from nnlo.training.history import History, begin_history, named, outcome
from nnlo.training.job import Job
from nnlo.training.progress import Progress
from nnlo.training.runlog import RunLog
from nnlo.training.seeds import streams
from nnlo.training.timeline import RankSpans, write_timeline

if TYPE_CHECKING:
    from nnlo.manager.manager import MPIManager


class Run:
    """What `manager` asks of the ranks; each of the three coroutines is called on all of them."""

    def __init__(self, manager: MPIManager) -> None:
        self._manager = manager

    async def evaluate(self, transport: Transport) -> dict[str, float] | None:
        job = await everywhere(transport, self._job)
        if job.train_split is None:
            job = replace(job, train_files=[])  # nothing of them is read, so nothing is copied
        with CachedFiles(job) as cached:
            job = await cached.copied(transport, await share(transport, own_place()))
            return await evaluated(transport, job, self._manager.model)

    async def check_data(self, transport: Transport) -> list[str]:
        job = await everywhere(transport, self._job)
        with CachedFiles(job) as cached:
            return await check_job(transport, await cached.copied(transport, await share(transport, own_place())), job)

    async def train(self, transport: Transport) -> History | None:
        manager = self._manager
        manager.observation.begin(transport)
        places = await share(transport, own_place())
        await on_master(transport, self._check_files)
        with CachedFiles(await everywhere(transport, self._job)) as cached:
            job = await cached.copied(transport, places)
            setup = await prepare(transport, job)
            await on_master(transport, partial(self._check_callbacks, setup))
            setup = await self._checkpointed(transport, job, setup)
            exports = await on_master(transport, partial(self._exports, job, setup))
            threads = await share(transport, self._threads(transport, places))
            setup = await self._in_turns(transport, job, setup, threads)
            transport.trace.add("setup", 0.0)
            if transport.rank:
                await self._work(transport, job, setup, places[transport.rank][0])
                return None
            LOG.info("%s", self._begin_line(setup))
            history = self._begin_history(transport.peers, setup, places, threads)
            try:
                return await Leading(manager, transport, job, setup, exports).run(history)
            finally:
                setup.turns.close()
                Callbacks(manager.callbacks).close()

    def _check_files(self) -> None:
        """Those of a run that goes on from a checkpoint are its own."""
        manager, source = self._manager, self._manager.job.checkpoints.source
        manager.overwrite |= source is not None and (Saved.is_at(source) or bool(Store(source).names()))
        if manager.files:
            manager.files.overwrite = manager.overwrite
            manager.files.check()

    def _job(self) -> Job:
        """The job with the files that its lists name, as this rank reads them."""
        manager = self._manager
        train_files = file_list(manager.train_list, "--train-data")
        return replace(manager.job, train_files=train_files, val_files=file_list(manager.val_list, "--val-data"))

    def _threads(self, transport: Transport, places: Sequence[Place]) -> int:
        if isinstance(self._manager.world, VirtualWorld):
            return torch.get_num_threads()
        masters = [node.rank for node in self._manager.job.topology.nodes if not node.worker]
        if warning := about_binding(transport.rank, places, masters, os.cpu_count() or 1):
            LOG.warning(warning, extra={"rank": transport.id})
        return set_threads(transport.rank, places, masters)

    async def _checkpointed(self, transport: Transport, job: Job, setup: Setup) -> Setup:
        """With the checkpoint to go on from, if one is asked for and there. Raises the same error on every rank."""
        base, restored, restores = job.checkpoints.checkpoint, None, False
        if base is not None:
            await on_master(transport, partial(opened, base, job.checkpoints.source, self._manager.overwrite))
        if job.checkpoints.source is not None:
            restored = await on_master(transport, partial(self._restored, job, setup, job.checkpoints.source))
            restores = (await share(transport, restored is not None))[0]
        keeps = restores or base is not None
        return replace(setup, keeps=keeps, restores=restores, restored=restored, signals=self._manager.signals)

    def _restored(self, job: Job, setup: Setup, source: Path) -> Restored | None:
        own = fingerprint(job, setup.layout, setup.intake.samples, setup.intake.grain)
        restored = Restored.of(source, own, fresh=job.checkpoints.automatic)
        if restored is None:
            LOG.info("--restore auto: no checkpoint in %s yet, training begins", source)
        elif reason := restored.over(job.epochs, self._manager.rules):
            raise Finished(f"{restored.saved.folder}: {reason}")
        else:
            about = restored.saved.about
            LOG.info("goes on from checkpoint %s: epoch %.4g", restored.saved.folder, about["epoch"])
        return restored

    async def _in_turns(self, transport: Transport, job: Job, setup: Setup, threads: list[int]) -> Setup:
        """With what rank 0 records its turns in, or what it follows. Raises the same error on every rank."""
        if job.replay.record is None and job.replay.replay is None:
            return setup
        about = {"ranks": transport.size, "threads": threads, "checkpoints": str(setup.keeps)}
        about |= fingerprint(job, setup.layout, setup.intake.samples, setup.intake.grain)
        turns = await on_master(transport, partial(turns_of, job, about))
        return replace(setup, turns=turns) if turns else setup

    def _check_callbacks(self, setup: Setup) -> None:
        callbacks = Callbacks(self._manager.callbacks)
        callbacks.set_manager(self._manager)
        callbacks.check(figures(self._manager.job, setup))
        best_of(self._manager.job.checkpoints, self._manager.job, setup)

    def _exports(self, job: Job, setup: Setup) -> Exports | None:
        files = self._manager.files
        return tried_exports(files.exports, job, setup) if files and files.exports else None

    async def _work(self, transport: Transport, job: Job, setup: Setup, host: str) -> None:
        whose = {"rank": transport.id}
        LOG.info("begins on %s, torch threads: %d", host, torch.get_num_threads(), extra=whose)
        in_company = not isinstance(self._manager.world, VirtualWorld)
        watchdog = Watchdog(job.survival.stall_timeout if in_company else 0.0, f"rank {transport.id} on {host}")
        watchdog.start()
        try:
            await role_of(transport, job, replace(setup, watchdog=watchdog)).run()
        finally:
            watchdog.stop()
            if setup.team:
                setup.team.close()
        LOG.info("done", extra=whose)
        if job.worker_accuracy:
            trains = job.topology.nodes[transport.rank].role is Role.WORKER
            found = await everywhere(transport, partial(measured, job, setup) if trains else lambda: None)
            await share(transport, [str(transport.id), found] if trains else None)
        await self._manager.observation.end(transport)
        await agree(transport, None)

    def _begin_line(self, setup: Setup) -> str:
        """What is about to run."""
        alone = isinstance(self._manager.world, LocalWorld)
        ranks = "one process (for more: mpirun -np 3 ...)" if alone else str(self._manager.job.topology)
        samples = f"{setup.intake.samples:,} training samples"
        if setup.validation and setup.validation.samples:
            samples += f", {setup.validation.samples:,} to validate on"
        return f"{self._manager.job.builder.name}: {setup.layout.numel:,} parameters, {samples}; {ranks}"

    def _begin_history(
        self, peers: Sequence[int], setup: Setup, places: Sequence[Place], threads: list[int]
    ) -> History:
        manager = self._manager
        return begin_history(
            setup.restored.resumed if setup.restored else None,
            model=manager.job.builder.name,
            trial=manager.files.trial_name if manager.files else None,
            arguments=manager.arguments,
            seed=manager.job.seed,
            seeds=streams(manager.job.seed, peers),
            ranks=len(places),
            hosts=[host for host, _ in places],
            threads=threads,
            parameters=setup.layout.numel,
            train_data=named(manager.train_list),
            val_data=named(manager.val_list),
            train_samples=setup.intake.samples,
            val_samples=setup.validation.samples if setup.validation else 0,
        )


def opened(base: Path, source: Path | None, overwrite: bool) -> None:
    """Make the folder of checkpoints. Raises OptionsError where there are some that this run does not go on from."""
    store = Store(base)
    store.open()
    if store.names() and source not in (base, *(base / name for name in store.names())):
        if not overwrite:
            raise OptionsError(f"--checkpoint {base}: there are checkpoints: give --restore auto, or --overwrite")
        store.clear()


def role_of(transport: Transport, job: Job, setup: Setup) -> Worker | Peer | Relay | Member:
    """What this rank does, other than rank 0."""
    if setup.crew is None:
        return Member(transport, job, setup)
    if job.topology.nodes[transport.rank].role is Role.MASTER:
        return Relay(setup.crew, job, setup)
    return ROLES[job.algorithm.pattern].other(setup.crew, job, setup)


async def on_master(transport: Transport, work: Callable[[], Any]) -> Any:
    """Do `work` on rank 0; all ranks raise what it raises. Its result there, None elsewhere."""
    return await everywhere(transport, work if transport.rank == 0 else lambda: None)


class Leading:
    """Rank 0's part of a training."""

    def __init__(
        self, manager: MPIManager, transport: Transport, job: Job, setup: Setup, exports: Exports | None
    ) -> None:
        self._manager, self._transport, self._job, self._setup = manager, transport, job, setup
        self._exports = exports

    async def run(self, history: History) -> History:
        """Train, write what is to be left, and agree with the workers on how it went."""
        manager, job, transport = self._manager, self._job, self._transport
        log = RunLog(job, history)
        progress = [Progress(job.epochs, self._setup.intake.samples)] if manager.verbose else []
        callbacks = Callbacks([*manager.callbacks, log, *progress])
        callbacks.set_manager(manager)
        crew = self._setup.crew or transport
        master = ROLES[job.algorithm.pattern].rank_zero(crew, job, self._setup, callbacks, manager, history)
        manager.model = master.milestones.snapshot.module
        manager.restored = self._setup.restored is not None
        callbacks.on_train_begin({})
        done = self._continue()
        callbacks.on_epoch_begin(done, {})
        if manager.files is not None:
            manager.files.written = ()
        with accounted(manager.files, history, master.seconds), told_of(master.checkpoints):
            await master.run()
            unwritten = await self._finish(master, callbacks, history)
        log.wrote(manager.files.written if manager.files else ())
        await agree(transport, master.failure or unwritten)
        return history

    def _continue(self) -> int:
        """Put what a checkpoint remembers back; the epochs that are done."""
        restored, manager = self._setup.restored, self._manager
        if restored is None:
            return 0
        put_back_states(manager.callbacks, restored.record["callbacks"])
        Callbacks([one for one in manager.callbacks if one.retells]).retell(restored.history)
        if restored.record["stopping"] and not restored.saved.about["over"]:
            manager.stop(restored.record["stop"])
        return restored.epochs

    async def _finish(self, master: AtRankZero, callbacks: Callbacks, history: History) -> DataError | None:
        """Write what is to be left, with what the workers have to tell; why not all of it could be written.

        The weights come first: nothing that fails after the training is to cost them.
        """
        self._conclude(master, history)
        code = master.failure.exit_code if master.failure else 0
        master.checkpoints.tell(history["outcome"].partition(":")[0], code)
        self._keep(failed=master.failure is not None)
        if self._job.worker_accuracy:
            await agree(self._transport, None)
            history["workers"] = dict(filter(None, await share(self._transport, None)))
        figures, spans = await self._manager.observation.end(self._transport)
        history.update(figures)
        try:
            callbacks.on_train_end(history["epochs"][-1] if history["epochs"] else {})
        finally:
            unwritten = self._write(history, spans, failed=master.failure is not None)
        return unwritten

    def _conclude(self, master: AtRankZero, history: History) -> None:
        """How long it took and how it ended."""
        stopped = self._manager.stop_training and not master.finished
        history["seconds"] = master.seconds()
        history["outcome"] = outcome(master.failure, stopped)
        history["stop_reason"] = (self._manager.stop_reason or "a callback") if stopped else None

    def _keep(self, failed: bool) -> None:
        """Write the weights, unless they are those of a failure."""
        if self._manager.files is not None and self._manager.model is not None and not failed:
            self._manager.files.keep(self._manager.model)

    def _write(self, history: History, spans: list[RankSpans], failed: bool) -> DataError | None:
        """All that there is to write, whatever else cannot be; the first complaint."""
        files, model = self._manager.files, self._manager.model
        if files is None or model is None:
            return None
        exports = self._exports
        parts: list[Callable[[], object]] = (
            [partial(write_account, files, history)] if failed else files.writers(history)
        )
        if exports and not failed:
            parts.append(lambda: files.wrote(*exports.write(model)))
        if spans:
            parts.append(lambda: files.wrote(write_timeline(files.timeline, spans)))
        complaints = [complaint for complaint in map(attempted, parts) if complaint]
        return complaints[0] if complaints else None


def attempted(work: Callable[[], Any]) -> DataError | None:
    """Do `work`; why it could not be done."""
    try:
        work()
    except DataError as error:
        return error
    return None
