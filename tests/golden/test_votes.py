"""Training by votes: who counts changes nothing, one worker is a plain loop, and a level takes the bits it should."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from nnlo import Algo
from nnlo.comm.costs import Costs
from nnlo.comm.virtual import VirtualWorld
from tests.jobs import Batch, Batches, Rows, Run, cut, labelled, same_bits, train_here

X, Y = labelled(205)
SETTINGS: dict[str, dict[str, Any]] = {
    "sign": {"mode": "sign"},
    "signum": {"mode": "sign", "vote_momentum": 0.9, "rand_zero": True},
    "vote": {"mode": "vote", "num_bits": 4, "binning": "exp", "count_usages": True},
    "vote, coins": {"mode": "vote", "num_bits": 2, "rand_zero": True, "sync_every": 2},
}
each_setting = pytest.mark.parametrize("setting", SETTINGS)


def network() -> nn.Module:
    torch.manual_seed(4)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))


PARAMETERS = sum(value.numel() for value in network().parameters())


def trained(setting: str, exchange: str, workers: int, data: Any, **options: Any) -> Run:
    """With a rate that falls, and workers of unlike speeds."""
    algo = Algo("adam", lr=0.01, exchange=exchange, **SETTINGS[setting])
    costs = Costs(compute=lambda peer, samples: 1e-3 * samples * (1 + peer % 3))
    world = VirtualWorld(workers + 1, costs=costs)
    return train_here(world, data, algo, network, epochs=2, val=Rows(X, Y, 100), seed=7, **options)


def ragged() -> Batches:
    """13 batches, the last of one sample: with 4 workers three of them have none in the last step of an epoch."""
    return Batches(cut(X, Y, [17] * 12 + [1]))


@each_setting
@pytest.mark.parametrize("workers", [1, 2, 4, 7])
@pytest.mark.parametrize("data", [Rows(X, Y, 17), ragged()], ids=["dealt", "generated"])
def test_who_counts_changes_no_weight(data: Any, workers: int, setting: str) -> None:
    served, alone = (trained(setting, exchange, workers, data) for exchange in ("server", "collective"))
    assert same_bits(served.state, alone.state)
    for mine, theirs in zip(served.history["epochs"], alone.history["epochs"], strict=True):
        for name in ("loss", "acc", "val_loss", "updates", "samples", "lr"):
            assert mine[name] == theirs[name], name


@each_setting
def test_who_counts_changes_nothing_where_gradients_are_refused(setting: str) -> None:
    x = X.copy()
    x[40, 3] = np.inf
    data = Batches(cut(x, Y, [17] * 12 + [1]))
    served, alone = (trained(setting, exchange, 3, data) for exchange in ("server", "collective"))
    assert same_bits(served.state, alone.state)
    assert [run.last["refused"] for run in (served, alone)] == [1, 1]


@pytest.mark.parametrize("setting", SETTINGS)
def test_who_counts_changes_nothing_under_a_schedule(setting: str) -> None:
    served, alone = (
        trained(setting, exchange, 4, ragged(), schedule=lambda epoch: 1 / (1 + 4 * epoch))
        for exchange in ("server", "collective")
    )
    assert same_bits(served.state, alone.state)


def one_process(batches: list[Batch], signs: bool, epochs: int = 2) -> nn.Module:
    """Levels of 3 bits, bounds that keep half, or signs; the step is torch's own."""
    module = network()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.01, foreach=False)
    bounds: list[tuple[torch.Tensor, torch.Tensor]] = []
    for x, y in batches * epochs:
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(torch.from_numpy(x)), torch.from_numpy(y)).backward()
        gradients = [value.grad for value in module.parameters() if value.grad is not None]
        bounds = bounds or [(g.clone(), g.clone()) for g in gradients]
        for place, g in enumerate(gradients):
            upper, lower = bounds[place]
            bounds[place] = torch.maximum(g, 0.5 * upper), torch.minimum(g, 0.5 * lower)
            upper, lower = bounds[place]
            up, down = (4 * (g / upper)).ceil(), -(4 * (g / lower)).ceil()
            levels = torch.where(g > 0, up, torch.where(g < 0, down, torch.zeros_like(g)))
            g.copy_(g.sign() if signs else levels)
        optimizer.step()
    return module


@pytest.mark.parametrize("exchange", ["server", "collective"])
@pytest.mark.parametrize("mode", ["sign", "vote"])
def test_one_worker_is_a_plain_loop(mode: str, exchange: str) -> None:
    batches = cut(X, Y, [17] * 12 + [1])
    options = {} if mode == "sign" else {"decay_min": 0.5, "decay_max": 0.5}
    algo = Algo("sgd", lr=0.01, mode=mode, exchange=exchange, fused=False, **options)
    run = train_here(VirtualWorld(2), Batches(batches), algo, network, epochs=2)
    assert same_bits(run.state, one_process(batches, mode == "sign").state_dict())


@pytest.mark.parametrize(
    ("options", "bits"),
    [
        ({"mode": "sign"}, 2),
        ({"mode": "sign", "zero": "plus"}, 1),
        ({"mode": "vote", "num_bits": 5}, 6),
        ({"mode": "vote", "num_bits": 5, "rand_zero": True}, 5),
    ],
)
def test_the_history_counts_packed_bytes(options: dict[str, Any], bits: int) -> None:
    """In 7 steps two workers exchange 14 updates, one of them void; a master 13, of whole 64 bytes, and 5 words."""
    nbytes = -(-PARAMETERS * bits // 8)
    served, alone = (
        train_here(VirtualWorld(3), ragged(), Algo("sgd", lr=0.01, exchange=exchange, **options), network)
        for exchange in ("server", "collective")
    )
    assert (alone.last["bytes_up"], alone.last["bytes_down"]) == (14 * nbytes, 14 * nbytes)
    headers_and_sums = 64 + 64
    assert served.last["bytes_up"] == 13 * (headers_and_sums + -(-nbytes // 64) * 64) + 5 * 64


@pytest.mark.parametrize("exchange", ["server", "collective"])
def test_the_history_tells_how_votes_went(exchange: str) -> None:
    run = trained("vote", exchange, 3, ragged())
    for entry in run.history["epochs"]:
        assert list(entry["usages"]) == [str(level) for level in range(-8, 9)]
        assert sum(entry["usages"].values()) == PARAMETERS * entry["updates"]
    assert "usages" not in trained("sign", exchange, 3, ragged()).last
