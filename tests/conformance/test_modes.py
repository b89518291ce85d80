"""What every training mode must do: one row a mode and setting, one column a test. A new mode adds its rows."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from nnlo import Algo
from nnlo.algos import MODES, Lineage, ServerAlgorithm, Update
from nnlo.comm.costs import Costs
from nnlo.comm.virtual import VirtualWorld
from nnlo.optim import OptimizerSpec
from tests.jobs import Batch, Rows, Run, same_bits, train_here


@dataclass(frozen=True)
class Row:
    """A mode with its options; its optimizer, and rates and epochs for the quadratic and for the digits.

    `distance`: how close to the quadratic's minimum it comes, `accuracy`: what it reaches on the digits' test set.
    """

    mode: str
    options: dict[str, Any] = field(default_factory=dict)
    optimizer: str | None = "sgd"
    quadratic: dict[str, Any] = field(default_factory=lambda: {"lr": 0.05})
    digits: dict[str, Any] = field(default_factory=lambda: {"lr": 0.1})
    quadratic_epochs: int = 20
    digits_epochs: int = 15
    distance: float = 1e-6
    accuracy: float = 0.93

    @property
    def id(self) -> str:
        return "-".join([self.mode, *(f"{key}={value}" for key, value in self.options.items())])

    def algo(self, loss: str, settings: dict[str, Any], **more: Any) -> Algo:
        return Algo(self.optimizer, mode=self.mode, loss=loss, **self.options, **settings, **more)


TABLE = [
    Row("downpour"),
    Row("downpour", {"synchronous": True}, digits={"lr": 0.3}, quadratic={"lr": 0.1}),
    Row("downpour", {"sync_every": 3}, digits={"lr": 0.15}, quadratic={"lr": 0.1}),
    Row("downpour", {"sync_every": 3, "local_lr": 0.02}, digits={"lr": 0.15}, quadratic={"lr": 0.1}),
    Row(
        "downpour", {"sync_every": 2, "local_lr": 0.02, "synchronous": True}, digits={"lr": 0.3}, quadratic={"lr": 0.2}
    ),
]
each_row = pytest.mark.parametrize("row", TABLE, ids=lambda row: row.id)


def test_every_mode_has_a_row() -> None:
    missing = set(MODES) - {row.mode for row in TABLE}
    assert not missing, f"add a row to TABLE for {sorted(missing)}"


def test_every_option_of_a_mode_is_in_a_row() -> None:
    for mode in MODES:
        options = {name for row in TABLE if row.mode == mode for name in row.options}
        missing = set(MODES[mode].options.__dataclass_fields__) - options
        assert not missing, f"add a row of mode '{mode}' for {sorted(missing)}"


# Convergence.


def quadratic(samples: int = 192) -> Batch:
    """A linear map to be found, without noise: the mean square error is a quadratic with its minimum at 0."""
    rng = np.random.default_rng(2)
    x = rng.normal(size=(samples, 5)).astype("float32")
    return x, x @ rng.normal(size=(5, 3)).astype("float32")


def linear(dtype: torch.dtype = torch.float32) -> nn.Module:
    return nn.Linear(5, 3, dtype=dtype)


def world(workers: int, jitter: float = 0.2) -> VirtualWorld:
    return VirtualWorld(workers + 1, costs=Costs(compute=1e-3, jitter=jitter))


def on_quadratic(row: Row, workers: int = 3, epochs: int | None = None, make: Callable[[], nn.Module] = linear) -> Run:
    x, y = quadratic()
    algo = row.algo("mse", row.quadratic, metrics=())
    return train_here(
        world(workers), Rows(x, y, 8), algo, make, epochs=epochs or row.quadratic_epochs, val=Rows(x, y, 64)
    )


@each_row
def test_converges_on_a_quadratic(row: Row) -> None:
    run = on_quadratic(row)
    assert run.history["epochs"][0]["loss"] > 0.5
    assert run.last["val_loss"] < row.distance


@cache
def digits() -> tuple[Batch, Batch]:
    """scikit-learn's 1797 digits, 1440 to train on and 357 to test, 0 to 1."""
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    x, y = (x[order] / 16).astype("float32"), y[order]
    return (x[:1440], y[:1440]), (x[1440:], y[1440:])


