"""TrainingDriver: train a model on the ranks that mpirun, srun or jsrun started, or on one process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import nnlo
from nnlo import Algo, H5Data, ModelPytorch, MPIManager
from nnlo.algos import MODES
from nnlo.cli import Command, build, run
from nnlo.comm import world_comm
from nnlo.comm.agree import together
from nnlo.data.prepare import prepare, prepared, preparers
from nnlo.errors import OptionsError
from nnlo.launcher import launched_rank
from nnlo.logs import LOG, set_up
from nnlo.model import ModelSource, load_model
from nnlo.training.arguments import (
    DataArguments,
    ModelArguments,
    OptimizerArguments,
    OutputArguments,
    TrainingArguments,
    check_read,
    optimizer_settings,
)

PROG = "TrainingDriver"
DESCRIPTION = "Train a torch model on several ranks: mpirun -np 3 TrainingDriver --model mnist"
NOTES = "A model may bring defaults of its own, which go before those shown here."

Values = Mapping[str, Any]


def command() -> Command:
    modes = [MODES[name].options for name in MODES]
    sections = [ModelArguments, DataArguments, TrainingArguments, *modes, OptimizerArguments, OutputArguments]
    return Command(PROG, DESCRIPTION, sections, version=nnlo.__version__, notes=NOTES)


def model_defaults(line: Command, source: ModelSource, given: Values) -> Values:
    """The options that suit the model; those of its optimizer only where no other one is asked for."""
    defaults = line.checked(source.defaults, f"get_model.defaults of model '{source.name}'")
    if given.get("optimizer", defaults.get("optimizer")) != defaults.get("optimizer"):
        for name in ("lr", "momentum", "optimizer_params"):
            defaults.pop(name, None)
    return defaults


def data_lists(data: DataArguments, source: ModelSource) -> tuple[Any, Any, Values]:
    """Training and validation lists: as given, as the model names them, or a ready-made set and its defaults."""
    train, val = data.train_data or source.train_list, data.val_data or source.val_list
    if train is not None:
        return train, val, {}
    if val is not None:
        raise OptionsError("--val-data needs --train-data beside it")
    name = "mnist" if prepared("mnist") else "digits"
    lists = prepare(name)
    LOG.info("no --train-data: training on %s (%s)", name, lists.train_list)
    return lists.train_list, lists.test_list, preparers[name].suits


def make_manager(line: Command, given: Values) -> MPIManager:
    """What the options ask for."""
    output = build(OutputArguments, given)
    set_up(output.log_level, output.log_file, launched_rank())
    source = load_model(build(ModelArguments, given).model)
    train_list, val_list, suits = data_lists(build(DataArguments, given), source)
    layers = given, suits, model_defaults(line, source, given)
    model, data, training = (build(section, *layers) for section in (ModelArguments, DataArguments, TrainingArguments))
    algo, comm = make_algo(model, training, layers), world_comm()
    return MPIManager(
        comm,
        make_data(data, source, given),
        algo,
        ModelPytorch(comm, source, **model.model_params),
        training.epochs,
        train_list,
        val_list,
        seed=training.seed,
        output=output.output,
        trial_name=output.trial_name,
        overwrite=output.overwrite,
        save_model=output.save_model,
        report=output.report,
        shuffle_buffer=data.shuffle_buffer,
        wait=training.wait,
        verbose=True,
        arguments=model.record() | data.record() | training.record() | output.record(),
    )


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
        fused=optimizer.fused,
        **build(MODES[training.mode].options, *layers).record(),
        **(optimizer_settings(optimizer) if wanted else {}),
    )


def make_data(data: DataArguments, source: ModelSource, given: Values) -> H5Data:
    """The files' reader; where no flag names a dataset, the model may, with an adaptor."""
    features = data.features_name if "features_name" in given else source.features or data.features_name
    labels = data.labels_name if "labels_name" in given else source.labels or data.labels_name
    return H5Data(data.batch, features, labels)


def summary(manager: MPIManager) -> str:
    """How it went and what was left where."""
    history = manager.history or {}
    last = history["epochs"][-1] if history["epochs"] else {}
    validated = ", ".join(f"{name} {last[name]:.4f}" for name in last if name.startswith("val_"))
    figures = validated or "not validated (no --val-data)"
    epochs = f"{len(history['epochs'])} epoch{'s' * (len(history['epochs']) != 1)}"
    lines = [f"{history['model']}: {epochs} in {history['seconds']:.1f} s, {figures}"]
    return "\n".join([*lines, *(f"  {path}" for path in manager.files.written)])


def train(argv: Sequence[str] | None = None) -> None:
    line = command()
    manager = together(lambda: make_manager(line, line.parse(argv)), undo=MPIManager.close)
    if manager.train() is not None:
        print(summary(manager), flush=True)


def main(argv: Sequence[str] | None = None) -> NoReturn:
    run(PROG, lambda: train(argv))


if __name__ == "__main__":
    main()
