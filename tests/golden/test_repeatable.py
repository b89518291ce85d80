"""The same seed gives the same bits, and a thousand ranks fit into one process."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from nnlo import Algo
from nnlo.comm.costs import Costs, Host
from nnlo.comm.virtual import VirtualWorld
from nnlo.model.source import load_model
from tests.jobs import Rows, Run, labelled, same_bits, train_here

X, Y = labelled(320)


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 4))


def once(seed: int = 0, world_seed: int = 0, jitter: float = 0.4, **options: Any) -> Run:
    costs = Costs(compute=1e-3, jitter=jitter, offload=1e-5)
    hosts = [Host((0,), 1), Host((1, 2, 3), 2), Host((4, 5), 1)]
    world = VirtualWorld(6, hosts=hosts, costs=costs, seed=world_seed)
    algo = Algo("momentum", lr=0.05, **options)
    return train_here(world, Rows(X, Y, 8), algo, network, epochs=2, seed=seed, val=Rows(X, Y, 64))


def figures(run: Run) -> dict[str, Any]:
    """The history without wall time, and without what is measured on this machine."""
    return {key: run.history[key] for key in ("epochs", "validations", "seconds")} | {"delays": run.delays}


@pytest.mark.parametrize("options", [{}, {"synchronous": True}, {"sync_every": 3, "local_lr": 0.05}])
def test_same_seed_same_bits(options: dict[str, Any]) -> None:
    first, second = once(**options), once(**options)
    assert same_bits(first.state, second.state)
    assert figures(first) == figures(second)


def test_what_was_drawn_before_changes_nothing() -> None:
    first = once()
    torch.manual_seed(99)
    before = torch.get_rng_state()
    second = once()
    assert same_bits(first.state, second.state)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("options", [{}, {"synchronous": True}])
def test_another_seed_other_bits(options: dict[str, Any]) -> None:
    assert not same_bits(once(seed=0, **options).state, once(seed=1, **options).state)


def test_other_times_other_bits_in_asynchronous_training_alone() -> None:
    assert not same_bits(once(world_seed=0).state, once(world_seed=1).state)
    assert once(world_seed=0).delays != once(world_seed=1).delays
    slow, quick = once(world_seed=1, synchronous=True), once(jitter=0.0, synchronous=True)
    assert same_bits(slow.state, quick.state)
    assert slow.losses == quick.losses


@pytest.mark.timeout(600)
def test_a_thousand_ranks_train_in_one_process() -> None:
    """The ready-made mlp on the digits: one epoch of small batches dealt to 999 workers, half of them slow."""
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype("float32")
    source = load_model("mlp")
    world = VirtualWorld(1000, costs=Costs(compute=lambda peer, samples: samples * 1e-3 * (1 + peer % 2), jitter=0.1))
    run = train_here(
        world, Rows(x, y, 1), Algo("sgd", lr=0.02), lambda: source.get_model(inputs=64, hidden=32), epochs=2
    )
    assert [entry["samples"] for entry in run.history["epochs"]] == [1797, 3594]
    ranks = {rank for entry in run.history["epochs"] for rank in entry["ranks"]}
    assert len(ranks) == 999
    assert run.last["staleness"]["max"] > 900
