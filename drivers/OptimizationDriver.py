"""OptimizationDriver: search a model's hyperparameters, with several ranks for each trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import nnlo
from nnlo import MPIManager
from nnlo.algos import MODES, SHARED
from nnlo.cli import Command, build, run
from nnlo.comm import world_comm
from nnlo.comm.agree import together
from nnlo.data.fold import Fold
from nnlo.drivers.TrainingDriver import Task, manager_of
from nnlo.errors import OptionsError
from nnlo.launcher import launched_rank
from nnlo.logs import LOG, set_up
from nnlo.optimize.arguments import ExampleArguments, SearchArguments, check_read_by
from nnlo.optimize.command import command_of
from nnlo.optimize.figure import FigureOfMerit
from nnlo.optimize.files import SearchFiles
from nnlo.optimize.folds import FileFold, file_folds, pooled
from nnlo.optimize.over_mpi import search_on
from nnlo.optimize.plan import Plan
from nnlo.optimize.pruners import pruner_of
from nnlo.optimize.search import Limits, Search
from nnlo.optimize.searchers import SEARCHERS
from nnlo.optimize.space import Space
from nnlo.optimize.space_file import space_of_file
from nnlo.optimize.space_skopt import space_of_skopt
from nnlo.optimize.trial import Parameters, Trial
from nnlo.options import flag_of
from nnlo.topology import Blocks
from nnlo.training.arguments import (
    DataArguments,
    ModelArguments,
    OptimizerArguments,
    OutputArguments,
    ScheduleArguments,
    TrainingArguments,
    names_for_models,
    names_of,
)
from nnlo.training.checkpoint.arguments import CheckpointArguments
from nnlo.training.inherited import InheritedArguments
from nnlo.training.ranks import RanksArguments
from nnlo.training.reading import ReadingArguments
from nnlo.training.survival import SurvivalArguments

PROG = "OptimizationDriver"
DESCRIPTION = "Search a model's hyperparameters on blocks of ranks: mpirun -np 7 OptimizationDriver --block-size 3"
NOTES = "Options of training hold for each trial, but for those that are searched."

Values = Mapping[str, Any]
NOT_OF_TRIALS = set().union(
    *map(names_of, (SearchArguments, ExampleArguments, CheckpointArguments, OutputArguments, SurvivalArguments))
) - {"on_bad_file"}
"""What may be other where a search goes on."""
FOR_ONE_TRAINING = ("check_data", "report", "save_model", "restore", "keep_best")


def command() -> Command:
    modes = [MODES[name].options for name in MODES]
    what = [SearchArguments, ModelArguments, ExampleArguments, DataArguments, ReadingArguments]
    how = [TrainingArguments, OptimizerArguments, ScheduleArguments, *SHARED, *modes, RanksArguments]
    left = [SurvivalArguments, CheckpointArguments, OutputArguments, InheritedArguments]
    return Command(PROG, DESCRIPTION, [*what, *how, *left], version=nnlo.__version__, notes=NOTES)


class Wanted:
    """What the options ask for, on one rank. Raises OptionsError for what cannot work."""

    def __init__(self, line: Command, given: Values) -> None:
        self.search = build(SearchArguments, given)
        check_read_by(self.search.hyper_opt, given)
        self.line, self.given = line, {**given, **build(ExampleArguments, given).as_model(given)}
        self.output, self.checkpoints = build(OutputArguments, given), build(CheckpointArguments, given)
        for name in FOR_ONE_TRAINING:
            if name in given:
                instead = "give --opt-restore to go on with a search" if name == "restore" else "drop it"
                raise OptionsError(f"{flag_of(name)} is for one training: {instead}")
        set_up(self.output.level, self.output.log_file, launched_rank())
        self.task = Task.of(line, self.given)
        self.source = self.task.source
        self.space = self._space()
        self.of_model = [name for name in self.space.names if name in self.source.parameters]
        self._check_names()
        self.blocks = Blocks.of(world_comm().size, self.search.block_size)
        self.figure = FigureOfMerit.of(self.search.figure_of_merit)
        self.figure.check(self._measured())
        self._check_folds()

    def _space(self) -> Space:
        if self.search.search_space is not None:
            return space_of_file(self.search.search_space)
        return space_of_skopt(self.source.parameter_range, f"model '{self.source.name}'")

    def _check_names(self) -> None:
        known = {*self.source.parameters, *names_for_models()} - {"model_params", "optimizer_params"}
        if unknown := [name for name in self.space.names if name not in known]:
            parameters = ", ".join(self.source.parameters) or "none"
            raise OptionsError(
                f"the search space has {', '.join(unknown)}, which is neither a parameter of model "
                f"'{self.source.name}' ({parameters}) nor an option of training: rename or drop it"
            )

    def _check_folds(self) -> None:
        if self.search.n_fold > 1 and build(ReadingArguments, self.given).train_split is not None:
            raise OptionsError("--n-fold splits the data by itself: drop --train-split")

        if self.search.fold_by == "files":
            self._files()

    def _files(self) -> list[FileFold]:
        """The folds of whole files. Raises OptionsError where there are fewer files than folds."""
        files = pooled(self.task.train_list, self.task.val_list)
        return file_folds(files, self.search.n_fold, self.task.training.seed)

    def _fold(self, fold: Fold) -> dict[str, Any]:
        """What that fold trains and validates on, as arguments of its manager."""
        if self.search.fold_by == "files":
            part = self._files()[fold.number]
            return {"train_list": list(part.trains), "val_list": list(part.validates), "train_split": None}
        return {"train_list": pooled(self.task.train_list, self.task.val_list), "val_list": None}

    def _measured(self) -> list[str]:
        """The figures that a training has."""
        names = ["loss", *(metric.name for metric in self.task.algo().metrics)]
        splits = self.search.n_fold > 1 or build(ReadingArguments, self.given).train_split is not None
        validates = splits or self.task.val_list is not None
        return [*names, *(f"val_{name}" for name in names if validates)]

    def training(self, parameters: Parameters) -> dict[str, Any]:
        """The options of a trial."""
        options = {name: value for name, value in parameters.items() if name not in self.of_model}
        params = {name: parameters[name] for name in self.of_model}
        checked = self.line.checked(options, "the search space")
        return {**self.given, **checked, "model_params": {**self.given.get("model_params", {}), **params}}

    def manager(self, comm: Any, parameters: Parameters, **options: Any) -> MPIManager:
        """That of a trial, or of one of its folds."""
        changes = {"output": None, "verbose": False, "report": False, "checkpoint": None, **options}
        if self.search.n_fold > 1:
            changes |= self._fold(options["train_split"])
        return manager_of(self.line, self.training(parameters), comm, **changes)

    @property
    def folder(self) -> Path:
        """That of the search."""
        name = f"{self.source.name}_{self.output.trial_name}_search" if self.output.trial_name else None
        return self.checkpoints.checkpoint or self.output.output / (name or f"{self.source.name}_search")

    def plan(self) -> Plan:
        search = self.search
        searcher = search.searcher(self.space)
        seconds = {} if search.seconds is None else {"seconds": search.seconds}
        limits = Limits(search.target_objective, failures=search.max_failures, **seconds)
        names = ("hyper_opt", "pruner", "random_state", "n_fold", "fold_by", *SEARCHERS[search.hyper_opt].settings)
        shown = {name: getattr(search, name) for name in names}
        return Plan(
            searcher,
            pruner_of(search.pruner, self.task.training.epochs, searcher.trials),
            self.figure,
            limits=limits,
            folder=self.folder,
            restore=search.opt_restore,
            overwrite=self.output.overwrite,
            settings={**shown, "training": self.recorded()},
            files=SearchFiles(self.folder, f"search of {self.source.name}", self.command),
            shows=True,
            folds=search.n_fold,
        )

    def recorded(self) -> dict[str, Any]:
        """The given options that a trial depends on, as JSON has them."""
        return {name: plain(value) for name, value in self.given.items() if name not in NOT_OF_TRIALS}

    def command(self, trial: Trial) -> str:
        line = command_of(trial.parameters, self.recorded(), self.of_model)
        return f"mpirun -np {self.blocks.size} {line}"


def plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value


def summary(search: Search, files: SearchFiles) -> str:
    """What was found and what was left where."""
    best = search.best
    lines = ["no trial ended well"]
    if best is not None:
        values = ", ".join(f"{name}={value}" for name, value in best.parameters.items())
        lines = [
            f"best of {len(search.ended)} trials: #{best.number}, {search.figure.name} {best.figure:.4g} ({values})"
        ]
    lines += [f"ended early: {search.closing}"] if search.closing else []
    return "\n".join([*lines, *(f"  {path}" for path in files.left)])


def search(argv: Sequence[str] | None = None) -> None:
    line = command()
    given = together(lambda: line.parse(argv), undo=lambda _: None)
    wanted = together(lambda: Wanted(line, given), undo=lambda _: None)
    plan = together(wanted.plan, undo=lambda _: None)
    if world_comm().rank == 0:
        LOG.info("%s: %s, %d trials", wanted.source.name, wanted.blocks, plan.trials)
    checkpoints = plan.folder_of_checkpoints(wanted.checkpoints.checkpoint is not None)
    found = search_on(world_comm(), wanted.blocks, plan, wanted.manager, checkpoints)
    if found is not None and plan.files is not None:
        print(summary(found, plan.files), flush=True)


def main(argv: Sequence[str] | None = None) -> NoReturn:
    run(PROG, partial(search, argv))


if __name__ == "__main__":
    main()
