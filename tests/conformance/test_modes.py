"""What every training mode must do: the table has a row for each mode and setting, this file a test for each column."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from nnlo.algos import MODES, Pattern
from nnlo.comm.costs import Costs, Host
from nnlo.comm.virtual import VirtualWorld
from nnlo.compress import CODECS, Reduction
from nnlo.compress.options import CompressOptions
from nnlo.errors import OptionsError
from nnlo.options import fields_of
from nnlo.topology.graphs import GraphOptions
from tests.conformance.ranks import Ranks
from tests.conformance.table import TABLE, Row
from tests.jobs import Batch, Rows, Run, same_bits, train_here

each_row = pytest.mark.parametrize("row", TABLE, ids=lambda row: row.id)


def test_every_mode_has_a_row() -> None:
    missing = set(MODES) - {row.mode for row in TABLE}
    assert not missing, f"add a row to TABLE for {sorted(missing)}"


def test_every_codec_of_a_mode_has_a_row() -> None:
    """One of fp16 and bf16 stands for both; codecs whose vectors are summed go with collectives alone."""
    rows = {(row.mode, row.options.get("compress", "none").partition(":")[0]) for row in TABLE}
    for mode in MODES:
        options = MODES[mode].options
        if issubclass(options, CompressOptions):
            serves = [name for name in CODECS if options.reduces or not issubclass(CODECS[name], Reduction)]
            missing = {name for name in serves if (mode, name) not in rows}
            assert len(missing) <= 1 and missing <= {"fp16", "bf16"}, (mode, missing)


def test_every_option_of_a_mode_is_in_a_row() -> None:
    """Those of graphs are for tests/unit/test_graphs.py."""
    graphs = {field.name for field in fields_of(GraphOptions)}
    for mode in MODES:
        options = {name for row in TABLE if row.mode == mode for name in row.options}
        missing = {field.name for field in fields_of(MODES[mode].options)} - options - graphs
        assert not missing, f"add a row of mode '{mode}' for {sorted(missing)}"


# Convergence.


def quadratic(samples: int = 192) -> Batch:
    """A linear map to be found, without noise: the mean square error is a quadratic with its minimum at 0."""
    rng = np.random.default_rng(2)
    x = rng.normal(size=(samples, 5)).astype("float32")
    return x, x @ rng.normal(size=(5, 3)).astype("float32")


def linear(dtype: torch.dtype = torch.float32) -> nn.Module:
    return nn.Linear(5, 3, dtype=dtype)


def world(row: Row, workers: int = 3) -> VirtualWorld:
    ranks = tuple(range(workers + 1))
    hosts = [Host(ranks, cores=len(ranks))] if row.together else [Host((rank,)) for rank in ranks]
    return VirtualWorld(len(ranks), hosts=hosts, costs=Costs(compute=1e-3, jitter=0.2))


def on_quadratic(row: Row, workers: int = 3, epochs: int | None = None, make: Callable[[], nn.Module] = linear) -> Run:
    x, y = quadratic()
    algo = row.algo("mse", row.quadratic, metrics=())
    return train_here(
        world(row, workers), Rows(x, y, 8), algo, make, epochs=epochs or row.quadratic_epochs, val=Rows(x, y, 64)
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
    run = train_here(world(row), Rows(x, y, 16), algo, perceptron, epochs=row.digits_epochs, val=Rows(tx, ty, 357))
    assert run.last["val_acc"] >= row.accuracy


# What holds for any number of workers.


@each_row
@pytest.mark.parametrize("workers", [1, 2, 3, 7])
def test_any_number_of_workers(workers: int, row: Row) -> None:
    if workers < row.workers:
        pytest.skip(f"it takes {row.workers} workers")
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
    run = on_quadratic(row, epochs=2, make=lambda: linear(dtype))
    assert {name: (value.dtype, tuple(value.shape)) for name, value in run.state.items()} == {
        "weight": (dtype, (3, 5)),
        "bias": (dtype, (3,)),
    }


@each_row
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_types_train_or_are_refused(dtype: torch.dtype, row: Row) -> None:
    """Codecs and levels beyond 1 are not for them, and MPI cannot add up bfloat16."""
    encoded = row.mode == "vote" or any(option.startswith("compress") for option in row.options)
    among_workers = row.algo("mse", row.quadratic).algorithm.pattern is Pattern.COLLECTIVE
    if encoded or (among_workers and dtype is torch.bfloat16):
        with pytest.raises(OptionsError, match="build the model in float32"):
            on_quadratic(row, epochs=3, make=lambda: linear(dtype))
        return
    run = on_quadratic(row, epochs=3, make=lambda: linear(dtype))
    assert all(value.dtype == dtype for value in run.state.values())
    assert run.last["refused"] == 0
    assert run.last["val_loss"] < run.history["epochs"][0]["loss"]


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
    assert same_bits(run.state, Still().state_dict()) != row.moves


# The algorithm by itself, without a transport.


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
    if row.optimizer:
        row = replace(row, optimizer=optimizer, quadratic={"lr": 0.1})
    whole, first, second = Ranks(row, 3), Ranks(row, 3), Ranks(row, 3)
    whole.scale(0.5)
    for turn in range(8):
        whole.round(turn)
    first.scale(0.5)
    for turn in range(3):
        first.round(turn)
    second.load(through_a_file(first.save()))
    for turn in range(3, 8):
        second.round(turn)
    assert not torch.equal(whole.w, first.w)
    assert torch.equal(whole.w, second.w)
    pairs = zip(whole.workers, second.workers, strict=True)
    assert all(torch.equal(mine.x, theirs.x) for mine, theirs in pairs)


@each_row
def test_state_saved_between_two_batches_of_an_update(row: Row) -> None:
    whole, first, second = Ranks(row, 1), Ranks(row, 1), Ranks(row, 1)
    tau = whole.algorithm.sync_every
    for ranks in (whole, first):
        for turn in range(tau - 1):
            ranks.workers[0].batch(turn)
    second.load(through_a_file(first.save()))
    for ranks in (whole, second):
        ranks.workers[0].batch(tau - 1)
        ranks.exchange(ranks.workers, sum(2 + turn % 2 for turn in range(tau)))
    assert torch.equal(whole.w, second.w)
