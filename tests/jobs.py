"""Small training jobs for tests: data in memory, a model from a function, and what came out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nnlo import Algo, Callback, Data, ModelBuilder, MPIManager

torch.set_num_threads(1)

Array = np.ndarray[Any, Any]
Batch = tuple[Array, Array]


class Rows(Data):
    """Samples in memory; the name of a "file" is that of a part of them: "all", or "START:STOP"."""

    def __init__(self, x: Array, y: Array, batch: int) -> None:
        super().__init__(batch)
        self.x, self.y = x, y

    def load_data(self, file: str) -> Batch:
        start, _, stop = file.partition(":")
        part = slice(int(start), int(stop)) if stop else slice(None)
        return self.x[part], self.y[part]


class Batches(Data):
    """These batches, in this order, every epoch; several workers take them in turn."""

    def __init__(self, batches: Sequence[Batch]) -> None:
        super().__init__(len(batches[0][1]))
        self.batches = batches

    def generate_data(self) -> Iterator[Batch]:
        yield from self.batches


class Built(ModelBuilder):
    """What `make` returns."""

    def __init__(self, make: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.make = make

    def build_model(self) -> nn.Module:
        return self.make()


class Delays(Callback):
    """The staleness of every update, in the order that they were applied."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def on_train_batch_end(self, batch: int, logs: dict[str, Any]) -> None:
        self.seen.append(logs["staleness"])


@dataclass
class Run:
    """What a training left on rank 0: the final state_dict, the history and the delay of each update."""

    state: dict[str, Tensor]
    history: dict[str, Any]
    delays: list[int]
    model: nn.Module

    @property
    def last(self) -> dict[str, Any]:
        """The last epoch's entry."""
        entry: dict[str, Any] = self.history["epochs"][-1]
        return entry

    @property
    def losses(self) -> list[float]:
        return [entry["loss"] for entry in self.history["epochs"]]


def train(
    comm: Any,
    data: Data,
    algo: Algo,
    make: Callable[[], nn.Module],
    *,
    epochs: int = 1,
    train_list: Sequence[str] | None = None,
    val: Data | None = None,
    **options: Any,
) -> Run | None:
    """Train over `comm`; a Run on rank 0, None elsewhere. `val` holds Rows or Batches to validate on."""
    delays = Delays()
    files = [] if data.makes_batches else list(train_list or ["all"])
    manager = MPIManager(
        comm, data, algo, Built(make), epochs, files, ["all"] if val and not val.makes_batches else None,
        val_data=val, output=None, callbacks=[delays, *options.pop("callbacks", ())], **options,
    )  # fmt: skip
    history = manager.train()
    if history is None or manager.model is None:
        return None
    state = {name: value.clone() for name, value in manager.model.state_dict().items()}
    return Run(state, history, delays.seen, manager.model)


def train_here(comm: Any, *args: Any, **options: Any) -> Run:
    """`train` where rank 0 is in this process."""
    run = train(comm, *args, **options)
    assert run is not None
    return run


def same_bits(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    """Whether two state_dicts hold the same names, types and bits."""
    return first.keys() == second.keys() and all(
        first[name].dtype == second[name].dtype and torch.equal(first[name], second[name]) for name in first
    )


def labelled(samples: int, inputs: int = 8, classes: int = 4, seed: int = 0) -> Batch:
    """float32 features (samples, inputs) and integer labels (samples,) that a linear model can tell."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(samples, inputs)).astype(np.float32)
    return x, (x @ rng.normal(size=(inputs, classes))).argmax(1)


def cut(x: Array, y: Array, sizes: Sequence[int]) -> list[Batch]:
    """Batches of these sizes, one after another."""
    ends = np.cumsum(sizes)
    return [(x[end - size : end], y[end - size : end]) for size, end in zip(sizes, ends, strict=True)]
