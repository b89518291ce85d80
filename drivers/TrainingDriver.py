"""TrainingDriver: train a model on the ranks that mpirun, srun or jsrun started, or on one process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import nnlo
from nnlo import Algo, H5Data, ModelPytorch, MPIManager
from nnlo.algos import MODES, SHARED
from nnlo.cli import Command, build, run
from nnlo.comm import world_comm
from nnlo.comm.agree import together
from nnlo.data.prepare import prepare, preparers, ready
from nnlo.errors import OptionsError
from nnlo.launcher import launched_rank
from nnlo.logs import LOG, set_up
from nnlo.model import ModelSource, load_model
from nnlo.optim import Schedule
from nnlo.options import flag_of
from nnlo.training.arguments import (
    DataArguments,
    ModelArguments,
    OptimizerArguments,
    OutputArguments,
    ScheduleArguments,
    TrainingArguments,
    check_read,
    names_for_models,
    optimizer_settings,
)
from nnlo.training.callback_arguments import CallbackArguments
from nnlo.training.checkpoint.arguments import CheckpointArguments
from nnlo.training.inherited import InheritedArguments
from nnlo.training.observe import ObserveArguments
from nnlo.training.ranks import RanksArguments
from nnlo.training.reading import ReadingArguments
from nnlo.training.replay import ReplayArguments
from nnlo.training.runlog import log_run
from nnlo.training.survival import SurvivalArguments
from nnlo.training.weights import WeightsArguments

PROG = "TrainingDriver"
DESCRIPTION = "Train a torch model on several ranks: mpirun -np 3 TrainingDriver --model mnist"
NOTES = "A model and a ready-made data set bring defaults of their own, which go before those shown here."

Values = Mapping[str, Any]


def command() -> Command:
    modes = [MODES[name].options for name in MODES]
    what = [ModelArguments, WeightsArguments, DataArguments, ReadingArguments]
    how = [TrainingArguments, OptimizerArguments, ScheduleArguments, *SHARED, *modes, RanksArguments]
    survival = [SurvivalArguments, CheckpointArguments, ReplayArguments]
    left = [OutputArguments, ObserveArguments, CallbackArguments, InheritedArguments]
    return Command(PROG, DESCRIPTION, [*what, *how, *survival, *left], version=nnlo.__version__, notes=NOTES)


def model_defaults(line: Command, source: ModelSource, given: Values) -> Values:
    """The options that suit the model; those of its optimizer only where no other one is asked for.

    Raises OptionsError for one that is not for a model to say, such as where files go.
    """
    what = f"get_model.defaults of model '{source.name}'"
    defaults = line.checked(source.defaults, what)
    if others := sorted(defaults.keys() - names_for_models()):
        raise OptionsError(f"{what}: {flag_of(others[0])} is for the command line alone: drop it there")
    if given.get("optimizer", defaults.get("optimizer")) != defaults.get("optimizer"):
        for name in ("lr", "momentum", "optimizer_params"):
            defaults.pop(name, None)
    return defaults


def mode_defaults(mode: str, given: Values) -> Values:
    """The options that suit the mode better than what suits the model; see `nnlo.algos.Mode`."""
    defaults = dict(MODES[mode].defaults)
    if "optimizer" in defaults and given.get("optimizer", defaults["optimizer"]) != defaults["optimizer"]:
        for name in ("optimizer", "lr", "momentum", "optimizer_params"):
            defaults.pop(name, None)
    return defaults


def data_lists(data: DataArguments, source: ModelSource, splits: bool, evaluates: bool) -> tuple[Any, Any, Values]:
    """Training and validation lists: as given, as the model names them, or a ready-made set and its defaults.

    Where the training list `splits`, the list to validate on can only be a given one. Who evaluates needs no
    training list.
    """
    train, val = data.train_data or source.train_list, data.val_data or (None if splits else source.val_list)
    if train is not None or (evaluates and val is not None):
        return train, val, {}
    if val is not None:
        raise OptionsError("--val-data needs --train-data beside it")
    name = ready(source.data_sets)
    if name is None:
        raise no_data(source)
    lists = prepare(name)
    verb, path = ("evaluating", lists.test_list) if evaluates else ("training", lists.train_list)
    if launched_rank() == 0:
        LOG.info("no --train-data: %s on %s (%s)", verb, name, path)
    return lists.train_list, None if splits else lists.test_list, preparers[name].suits


def no_data(source: ModelSource) -> OptionsError:
    """There is nothing to train on."""
    names = source.data_sets
    if not names:
        return OptionsError(f"model '{source.name}' comes without data: name a list of HDF5 files (--train-data)")
    there = f"{' or '.join(names)} is not there: make it with GetData {names[0]} --source FOLDER"
    return OptionsError(f"no --train-data, and {there}, or name a list of HDF5 files")


def make_manager(line: Command, given: Values) -> MPIManager:
    """What the options ask for, on all ranks."""
    output = build(OutputArguments, given)
    set_up(output.level, output.log_file, launched_rank())
    log_run()
    return manager_of(line, given, world_comm())


@dataclass(frozen=True)
class Task:
    """What is to be trained on what: the model, the lists, and the options in layers, of which the first one wins."""

    source: ModelSource
    train_list: Any
    val_list: Any
    layers: Sequence[Values]

    @classmethod
    def of(cls, line: Command, given: Values) -> Task:
        """Raises OptionsError."""
        source = load_model(build(ModelArguments, given).model)
        weights, splits = build(WeightsArguments, given), build(ReadingArguments, given).train_split is not None
        train_list, val_list, suits = data_lists(
            build(DataArguments, given), source, splits, weights.evaluate is not None
        )
        others = suits, model_defaults(line, source, given)
        layers = given, mode_defaults(build(TrainingArguments, given, *others).mode, given), *others
        return cls(source, train_list, val_list, layers)

    @property
    def training(self) -> TrainingArguments:
        return build(TrainingArguments, *self.layers)

    def algo(self) -> Algo:
        return make_algo(build(ModelArguments, *self.layers), self.training, self.layers)


def manager_of(line: Command, given: Values, comm: Any, **changes: Any) -> MPIManager:
    """What the options ask for, on the ranks of `comm`; `changes` are arguments of the manager that win over them."""
    output, watched = build(OutputArguments, given), build(ObserveArguments, given)
    build(InheritedArguments, given)
    weights = build(WeightsArguments, given)
    reading, callbacks = build(ReadingArguments, given), build(CallbackArguments, given)
    ranks, survival = build(RanksArguments, given), build(SurvivalArguments, given)
    checkpoints, replay = build(CheckpointArguments, given), build(ReplayArguments, given)
    task = Task.of(line, given)
    source, layers, training = task.source, task.layers, task.training
    model, data = build(ModelArguments, *layers), build(DataArguments, *layers)
    recorded = (model, weights, data, reading, training, survival, checkpoints, replay, output, watched, callbacks)
    reader = make_data(data, reading, source, given)
    wanted: dict[str, Any] = dict(
        num_masters=ranks.n_masters,
        num_processes=ranks.n_processes,
        callbacks=callbacks.build(),
        early_stopping=training.early_stopping,
        target_metric=training.target_metric,
        seed=training.seed,
        schedule=make_schedule(layers),
        output=output.output,
        trial_name=output.trial_name,
        overwrite=output.overwrite,
        save_model=output.save_model,
        report=output.report,
        export=weights.export,
        shuffle_buffer=data.shuffle_buffer,
        train_split=reading.train_split,
        data_split=reading.data_split,
        classes=reading.classes,
        model_accuracy=training.model_accuracy,
        worker_accuracy=training.worker_accuracy,
        max_bad_updates=training.max_bad_updates,
        **survival.recorded(),
        **checkpoints.recorded(),
        **replay.recorded(),
        wait=training.wait,
        transport=training.transport,
        verbose=True,
        timeline=watched.timeline,
        monitor=watched.monitor,
        team_backend=ranks.team_backend,
        arguments={
            **{name: value for section in recorded for name, value in section.recorded().items()},
            "features_name": reader.features_name,
            "labels_name": reader.labels_name,
        },
    )
    builder = ModelPytorch(comm, source, weights.initial, **model.model_params)
    lists = {"train_list": task.train_list, "val_list": task.val_list}
    return MPIManager(comm, reader, task.algo(), builder, training.epochs, **{**lists, **wanted, **changes})


def make_algo(model: ModelArguments, training: TrainingArguments, layers: Sequence[Values]) -> Algo:
    check_read(training.mode, layers[0])
    optimizer = build(OptimizerArguments, *layers)
    wanted = MODES[training.mode].needs_optimizer
    return Algo(
        optimizer.optimizer if wanted else None,
        mode=training.mode,
        loss=model.loss,
        metrics=model.metrics or None,
        validate_every=training.validate_every,
        amp=training.amp,
        clip_norm=optimizer.clip_norm if wanted else None,
        clip_value=optimizer.clip_value if wanted else None,
        fused=optimizer.fused,
        mode_options=build(MODES[training.mode].options, *layers),
        **(optimizer_settings(optimizer) if wanted else {}),
    )


def make_schedule(layers: Sequence[Values]) -> Schedule:
    given = build(ScheduleArguments, *layers)
    return Schedule.of(given.schedule, given.schedule_params, given.warmup)


def make_data(data: DataArguments, reading: ReadingArguments, source: ModelSource, given: Values) -> H5Data:
    """The files' reader; where no flag names a dataset, the model may, with an adaptor."""
    features = data.features_name if "features_name" in given else source.features or data.features_name
    labels = data.labels_name if "labels_name" in given else source.labels or data.labels_name
    return H5Data(
        data.batch, features, labels, reading.preload_data, cache=reading.cache_data, copy_command=reading.copy_command
    )


