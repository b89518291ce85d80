"""Histories kept from an earlier state of the code: a refactor must give the same losses, delays and virtual times.

All numbers are exact in float32 on every machine: with integer features and an absolute loss a gradient is a sum of
integers over a power of two, so the weights never leave a grid. After a change that is meant to alter them:

    python -m tests.golden.test_history
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from nnlo import Algo
from nnlo.comm.costs import Costs, Host
from nnlo.comm.virtual import VirtualWorld
from tests.jobs import Rows, train_here

KEPT = Path(__file__).parent / "history.json"
JOBS: dict[str, dict[str, Any]] = {
    "asynchronous": {},
    "synchronous": {"synchronous": True},
    "sync_every": {"sync_every": 4, "local_lr": 2.0**-7},
}
SAMPLES, INPUTS = 512, 6
SAME = ("epoch", "seconds", "samples", "updates", "refused", "loss", "val_loss", "staleness", "bytes_up", "bytes_down")


def model() -> nn.Module:
    module = nn.Linear(INPUTS, 1)
    with torch.no_grad():
        module.weight.zero_()
        module.bias.zero_()
    return module


def data(seed: int, samples: int) -> Rows:
    rng = np.random.default_rng(seed)
    x = rng.integers(-3, 4, (samples, INPUTS)).astype("float32")
    return Rows(x, x @ np.array([[2], [-1], [3], [0], [1], [-2]], "float32") + 1, 8)


def history(name: str) -> dict[str, Any]:
    """One core for workers 1 and 2, a slow worker 3, links on which messages queue."""
    costs = Costs(
        compute=lambda peer, samples: samples * (2.0**-10, 2.0**-9)[peer == 3],
        offload=2.0**-12, latency=2.0**-12, bandwidth=2.0**18, local_latency=2.0**-16, local_bandwidth=2.0**22,
    )  # fmt: skip
    hosts = [Host((0,)), Host((1, 2)), Host((3,)), Host((4,))]
    algo = Algo("sgd", lr=2.0**-5, loss="mae", metrics=(), fused=False, **JOBS[name])
    run = train_here(
        VirtualWorld(5, hosts=hosts, costs=costs), data(0, SAMPLES), algo, model, epochs=4, seed=7, val=data(1, 64)
    )
    epochs = [{key: entry[key] for key in SAME} for entry in run.history["epochs"]]
    weights = {name: value.flatten().tolist() for name, value in run.state.items()}
    return {"epochs": epochs, "delays": run.delays, "weights": weights}


@pytest.mark.parametrize("name", JOBS)
def test_history_is_as_kept(name: str) -> None:
    kept, now = json.loads(KEPT.read_text())[name], history(name)
    assert now["weights"] == kept["weights"]
    assert now["delays"] == kept["delays"]
    assert now["epochs"] == kept["epochs"]


@pytest.mark.parametrize("name", JOBS)
def test_kept_numbers_are_on_the_grid(name: str) -> None:
    """Weights are multiples of lr over (4 batches of 8 from 4 workers) and small, so float32 rounds none of them."""
    kept = json.loads(KEPT.read_text())[name]
    for weight in [*kept["weights"]["weight"], *kept["weights"]["bias"]]:
        assert (weight * 2**12).is_integer() and abs(weight) < 4
    assert kept["epochs"][-1]["loss"] < 0.5 * kept["epochs"][0]["loss"]


if __name__ == "__main__":
    lines = [f"{json.dumps(name)}: {json.dumps(history(name))}" for name in JOBS]
    KEPT.write_text("{\n" + ",\n".join(lines) + "\n}\n")
