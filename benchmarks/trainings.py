"""Trainings of the mnist network on MNIST with workers on the virtual clock, by the flags of `TrainingDriver`."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import h5py
import numpy as np

from nnlo import Algo, Callback, Data, H5Data, ModelPytorch, MPIManager
from nnlo.cli import build
from nnlo.comm.costs import Costs
from nnlo.comm.virtual import VirtualWorld
from nnlo.data.lists import read_list
from nnlo.drivers.TrainingDriver import command, make_algo, mode_defaults, model_defaults
from nnlo.model import load_model
from nnlo.training.arguments import ModelArguments, TrainingArguments

MODEL = "mnist"
COSTS = Costs(compute=1e-4, jitter=0.1)
"""Workers of about the same speed, on a network of ten gigabits a second."""
VALIDATED_TOGETHER = 1000


def algo_of(flags: str) -> Algo:
    """What these flags ask for on a command line, with the defaults of the mode and of the model."""
    line = command()
    given = line.parse(shlex.split(flags))
    suits = model_defaults(line, load_model(MODEL), given)
    layers = given, mode_defaults(build(TrainingArguments, given).mode, given), suits
    return make_algo(build(ModelArguments, *layers), build(TrainingArguments, *layers), layers)


def train(flags: str, workers: int, data: Data, val_list: Any, **options: Any) -> dict[str, Any]:
    """The history of a training by so many workers; options are those of MPIManager, and `model` those of the model."""
    manager = MPIManager(
        VirtualWorld(1 + workers, costs=COSTS),
        data,
        algo_of(flags),
        ModelPytorch(None, MODEL, **options.pop("model", {})),
        options.pop("epochs", 1),
        options.pop("train_list", None),
        val_list,
        val_data=H5Data(VALIDATED_TOGETHER),
        output=None,
        **options,
    )
    history: dict[str, Any] = manager.train()
    return history


class Draws(Data):
    """Each worker draws `updates` batches by itself from all samples of `train_list`, shuffled over and over."""

    shards_itself = True

    def __init__(self, train_list: Any, batch: int, updates: int) -> None:
        super().__init__(batch)
        self.x, self.y = in_memory(tuple(read_list(train_list, "--train-data")))
        self.updates = updates

    def count_data(self) -> int:
        return self.updates * self.batch_size

    def generate_data(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        rng = np.random.default_rng(self.worker)
        left = np.empty(0, dtype=np.int64)
        for _ in range(self.updates):
            if len(left) < self.batch_size:
                left = rng.permutation(len(self.x))
            rows, left = left[: self.batch_size], left[self.batch_size :]
            yield self.x[rows], self.y[rows]


@cache
def in_memory(files: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Features and labels of all samples in these files."""
    parts = []
    for name in files:
        with h5py.File(name, "r", locking=False) as file:
            parts.append((file["features"][:], file["labels"][:]))
    return np.concatenate([x for x, _ in parts]), np.concatenate([y for _, y in parts])


class Losses(Callback):
    """The mean loss of the batches behind every update, in the order in which the updates were applied."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_train_batch_end(self, batch: int, logs: dict[str, Any]) -> None:
        self.seen.append(float(logs["loss"]))
