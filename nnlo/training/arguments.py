"""The options of a training, as flags, as YAML and as what the history records."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnlo.algos import MODES
from nnlo.model import ready_made
from nnlo.optim import OPTIMIZERS
from nnlo.options import Options, option

LEVELS = ("debug", "info", "warning", "error")


@dataclass(frozen=True, kw_only=True)
class ModelArguments(Options):
    """Model"""

    model: str = option(
        "mnist", help=f"a ready-made model ({', '.join(ready_made())}) or the path of a .py file with get_model()"
    )
    model_params: dict[str, Any] = option(
        {}, help="parameters for get_model, as key=value,key=value or JSON", metavar="K=V,..."
    )
    loss: str = option(
        "categorical_crossentropy", help="a Keras name, a class of torch.nn with or without 'Loss', or module:callable"
    )
    metrics: tuple[str, ...] = option(
        (), help="what is counted beside the loss (default acc where the loss classifies)", metavar="NAME,..."
    )


@dataclass(frozen=True, kw_only=True)
class DataArguments(Options):
    """Data"""

    train_data: Path | None = option(
        None,
        help="list of training files, one HDF5 file a line (default MNIST where GetData has put it, else the bundled digits)",
        metavar="LIST",
    )
    val_data: Path | None = option(None, help="list of validation files", metavar="LIST")
    features_name: str = option("features", help="dataset or group of the features in each file", metavar="NAME")
    labels_name: str = option("labels", help="dataset or group of the labels in each file", metavar="NAME")
    batch: int = option(100, help="samples in a worker's batch", metavar="N", at_least=1)
    shuffle_buffer: int | None = option(
        None, help="samples shuffled together (default what 32 MiB hold)", metavar="N", at_least=1
    )


@dataclass(frozen=True, kw_only=True)
class TrainingArguments(Options):
    """Training"""

    mode: str = option("downpour", help="how the ranks learn together", choices=lambda: [*MODES, "sgd"])
    epochs: int = option(10, help="times through the training data", metavar="N", at_least=1)
    optimizer: str = option("adam", help="the optimizer that the master applies", choices=lambda: OPTIMIZERS)
    lr: float | None = option(
        None, help="its learning rate (default torch's, 0.01 for sgd)", metavar="RATE", at_least=0
    )
    momentum: float | None = option(None, help="its momentum, where it has one", metavar="M", at_least=0)
    optimizer_params: dict[str, Any] = option(
        {}, help="its other settings, as key=value,key=value or JSON", metavar="K=V,..."
    )
    fused: bool = option(True, help="run torch's plain optimizer step, not the fused one, whose last bits differ")
    validate_every: int | None = option(
        None, help="validate also every N batches, not at epoch ends alone", metavar="N", at_least=1
    )
    seed: int = option(0, help="the seed of every random choice", metavar="N", at_least=0)
    wait: str = option(
        "sleep",
        help="how a rank waits: give its core away, or spin where each rank has a core of its own",
        choices=lambda: ["sleep", "spin"],
    )


@dataclass(frozen=True, kw_only=True)
class OutputArguments(Options):
    """Output"""

    output: Path = option(Path("."), help="folder for the run's files", metavar="DIR")
    trial_name: str | None = option(None, help="part of their names (default a time stamp)", metavar="NAME")
    overwrite: bool = option(False, help="replace files of these names")
    log_file: Path | None = option(None, help="add all ranks' log lines to this file as well", metavar="FILE")
    log_level: str = option("info", help="least important log lines to show", choices=lambda: LEVELS)


SECTIONS: tuple[type[Options], ...] = (ModelArguments, DataArguments, TrainingArguments, OutputArguments)


def optimizer_settings(arguments: TrainingArguments) -> dict[str, Any]:
    """What the flags say of the optimizer."""
    flags = {"lr": arguments.lr, "momentum": arguments.momentum}
    return {**arguments.optimizer_params, **{name: value for name, value in flags.items() if value is not None}}