def perceptron() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


@each_row
def test_learns_the_digits(row: Row) -> None:
    (x, y), (tx, ty) = digits()
    algo = row.algo("categorical_crossentropy", row.digits)
    run = train_here(world(3), Rows(x, y, 16), algo, perceptron, epochs=row.digits_epochs, val=Rows(tx, ty, 357))
    assert run.last["val_acc"] >= row.accuracy


# What holds for any number of workers.


@each_row
@pytest.mark.parametrize("workers", [1, 2, 3, 7])
def test_any_number_of_workers(workers: int, row: Row) -> None:
    run = on_quadratic(row, workers, epochs=3)
    assert [entry["samples"] for entry in run.history["epochs"]] == [192, 384, 576]
    assert run.history["outcome"] == "done"
    assert set(run.history["epochs"][0]["ranks"]) == {str(1 + worker) for worker in range(workers)}
    assert run.last["val_loss"] < run.history["epochs"][0]["loss"]


@each_row
def test_same_seed_same_bits(row: Row) -> None:
    first, second = on_quadratic(row, epochs=2), on_quadratic(row, epochs=2)
    assert same_bits(first.state, second.state)
    assert first.history["epochs"] == second.history["epochs"]


@each_row
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_types_and_shapes_are_kept(dtype: torch.dtype, row: Row) -> None:
    run = on_quadratic(row, epochs=1, make=lambda: linear(dtype))
    assert {name: (value.dtype, tuple(value.shape)) for name, value in run.state.items()} == {
        "weight": (dtype, (3, 5)),
        "bias": (dtype, (3,)),
    }