def summary(manager: MPIManager) -> str:
    """How it went and what was left where."""
    history = manager.history or {}
    last = history["epochs"][-1] if history["epochs"] else {}
    validated = ", ".join(f"{name} {last[name]:.4f}" for name in last if name.startswith("val_"))
    figures = validated or "not validated (no --val-data)"
    epochs = f"{len(history['epochs'])} epoch{'s' * (len(history['epochs']) != 1)}"
    lines = [f"{history['model']}: {epochs} in {history['seconds']:.1f} s, {figures}"]
    lines += [f"stopped: {history['stop_reason']}"] if history["stop_reason"] else []
    if refused := sum(entry["refused"] for entry in history["epochs"]):
        samples = sum(entry["refused_samples"] for entry in history["epochs"])
        lines.append(
            f"{refused} updates ({samples:,} samples) were inf or nan and refused: --check-data looks for such"
        )
    if late := sum(entry["late"] for entry in history["epochs"]):
        samples = sum(entry["late_samples"] for entry in history["epochs"])
        lines.append(f"{late} updates ({samples:,} samples) came too late and were not applied")
    if skipped := sum(entry["skipped"] for entry in history["epochs"]):
        samples = sum(entry["skipped_samples"] for entry in history["epochs"])
        lines.append(f"{skipped} batches ({samples:,} samples) could not be read and were skipped")
    return "\n".join([*lines, *(f"  {path}" for path in manager.files.left)])


def evaluate(manager: MPIManager, weights: Path) -> None:
    """Print how these weights do on the validation data."""
    figures = manager.evaluate()
    if figures is not None:
        told = ", ".join(f"{name} {value:.4f}" for name, value in figures.items())
        print(f"{manager.job.builder.name}: {told} ({weights})", flush=True)


def train(argv: Sequence[str] | None = None) -> None:
    line = command()
    given = together(lambda: line.parse(argv), undo=lambda _: None)
    manager = together(lambda: make_manager(line, given), undo=MPIManager.close)
    if given.get("check_data"):
        manager.check_data()
    elif given.get("evaluate") is not None:
        evaluate(manager, given["evaluate"])
    elif manager.train() is not None:
        print(summary(manager), flush=True)


def main(argv: Sequence[str] | None = None) -> NoReturn:
    run(PROG, lambda: train(argv))


if __name__ == "__main__":
    main()
