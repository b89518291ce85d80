"""ExperimentDriver: run all trainings that a file describes under the same conditions, and compare them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import nnlo
from nnlo import MPIManager
from nnlo.algos import MODES
from nnlo.cli import Command, build, run
from nnlo.comm import world_comm
from nnlo.comm.agree import together
from nnlo.comm.costs import Host
from nnlo.comm.virtual import VirtualWorld
from nnlo.drivers import TrainingDriver
from nnlo.drivers.TrainingDriver import Task, manager_of
from nnlo.errors import OptionsError
from nnlo.experiments.document import Document
from nnlo.experiments.experiment import Experiment, Run, Trains
from nnlo.experiments.files import ExperimentFiles
from nnlo.experiments.results import Result, result_of
from nnlo.experiments.summary import as_text
from nnlo.launcher import check_single, launched_rank
from nnlo.logs import set_up
from nnlo.options import Options, option, plain_type
from nnlo.topology.graphs import GraphOptions
from nnlo.training.arguments import OptimizerArguments
from nnlo.training.history import versions

PROG = "ExperimentDriver"
DESCRIPTION = (
    "Run all trainings that a YAML file describes, and compare them: mpirun -np 11 ExperimentDriver FILE.yaml, or "
    "without mpirun, on a virtual clock in one process, ExperimentDriver FILE.yaml --virtual"
)
FILES = ("output", "trial_name", "overwrite", "checkpoint", "restore", "record", "replay", "config", "evaluate")
"""Options of a training that are not for an experiment to say: what its runs leave lies in its own folder."""

OF_OPTIMIZER = ("optimizer", "lr", "momentum")
ALONE, WHOLE = "each alone", "one process, all data"
ALONE_MODE = {"mode": "dsgd", "graph": "none"}


@dataclass(frozen=True, kw_only=True)
class ExperimentArguments(Options):
    """Experiment"""

    file: Path | None = option(None, help="the file that describes it", metavar="FILE.yaml", positional=True)
    virtual: bool = option(False, help="run in this process, on a virtual clock: any number of workers")
    folder: Path | None = option(None, help="where its folder is made, instead of where the file says", metavar="DIR")
    only: tuple[str, ...] = option((), help="run those alone whose names begin with one of these", metavar="NAME,...")
    verbose: bool = option(False, help="show how each run gets on")

    def check(self) -> None:
        if self.file is None:
            raise OptionsError(f"name the file of an experiment: {PROG} FILE.yaml")


def command() -> Command:
    return Command(PROG, DESCRIPTION, [ExperimentArguments], version=nnlo.__version__)


class TrainingOptions(Trains):
    """Those of TrainingDriver, but for what has to do with files that a run leaves."""

    def __init__(self) -> None:
        self._line = TrainingDriver.command()

    def check(self, name: str, value: Any) -> Any:
        if name in FILES:
            raise OptionsError(f"'{name}' is not for an experiment, whose runs leave all in its folder: drop it")
        return self._line.checked({name: value})[name]

    def sweeps(self, name: str) -> bool:
        found = self._line.hint(name)
        return found is not None and plain_type(found)[0] not in (tuple, list, dict)


class Experimenter:
    """Makes the managers of all runs, on one rank. Raises OptionsError for what one of them cannot do."""

    def __init__(self, arguments: ExperimentArguments) -> None:
        assert arguments.file is not None
        self.arguments, self.document = arguments, Document(arguments.file)
        self.experiment = Experiment.read(self.document, TrainingOptions())
        if arguments.folder is not None:
            self.experiment = self.experiment.in_folder(arguments.folder)
        self.line = TrainingDriver.command()
        self.workers = self._workers()
        self.runs = [one for one in (*self.experiment.runs, *self._solo()) if self._wanted(one)]
        if not self.runs:
            names = ", ".join(one.name for one in self.experiment.runs)
            raise OptionsError(f"--only {','.join(arguments.only)}: no run has such a name: there are {names}")
        for one in self.runs:
            self._check(one)

    def _workers(self) -> int:
        asked = self.experiment.options.workers
        if self.arguments.virtual:
            if asked is None:
                self.document.fail(("experiment",), "--virtual needs to know how many workers: give 'workers: 10'")
            return asked
        found = world_comm().size - 1
        if found < 1:
            raise OptionsError(f"{PROG} needs ranks: mpirun -np {(asked or 3) + 1} {PROG} ..., or --virtual")
        if asked is not None and asked != found:
            fix = f"{asked} workers take {asked + 1} ranks, not {found + 1}: mpirun -np {asked + 1}"
            self.document.fail(("experiment", "workers"), fix)
        return found

    def _wanted(self, one: Run) -> bool:
        return not self.arguments.only or one.name.startswith(self.arguments.only)

    def _solo(self) -> list[Run]:
        """The two that the others are compared with: what the first run has, its optimizer too, but for its mode."""
        if not self.experiment.options.solo:
            return []
        first = self.experiment.runs[0]
        modes = {name for mode in MODES for name in MODES[mode].options.__dataclass_fields__}
        common = {name: value for name, value in first.options.items() if name not in modes | {"mode"}}
        optimizer = build(OptimizerArguments, *Task.of(self.line, first.options).layers)
        common |= {name: value for name in OF_OPTIMIZER if (value := getattr(optimizer, name)) is not None}
        kinds = {ALONE: ALONE_MODE, WHOLE: {"mode": "downpour"}}
        return [Run(name, {**common, **mode}, first.place) for name, mode in kinds.items()]

    def _check(self, one: Run) -> None:
        try:
            manager = self.manager(one, VirtualWorld(2 if one.name == WHOLE else 1 + self.workers))
            manager.job.algorithm.check(manager.job.topology.workers, manager.job.epochs)
            manager.close()
        except OptionsError as error:
            self.document.fail(one.place, f"run '{one.name}': {error}")

    def world(self, one: Run) -> Any:
        """Where the run takes place."""
        workers = 1 if one.name == WHOLE else self.workers
        if not self.arguments.virtual and workers == self.workers:
            return world_comm()
        hosts = [Host((rank,)) for rank in range(1 + workers)]
        return VirtualWorld(1 + workers, hosts=hosts, costs=self.experiment.costs, seed=self.seed(one))

    def seed(self, one: Run) -> int:
        return int(one.options.get("seed", 0))

    def manager(self, one: Run, comm: Any) -> MPIManager:
        given = {name: value for name, value in one.options.items() if name != "validate_every"}
        every = one.options.get("validate_every", self.experiment.options.evaluate_every)
        given |= {} if every is None else {"validate_every": every}
        changes: dict[str, Any] = {"output": None, "verbose": self.arguments.verbose, "report": False}
        if self.experiment.options.evaluate_on == "train":
            changes["val_list"] = Task.of(self.line, given).train_list
        changes["delay"] = None if one.name == WHOLE else self.experiment.delayed(self.seed(one))
        return manager_of(self.line, given, comm, **changes)


def experiment(argv: Sequence[str] | None = None) -> None:
    arguments = build(ExperimentArguments, command().parse(argv))
    if arguments.virtual:
        check_single()
    every = alone if arguments.virtual else partial(together, undo=lambda _: None)
    set_up("warning", None, launched_rank())
    experimenter = every(lambda: Experimenter(arguments))
    rank = 0 if arguments.virtual else world_comm().rank
    files = every(lambda: ExperimentFiles(experimenter.experiment))
    if rank == 0:
        print(f"{files.path}: {len(experimenter.runs)} runs of {experimenter.workers} workers", flush=True)
    every((lambda: begin(files, experimenter)) if rank == 0 else (lambda: None))
    results = []
    for one in experimenter.runs:
        kept = every(lambda one=one: files.result(one))
        results.append(kept or trained(experimenter, one, files, rank))
    found = [one for one in results if one is not None]
    # All wait for that: who leaves before others keeps a core busy in MPI's end.
    every((lambda: tell(files, found)) if rank == 0 else (lambda: None))


def tell(files: ExperimentFiles, results: Sequence[Result]) -> None:
    """Write the table and the pictures."""
    left = files.finish(results)
    print("\n".join([as_text(results), *(f"  {path}" for path in left)]), flush=True)


def alone(work: Any) -> Any:
    return work()


def begin(files: ExperimentFiles, experimenter: Experimenter) -> None:
    """Make the folder, with the graphs in it."""
    files.open(versions())
    drawn_ones: set[str] = set()
    for one in experimenter.runs:
        options = MODES[str(one.options.get("mode", "downpour"))].options
        if issubclass(options, GraphOptions) and one.name != ALONE:
            graph = build(GraphOptions, one.options)
            if graph.graph not in drawn_ones:
                files.graph(graph.graph, graph.mixings(experimenter.workers)[0])
                drawn_ones.add(graph.graph)


def trained(experimenter: Experimenter, one: Run, files: ExperimentFiles, rank: int) -> Result | None:
    """Train, and keep what came of it; None on ranks other than 0."""
    world = experimenter.world(one)
    virtual = isinstance(world, VirtualWorld)
    if virtual and rank:
        return None
    history = experimenter.manager(one, world).train()
    if history is None:
        return None
    result = result_of(one.name, one.options, history, virtual)
    files.keep(one, result)
    print(f"{one.name}: {told(result)}", flush=True)
    return result


def told(result: Result) -> str:
    figures = [f"{name} {result.last[name]:.4g}" for name in result.metrics() if result.last.get(name) is not None]
    clock = "on the virtual clock" if result.virtual else "of training"
    return f"{', '.join(figures)} after {result.seconds:.3g} s {clock}"


def main(argv: Sequence[str] | None = None) -> NoReturn:
    run(PROG, partial(experiment, argv))


if __name__ == "__main__":
    main()