class Still(nn.Module):
    """Its output, and so its gradient, is 0."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.inner = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return 0.0 * self.inner(x)


@each_row
def test_zero_gradients_leave_the_weights_as_they_are(row: Row) -> None:
    run = on_quadratic(row, epochs=2, make=Still)
    assert same_bits(run.state, Still().state_dict())


# The algorithm by itself, without a transport.


class Centre:
    """A master and its workers as plain calls: workers exchange in turn, or all at once where synchronous."""

    def __init__(self, row: Row, workers: int) -> None:
        algo = row.algo("mse", row.quadratic)
        self.algorithm: ServerAlgorithm = algo.algorithm
        spec: OptimizerSpec | None = algo.optimizer
        self.w = torch.linspace(-1, 1, 6)
        self.optimizer = spec.build(self.w) if spec else None
        self.state = self.algorithm.init_master(self.w, self.optimizer)
        self.x = [self.w.clone() for _ in range(workers)]
        self.memory = [torch.zeros(6) for _ in range(workers)]
        pairs = zip(self.x, self.memory, strict=True)
        self.worker_state = [self.algorithm.init(x, update) for x, update in pairs]
        self.read = [0] * workers
        self.version = 0

    def batch(self, worker: int, turn: int) -> None:
        """One batch of 2 or 3 samples of 1/2 |x - target|^2, a target a batch."""
        target = torch.sin(torch.arange(6) + 7.0 * worker + turn)
        gradient, state = self.memory[worker], self.worker_state[worker]
        if not self.algorithm.gradient_is_update:
            gradient = torch.empty(6)
        gradient.copy_(self.x[worker] - target)
        self.algorithm.local(self.x[worker], gradient, 2 + turn % 2, state)

    def exchange(self, senders: Sequence[int], samples: int) -> None:
        updates = [
            Update(
                self.algorithm.send(self.x[i], self.worker_state[i]).clone(),
                Lineage(i, self.read[i], self.version - self.read[i], samples),
            )
            for i in senders
        ]
        lineages = [update.lineage for update in updates]
        reply = self.algorithm.step(self.w, self.algorithm.merge(updates), lineages, self.state)
        self.version += 1
        for i in senders:
            self.read[i] = self.version
            self.algorithm.receive(self.x[i], reply.clone(), self.worker_state[i])

    def round(self, turn: int) -> None:
        """Every worker computes its batches and exchanges once."""
        workers = range(len(self.x))
        for senders in [list(workers)] if self.algorithm.synchronous else [[i] for i in workers]:
            turns = range(turn * self.algorithm.sync_every, (turn + 1) * self.algorithm.sync_every)
            for i in senders:
                for k in turns:
                    self.batch(i, k)
            self.exchange(senders, sum(2 + k % 2 for k in turns))

    def save(self) -> dict[str, Any]:
        """All of it in plain types, which a checkpoint can hold."""
        return {
            "w": self.w, "x": self.x, "read": self.read, "version": self.version, "memory": self.memory,
            "master": plain(self.state), "workers": [plain(state) for state in self.worker_state],
        }  # fmt: skip

    def load(self, saved: dict[str, Any]) -> None:
        self.w.copy_(saved["w"])
        for mine, theirs in zip([*self.x, *self.memory], [*saved["x"], *saved["memory"]], strict=True):
            mine.copy_(theirs)
        self.read, self.version = saved["read"], saved["version"]
        restore(self.state, saved["master"])
        for state, theirs in zip(self.worker_state, saved["workers"], strict=True):
            restore(state, theirs)


def plain(state: dict[str, Any]) -> dict[str, Any]:
    """The state with its optimizers as state_dicts; all else must be tensors and numbers already."""
    found = {key: value.state_dict() if hasattr(value, "state_dict") else value for key, value in state.items()}
    for key, value in found.items():
        assert value is None or isinstance(value, (Tensor, bool, int, float, str, list, dict)), key
    return found


def restore(state: dict[str, Any], saved: dict[str, Any]) -> None:
    """Tensors are filled where they lie, since they may be the memory that is sent."""
    assert state.keys() == saved.keys()
    for key, value in saved.items():
        if hasattr(state[key], "load_state_dict"):
            state[key].load_state_dict(value)
        elif isinstance(state[key], Tensor):
            state[key].copy_(value)
        else:
            state[key] = value


def through_a_file(saved: dict[str, Any]) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(saved, file)
    file.seek(0)
    loaded: dict[str, Any] = torch.load(file, weights_only=True)
    return loaded


@each_row
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_state_goes_through_plain_types_and_training_goes_on(optimizer: str, row: Row) -> None:
    if row.optimizer is None and optimizer != "sgd":
        pytest.skip(f"mode '{row.mode}' has no optimizer")
    row = Row(row.mode, row.options, row.optimizer and optimizer, {"lr": 0.1} if row.optimizer else row.quadratic)
    whole, first, second = Centre(row, 3), Centre(row, 3), Centre(row, 3)
    for turn in range(8):
        whole.round(turn)
    for turn in range(3):
        first.round(turn)
    second.load(through_a_file(first.save()))
    for turn in range(3, 8):
        second.round(turn)
    assert not torch.equal(whole.w, first.w)
    assert torch.equal(whole.w, second.w)
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(whole.x, second.x, strict=True))


@each_row
def test_state_saved_between_two_batches_of_an_update(row: Row) -> None:
    whole, first, second = Centre(row, 1), Centre(row, 1), Centre(row, 1)
    tau = whole.algorithm.sync_every
    for centre in (whole, first):
        for turn in range(tau - 1):
            centre.batch(0, turn)
    second.load(through_a_file(first.save()))
    for centre in (whole, second):
        centre.batch(0, tau - 1)
        centre.exchange([0], sum(2 + turn % 2 for turn in range(tau)))
    assert torch.equal(whole.w, second.w)
