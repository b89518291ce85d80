"""The centre measured on all training samples at the ends of epochs, and each worker on its share of them."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from nnlo import Algo, Callback
from nnlo.comm.costs import Costs, Fault, FaultKind
from nnlo.comm.virtual import VirtualWorld
from nnlo.errors import DataError
from tests.jobs import Batches, Rows, Run, cut, labelled, train_here

X, Y = labelled(100)
ALGO = Algo("sgd", lr=0.1, loss="sparse_categorical_crossentropy")


def linear() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 4), nn.Dropout(0.5))


class Weights(Callback):
    """A copy of the centre's weights at each epoch's end."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
        self.seen.append({name: value.clone() for name, value in self.manager.model.state_dict().items()})


def figures(state: dict[str, Any], x: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> dict[str, float]:
    module = linear().eval()
    module.load_state_dict(state)
    output, labels = module(torch.from_numpy(x)), torch.from_numpy(y)
    loss = nn.functional.cross_entropy(output, labels).item()
    return {"loss": loss, "acc": (output.argmax(1) == labels).double().mean().item()}


def train(workers: int, data: Any, **options: Any) -> tuple[Run, Weights]:
    weights = Weights()
    world = VirtualWorld(1 + workers, costs=Costs(compute=1e-3, jitter=0.3))
    algo = Algo("sgd", lr=0.2, loss="sparse_categorical_crossentropy")
    return train_here(world, data, algo, linear, epochs=3, callbacks=[weights], **options), weights


@pytest.mark.parametrize("val", [None, Rows(X[:10], Y[:10], 10)])
@pytest.mark.parametrize("workers", [1, 3])
def test_the_model_on_all_training_samples(workers: int, val: Rows | None) -> None:
    run, weights = train(workers, Rows(X, Y, 8), val=val, model_accuracy=True, train_list=["0:30", "30:100"])
    assert len(run.history["epochs"]) == len(weights.seen) == 3
    for entry, state in zip(run.history["epochs"], weights.seen, strict=True):
        assert entry["training_set"] == pytest.approx(figures(state, X, Y), rel=1e-5)
        assert ("val_loss" in entry) == (val is not None)
    assert all("training_set" not in point for point in run.history["validations"])


def test_it_is_measured_at_the_ends_of_epochs_alone() -> None:
    run, _ = train(2, Rows(X, Y, 10), val=Rows(X, Y, 50), model_accuracy=True)
    again, _ = train(2, Rows(X, Y, 10), val=Rows(X, Y, 50))
    assert len(run.history["validations"]) == 3
    assert "training_set" not in again.last and "workers" not in again.history


@pytest.mark.parametrize("workers", [1, 3, 13, 20])
def test_each_worker_on_its_share(workers: int) -> None:
    """13 batches of 8 (the last of 4) in as many runs as there are workers, some perhaps empty."""
    run, _ = train(workers, Rows(X, Y, 8), worker_accuracy=True)
    told = run.history["workers"]
    assert list(told) == [str(peer) for peer in range(1, workers + 1)]
    assert sum(one["samples"] for one in told.values()) == 100
    bounds = [13 * i // workers for i in range(workers + 1)]
    shares = [min(100, 8 * stop) - min(100, 8 * start) for start, stop in itertools.pairwise(bounds)]
    assert [one["samples"] for one in told.values()] == shares
    assert all(0 <= one["acc"] <= 1 and one["loss"] > 0 for one in told.values() if one["samples"])


def test_a_worker_alone_is_measured_with_the_weights_that_it_had_last() -> None:
    """They are those before its last update: with a rate of zero they are the centre's."""
    weights = Weights()
    algo = Algo("sgd", lr=0.0, loss="sparse_categorical_crossentropy")
    run = train_here(VirtualWorld(2), Rows(X, Y, 8), algo, linear, callbacks=[weights], worker_accuracy=True)
    assert run.history["workers"]["1"] == pytest.approx({"samples": 100, **figures(weights.seen[-1], X, Y)}, rel=1e-5)


def test_generators_are_measured_on_what_they_yield() -> None:
    data = Batches(cut(X, Y, (30, 30, 40)))
    run, weights = train(2, data, model_accuracy=True, worker_accuracy=True)
    assert run.last["training_set"] == pytest.approx(figures(weights.seen[-1], X, Y), rel=1e-5)
    assert [one["samples"] for one in run.history["workers"].values()] == [70, 30]


def test_what_it_costs_on_the_virtual_clock() -> None:
    """A second a sample: validations of 10 at every second point, the 100 training samples at the ends of epochs."""

    def seconds(val: Rows | None, **options: Any) -> float:
        algo = Algo("sgd", loss="sparse_categorical_crossentropy", synchronous=True, validate_every=5)
        world = VirtualWorld(2, costs=Costs(compute=0.0, latency=0.0, bandwidth=1e18, offload=1.0))
        run = train_here(world, Rows(X, Y, 10), algo, linear, epochs=2, val=val, **options)
        return float(run.history["seconds"])

    ten = Rows(X[:10], Y[:10], 10)
    assert seconds(ten) - seconds(None) == pytest.approx(4 * 10, abs=0.01)
    assert seconds(None, model_accuracy=True) - seconds(None) == pytest.approx(2 * 100, abs=0.01)
    assert seconds(ten, model_accuracy=True) - seconds(None) == pytest.approx(2 * 10 + 2 * 110, abs=0.01)


def test_of_a_worker_that_was_lost_nothing_is_told() -> None:
    world = VirtualWorld(4, costs=Costs(compute=1e-3), faults=[Fault(2, 5, FaultKind.DIE)])
    run = train_here(world, Rows(X, Y, 8), ALGO, linear, epochs=3, worker_accuracy=True)
    assert list(run.history["workers"]) == ["1", "3"]


class Watched(Rows):
    """Notes who reads; one that measures fails once `broken` is set."""

    def __init__(self) -> None:
        super().__init__(X, Y, 8)
        self.readers: list[Watched] = []
        self.broken: list[bool] = []

    def load_data(self, file: str) -> Any:
        if self not in self.readers:
            self.readers.append(self)
        if self.broken:
            raise DataError(f"{file}: gone")
        return super().load_data(file)


def test_what_is_measured_is_read_by_a_reader_of_its_own() -> None:
    """The one that was trained on may still be reading ahead on its thread."""
    data = Watched()
    train_here(VirtualWorld(2), data, ALGO, linear, worker_accuracy=True)
    assert len(data.readers) == 3


def test_a_file_that_cannot_be_read_any_more_is_no_empty_share() -> None:
    class Breaks(Callback):
        def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
            data.broken.append(True)

    data = Watched()
    with pytest.raises(DataError, match="all: gone"):
        train_here(VirtualWorld(2), data, ALGO, linear, callbacks=[Breaks()], worker_accuracy=True)
