"""TrainingDriver: train a model on the ranks that mpirun, srun or jsrun started, or on one process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import nnlo
from nnlo import Algo, H5Data, ModelPytorch, MPIManager
from nnlo.algos import MODES
from nnlo.cli import Command, build, launched_rank, run
from nnlo.comm import world_comm
from nnlo.data.prepare import prepare, prepared
from nnlo.errors import OptionsError
from nnlo.logs import LOG, set_up
from nnlo.model import ModelSource, load_model
from nnlo.training.arguments import (
    SECTIONS,
    DataArguments,
    ModelArguments,
    OutputArguments,
    TrainingArguments,
    optimizer_settings,
)

PROG = "TrainingDriver"
DESCRIPTION = "Train a torch model on several ranks: mpirun -np 3 TrainingDriver --model mnist"


def command() -> Command:
    return Command(PROG, DESCRIPTION, [*SECTIONS, *(MODES[name].options for name in MODES)], nnlo.__version__)


def model_defaults(source: ModelSource, given: Mapping[str, Any]) -> dict[str, Any]:
    """The options that suit the model; those of its optimizer only where no other one is asked for."""
    defaults = dict(source.defaults)
    if given.get("optimizer", defaults.get("optimizer")) != defaults.get("optimizer"):
        for name in ("lr", "momentum", "optimizer_params"):
            defaults.pop(name, None)
    return defaults


def data_lists(data: DataArguments, source: ModelSource) -> tuple[Any, Any]:
    """Training and validation lists: as given, as the model file names them, or a ready-made set."""
    train, val = data.train_data or source.train_list, data.val_data or source.val_list
    if train is not None:
        return train, val
    if val is not None:
        raise OptionsError("--val-data needs --train-data beside it")
    lists, name = prepared("mnist"), "MNIST"
    if lists is None:
        made = prepare("digits")
        lists, name = (made.train_list, made.test_list), "scikit-learn's digits"
    LOG.info("no --train-data: training on %s (%s)", name, lists[0])
    return lists


def make_manager(given: Mapping[str, Any]) -> MPIManager:
    """What the options ask for."""
    output = build(OutputArguments, given)
    set_up(output.log_level, output.log_file, launched_rank())
    source = load_model(build(ModelArguments, given).model)
    defaults = model_defaults(source, given)
    model = build(ModelArguments, given, defaults)
    data = build(DataArguments, given, defaults)
    training = build(TrainingArguments, given, defaults)
    mode = build(MODES[training.mode].options, given, defaults)
    algo = Algo(
        training.optimizer,
        mode=training.mode,
        loss=model.loss,
        metrics=model.metrics or None,
        validate_every=training.validate_every,
        fused=training.fused,
        **mode.record(),
        **optimizer_settings(training),
    )
    comm = world_comm()
    train_list, val_list = data_lists(data, source)
    sections = (model, data, training, output)
    return MPIManager(
        comm,
        H5Data(
            data.batch,
            named("features_name", data, source.features, given),
            named("labels_name", data, source.labels, given),
        ),
        algo,
        ModelPytorch(comm, source, **model.model_params),
        training.epochs,
        train_list,
        val_list,
        seed=training.seed,
        output=output.output,
        trial_name=output.trial_name,
        overwrite=output.overwrite,
        shuffle_buffer=data.shuffle_buffer,
        wait=training.wait,
        verbose=True,
        arguments={name: value for section in sections for name, value in section.record().items()},
    )


def named(flag: str, data: DataArguments, of_model: Any, given: Mapping[str, Any]) -> Any:
    """A dataset's name (with its adaptor, where the model has one): a flag wins over the model."""
    return getattr(data, flag) if flag in given or of_model is None else of_model


def summary(manager: MPIManager) -> str:
    """How it went and what was left where."""
    history = manager.history or {}
    last = history["epochs"][-1] if history["epochs"] else {}
    figures = ", ".join(f"{name} {last[name]:.4f}" for name in last if name.startswith("val_")) or "not validated"
    lines = [f"{history['model']}: {len(history['epochs'])} epochs in {history['seconds']:.1f} s, {figures}"]
    return "\n".join([*lines, *(f"  {path}" for path in manager.files.paths if path.exists())])


def train(argv: Sequence[str] | None = None) -> None:
    manager = make_manager(command().parse(argv))
    if manager.train() is not None:
        print(summary(manager), flush=True)


def main(argv: Sequence[str] | None = None) -> NoReturn:
    run(PROG, lambda: train(argv))


if __name__ == "__main__":
    main()
