"""Every epoch is closed and validated, and what is broken is refused, however a run ends."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import nn

from nnlo import Algo, Callback, Data
from nnlo.comm.costs import Costs, Fault, FaultKind
from nnlo.comm.virtual import VirtualWorld
from nnlo.errors import TrainingError
from tests.jobs import Rows, train_here

X = np.random.default_rng(0).normal(size=(96, 4)).astype("float32")
Y = (X.sum(1, keepdims=True) > 0).astype("float32")


class Own(Data):
    """Each worker makes batches of its own; `ends` False forgets to return."""

    shards_itself = True

    def __init__(self, ends: bool = True) -> None:
        super().__init__(8)
        self.ends = ends

    def count_data(self) -> int:
        return len(X)

    def generate_data(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        while True:
            for start in range(0, len(X), 8):
                yield X[start : start + 8], Y[start : start + 8]
            if self.ends:
                return


def dying(*faults: tuple[int, int], size: int = 4) -> VirtualWorld:
    costs = Costs(compute=1e-3, notice=0.02)
    return VirtualWorld(size, costs=costs, faults=[Fault(peer, step, FaultKind.DIE) for peer, step in faults])


def algo(**options: object) -> Algo:
    return Algo("sgd", lr=0.1, loss="binary_crossentropy", **options)


@pytest.mark.parametrize("lost", [[(2, 5)], [(1, 3), (3, 20)]])
def test_every_epoch_is_closed_when_workers_with_their_own_data_are_lost(lost: list[tuple[int, int]]) -> None:
    run = train_here(dying(*lost), Own(), algo(), lambda: nn.Linear(4, 1), epochs=4, val=Rows(X, Y, 8))
    assert run.last["epoch"] == 4
    assert "val_loss" in run.last
    assert run.history["outcome"] == "done"


def test_an_epoch_that_a_loss_ends_is_closed() -> None:
    """The slowest worker dies when all else is done: no update comes after it."""
    costs = Costs(compute=lambda peer, samples: samples * (1e-2 if peer == 2 else 1e-4), notice=0.02)
    world = VirtualWorld(3, costs=costs, faults=[Fault(2, 2, FaultKind.DIE)])
    run = train_here(world, Own(), algo(), lambda: nn.Linear(4, 1), epochs=1, val=Rows(X, Y, 8))
    assert [entry["epoch"] for entry in run.history["epochs"]] == [1]
    assert len(run.history["validations"]) == 1


def test_a_generator_without_an_end_is_noticed() -> None:
    with pytest.raises(TrainingError, match="generate_data"):
        train_here(VirtualWorld(3), Own(ends=False), algo(), lambda: nn.Linear(4, 1), epochs=2)


def test_statistics_that_are_not_finite_are_refused_with_their_update() -> None:
    """The gradient of such a batch is finite, since BatchNorm divides by an infinite deviation."""
    x = X.copy()
    x[40] = 3e38
    make = lambda: nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 1))  # noqa: E731
    run = train_here(VirtualWorld(3), Rows(x, Y, 8), algo(), make, epochs=2)
    assert sum(entry["refused"] for entry in run.history["epochs"]) == 2
    assert all(torch.isfinite(value).all() for value in run.state.values())


class StopAtOnce(Callback):
    def on_epoch_end(self, epoch: int, logs: dict) -> None:
        self.manager.stop_training = True


@pytest.mark.parametrize(("epochs", "outcome", "trained"), [(5, "stopped", 2), (1, "done", 1)])
def test_a_stop_takes_effect_at_the_next_epoch_end(epochs: int, outcome: str, trained: int) -> None:
    run = train_here(
        VirtualWorld(3), Rows(X, Y, 8), algo(synchronous=True), lambda: nn.Linear(4, 1),
        epochs=epochs, val=Rows(X, Y, 8), callbacks=[StopAtOnce()],
    )  # fmt: skip
    assert run.history["outcome"] == outcome
    assert run.last["epoch"] == trained
