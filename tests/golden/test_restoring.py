"""Training that goes on from a checkpoint: bit for bit what it would have been without the stop."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from nnlo import Algo
from nnlo.comm.costs import Costs, Fault
from nnlo.comm.virtual import VirtualWorld
from tests.golden.test_asynchronous import OneHot
from tests.jobs import Rows, Run, labelled, same_bits, train_here

SAMPLES, BATCH, EPOCHS = 104, 8, 2


def network() -> nn.Module:
    """Statistics and random choices are part of what goes on."""
    return nn.Sequential(nn.Linear(8, 12), nn.BatchNorm1d(12), nn.Dropout(0.3), nn.Linear(12, 4))


def learn(size: int, algo: Algo, epochs: int = EPOCHS, **options: Any) -> Run:
    world = VirtualWorld(size, costs=Costs(compute=1e-3))
    data, val = Rows(*labelled(SAMPLES), BATCH), Rows(*labelled(40, seed=1), BATCH)
    return train_here(world, data, algo, network, epochs=epochs, val=val, **options)


def sgd(**options: Any) -> dict[str, Any]:
    return {"optimizer": "sgd", "lr": 0.05, "momentum": 0.9, "fused": False, **options}


EXACT = {
    "one worker": (2, sgd()),
    "one worker, adam": (2, {"optimizer": "adam", "lr": 0.01}),
    "one worker, pipeline": (2, sgd(pipeline=True)),
    "one worker, tau": (2, sgd(sync_every=3)),
    "one worker, replies compressed": (2, sgd(compress_down="topk:ratio=0.2")),
    "one worker, compressed": (2, sgd(compress="topk:ratio=0.2")),
    "one worker, easgd": (2, {"mode": "easgd", "sync_every": 4, "worker_optimizer": "adam"}),
    "one worker, gem": (2, {"mode": "gem"}),
    "one worker, gem, tau": (2, {"mode": "gem", "sync_every": 2, "gem_variant": "code"}),
    "one worker, late": (2, sgd(delay_compensation=0.1)),
    "synchronous": (4, sgd(synchronous=True)),
    "synchronous, qsgd": (4, sgd(synchronous=True, compress="qsgd")),
    "synchronous, easgd": (4, {"mode": "easgd", "synchronous": True, "sync_every": 2, "elastic_momentum": 0.9}),
    "synchronous, easgd, before": (4, {"mode": "easgd", "synchronous": True, "elastic_order": "before"}),
    "synchronous, easgd, compressed": (4, {"mode": "easgd", "synchronous": True, "compress": "topk:ratio=0.3"}),
    "sign": (4, {"mode": "sign"}),
    "vote": (4, {"mode": "vote", "rand_zero": True}),
    "vote, collective": (4, {"mode": "vote", "exchange": "collective", "count_usages": True}),
    "allreduce": (4, sgd(mode="allreduce")),
    "allreduce, tau": (4, {"mode": "allreduce", "optimizer": "adam", "sync_every": 2}),
    "allreduce, powersgd": (4, sgd(mode="allreduce", compress="powersgd")),
    "allreduce, topk": (4, sgd(mode="allreduce", compress="topk:ratio=0.2")),
    "local": (4, {"mode": "local", "sync_every": 2, "worker_optimizer": "adam", "outer_momentum": 0.5}),
    "post-local": (4, {"mode": "local", "sync_every": 2, "post_local_from": 1}),
}


def algo_of(options: dict[str, Any]) -> Algo:
    return Algo(options.get("optimizer", "sgd"), **{k: v for k, v in options.items() if k != "optimizer"})


def kept_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir())


@pytest.mark.parametrize("what", EXACT)
def test_after_every_step_it_goes_on_bit_for_bit(what: str, tmp_path: Path) -> None:
    size, options = EXACT[what]
    more = {"schedule": "cosine", "seed": 3}
    plain = learn(size, algo_of(options), **more)
    whole = learn(size, algo_of(options), checkpoint=tmp_path, checkpoint_every="0.001s", keep=99, **more)
    assert same_bits(whole.state, plain.state), "a checkpoint changed the training"
    kept = kept_in(tmp_path)
    epochs = []
    for folder in kept[:-1] if len(kept) < 10 else kept[:-1:3]:
        again = learn(size, algo_of(options), restore=folder, **more)
        assert same_bits(again.state, plain.state), f"not the same after {folder}"
        assert same_figures(again.history, plain.history)
        epochs.append(again.history["restored"][0]["samples"] / SAMPLES)
    assert epochs == sorted(epochs) and any(epoch % 1 for epoch in epochs), "none was within an epoch"


def same_figures(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether all epochs have the same figures, but for times."""
    names = ("epoch", "samples", "updates", "loss", "acc", "val_loss", "val_acc", "lr")

    def figures(history: dict[str, Any]) -> list[list[Any]]:
        return [[repr(entry.get(name, math.nan)) for name in names] for entry in history["epochs"]]

    assert figures(one) == figures(other)
    assert [v["val_loss"] for v in one["validations"]] == [v["val_loss"] for v in other["validations"]]
    return True


# Exactly once, whoever goes on.

ONE_HOT = 96


def once(size: int, epochs: int, faults: Sequence[Fault] = (), seed: int = 0, **options: Any) -> Run:
    """One unit is taken off w[n] for each time that sample n is trained on in an asynchronous update."""
    x = np.arange(ONE_HOT, dtype="float64")[:, None]
    data = Rows(x, np.full((ONE_HOT, 1), -1000.0), BATCH)
    algo = Algo("sgd", lr=BATCH, loss="mae", metrics=(), **options.pop("mode_options", {}))
    speeds = [random.Random(seed * size + rank).uniform(2e-4, 2e-3) for rank in range(size)]
    costs = Costs(compute=lambda rank, samples: speeds[rank] * samples, jitter=0.2, notice=0.01)
    world = VirtualWorld(size, costs=costs, faults=faults, seed=seed)
    return train_here(world, data, algo, lambda: OneHot(ONE_HOT), epochs=epochs, **options)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("masters", [1, 3])
@pytest.mark.parametrize("after", [2, 3, 6])
def test_with_other_numbers_of_workers_each_sample_counts_once(
    after: int, masters: int, seed: int, tmp_path: Path
) -> None:
    before = 5 if masters == 1 else 7
    once(before, 3, seed=seed, checkpoint=tmp_path, checkpoint_every="0.009s", keep=99, num_masters=masters)
    kept = kept_in(tmp_path)
    assert len(kept) >= 4
    for folder in kept:
        run = once(after, 4, seed=seed, restore=folder)
        assert run.state["w"].tolist() == [-4.0] * ONE_HOT
        assert run.last["samples"] == 4 * ONE_HOT
