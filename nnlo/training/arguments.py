"""The options of a training, as flags, as YAML and as what the history records."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnlo.algos import MODES
from nnlo.comm.base import TRANSPORTS, WAITS
from nnlo.errors import OptionsError
from nnlo.model import AMP, ready_made
from nnlo.optim import OPTIMIZERS, SCHEDULES
from nnlo.options import Options, fields_of, flag_of, option
from nnlo.training.job import MAX_BAD_UPDATES

LEVELS = ("debug", "info", "warning", "error")


@dataclass(frozen=True, kw_only=True)
class ModelArguments(Options):
    """Model"""

    model: str = option(
        "mnist", help=f"a ready-made model ({', '.join(ready_made())}) or the path of a .py file with get_model()"
    )
    model_params: dict[str, Any] = option(
        {}, help="parameters for the model's get_model(), as key=value,key=value or a JSON object", metavar="K=V,..."
    )
    loss: str = option(
        "categorical_crossentropy",
        help="the loss: a Keras name, a class of torch.nn with or without 'Loss', or module:callable",
    )
    metrics: tuple[str, ...] = option(
        (), help="what is measured beside the loss (default acc where the loss classifies)", metavar="NAME,..."
    )


@dataclass(frozen=True, kw_only=True)
class DataArguments(Options):
    """Data"""

    train_data: Path | None = option(
        None,
        help="file that lists the training files, one HDF5 file a line (default MNIST where GetData has put it, else "
        "scikit-learn's handwritten digits)",
        metavar="LIST",
    )
    val_data: Path | None = option(None, help="file that lists the validation files", metavar="LIST")
    features_name: str = option("features", help="the features' dataset or group in each file", metavar="NAME")
    labels_name: str = option("labels", help="the labels' dataset or group in each file", metavar="NAME")
    batch: int = option(100, help="samples in a worker's batch", metavar="N", at_least=1)
    shuffle_buffer: int | None = option(
        None, help="samples that are shuffled together (default what fits into 32 MiB)", metavar="N", at_least=1
    )


@dataclass(frozen=True, kw_only=True)
class TrainingArguments(Options):
    """Training"""

    epochs: int = option(10, help="times to go through the training data", metavar="N", at_least=1)
    validate_every: int | None = option(
        None, help="validate after every N batches as well, not at the ends of epochs alone", metavar="N", at_least=1
    )
    early_stopping: str | None = option(
        None,
        help="stop where a figure no longer gets better, as metric,comparison,patience: 'val_loss,<,4' against the "
        "best so far, 'val_loss,~<,4' by the means of 4 validations and the 4 before",
        metavar="RULE",
    )
    target_metric: str | None = option(
        None, help="stop as soon as a figure is reached, as metric,comparison,number: 'val_acc,>,0.97'", metavar="RULE"
    )
    amp: str | None = option(
        None, help="mixed precision: the narrow type that workers compute in", choices=lambda: AMP, metavar="TYPE"
    )
    model_accuracy: bool = option(False, help="measure the weights on all training samples as well, when an epoch ends")
    worker_accuracy: bool = option(
        False, help="measure each worker's last weights on its share of the training samples, at the end"
    )
    max_bad_updates: int = option(
        MAX_BAD_UPDATES, help="updates in a row that are inf or nan and end the job", metavar="N", at_least=1
    )
    seed: int = option(0, help="seed of every random choice", metavar="N", at_least=0)
    mode: str = option("downpour", help="how the ranks learn together", choices=lambda: MODES)
    wait: str = option(
        "sleep",
        help="how an idle rank waits: sleep gives its core away, spin is for who has a core for each rank",
        choices=lambda: WAITS,
    )
    transport: str = option(
        "auto",
        help="how ranks of one host exchange: through memory that they share (shm), by MPI's messages, or auto: shared "
        "memory where all of them can; ranks of different hosts use MPI",
        choices=lambda: TRANSPORTS,
        metavar="HOW",
    )


@dataclass(frozen=True, kw_only=True)
class OptimizerArguments(Options):
    """Optimizer"""

    optimizer: str = option(
        "adam",
        help="the optimizer of the centre's steps, on the master or on every rank alike",
        choices=lambda: OPTIMIZERS,
    )
    lr: float | None = option(
        None,
        help="learning rate (default the model's, else torch's, 0.01 for sgd and its kin; sgd has 0.001 in --mode sign "
        "and 0.0005 in --mode vote)",
        metavar="RATE",
        at_least=0,
    )
    momentum: float | None = option(
        None, help="momentum, for the optimizers that have one", metavar="FACTOR", at_least=0
    )
    weight_decay: float | None = option(
        None, help="weight decay, as the optimizer has it (default that of torch)", metavar="FACTOR", at_least=0
    )
    clip_norm: float | None = option(
        None, help="shorten each gradient that is longer than this", metavar="LENGTH", above=0
    )
    clip_value: float | None = option(
        None, help="limit each element of a gradient to plus or minus this", metavar="SIZE", above=0
    )
    optimizer_params: dict[str, Any] = option(
        {}, help="other settings of the optimizer, as key=value,key=value or a JSON object", metavar="K=V,..."
    )
    fused: bool = option(
        True, help="run torch's fused optimizer step, which is faster and differs from the plain one in the last bits"
    )


@dataclass(frozen=True, kw_only=True)
class ScheduleArguments(Options):
    """Learning rate"""

    schedule: str = option(
        "constant",
        help="how the learning rate goes on over the epochs of the master's clock",
        choices=lambda: SCHEDULES,
    )
    schedule_params: dict[str, Any] = option(
        {},
        help="parameters of the schedule, as key=value,key=value: step has every (epochs) and by, exponential has by, "
        "cosine has end (the share of the rate that is left)",
        metavar="K=V,...",
    )
    warmup: float = option(
        0.0, help="epochs over which the rate first rises from 0, before any schedule", metavar="EPOCHS", at_least=0
    )


@dataclass(frozen=True, kw_only=True)
class OutputArguments(Options):
    """Output"""

    output: Path = option(Path("."), help="folder for the files that the run leaves", metavar="DIR")
    trial_name: str | None = option(
        None, help="what those files are called after the model's name (default a time stamp)", metavar="NAME"
    )
    overwrite: bool = option(False, help="replace files of the same names")
    save_model: bool = option(True, help="write the trained weights")
    report: bool = option(False, help="write a report of the run as well, a web page that needs nothing else")
    log_file: Path | None = option(None, help="add the log lines of all ranks to this file as well", metavar="FILE")
    log_level: str = option("info", help="the least important log lines to show", choices=lambda: LEVELS)
    verbose: bool = option(False, help="the same as --log-level debug")

    def check(self) -> None:
        if self.verbose and self.log_level in ("warning", "error"):
            raise OptionsError(f"--verbose shows more and --log-level {self.log_level} less: drop one of them")

    @property
    def level(self) -> str:
        """The least important log lines to show."""
        return "debug" if self.verbose else self.log_level


def check_read(mode: str, given: Iterable[str]) -> None:
    """Raises OptionsError for a given option of other modes, or of an optimizer that `mode` lacks."""
    readers = {name: names_of(MODES[name].options) for name in MODES}
    for name in given:
        others = [other for other in MODES if name in readers[other]]
        if others and MODES.canonical(mode) not in others:
            raise OptionsError(f"{flag_of(name)} is not read by --mode {mode}, but by {', '.join(others)}: drop it")
        if not MODES[mode].needs_optimizer and name in optimizer_names():
            instead = MODES[mode].instead.get(name)
            advice = f"give {instead}, or drop it" if instead else "drop it"
            raise OptionsError(
                f"{flag_of(name)} is not read by --mode {mode}, but by {', '.join(stepping())}: {advice}"
            )


def stepping() -> list[str]:
    """The modes that apply --optimizer."""
    return [name for name in MODES if MODES[name].needs_optimizer]


def optimizer_names() -> set[str]:
    return names_of(OptimizerArguments)


def names_for_models() -> set[str]:
    """The options that a model may bring defaults of: how it is trained, not on what nor what is left of it."""
    modes = [MODES[name].options for name in MODES]
    sections = (ModelArguments, DataArguments, TrainingArguments, OptimizerArguments, ScheduleArguments, *modes)
    return set().union(*map(names_of, sections)) - {"model", "train_data", "val_data"}


def names_of(section: type[Options]) -> set[str]:
    return {field.name for field in fields_of(section)}


def optimizer_settings(arguments: OptimizerArguments) -> dict[str, Any]:
    """The settings of the optimizer; those with a flag of their own win."""
    flags = {"lr": arguments.lr, "momentum": arguments.momentum, "weight_decay": arguments.weight_decay}
    return {**arguments.optimizer_params, **{name: value for name, value in flags.items() if value is not None}}
