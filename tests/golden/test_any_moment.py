"""A collective that loses a worker at any moment of a short training: what was under way leaves no trace."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from nnlo import Algo, Callback
from nnlo.comm.costs import Costs, Fault, FaultKind
from nnlo.comm.virtual import VirtualWorld
from tests.golden.test_asynchronous import OneHot
from tests.jobs import Rows, train_here

SAMPLES, BATCH, WORKERS, EPOCHS = 48, 4, 4, 2
FAR = -1000.0  # so far below all weights that the loss falls by as much as they do
LAST = 0.04  # seconds by which all trainings have ended


class Counting(OneHot):
    """With a buffer that counts the batches that it was trained on."""

    def __init__(self) -> None:
        super().__init__(SAMPLES)
        torch.nn.init.ones_(self.w)
        self.register_buffer("batches", torch.zeros(1, dtype=torch.float64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.batches += 1
        return super().forward(x)


class Validations(Callback):
    """What each of them found, beside the number of steps by then."""

    def __init__(self) -> None:
        self.steps, self.seen = 0, list[tuple[int, float]]()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any]) -> None:
        self.steps = batch + 1

    def on_test_end(self, logs: dict[str, Any]) -> None:
        self.seen.append((self.steps, logs["val_loss"]))


def trained(dying: dict[int, float], **algo: Any) -> tuple[Any, list[tuple[int, float]]]:
    """A training of which these workers die at these moments; ranks end a collective at quite different times."""
    costs = Costs(compute=2.5e-4, latency=1e-4, spread=3e-3, notice=1e-4)
    faults = [Fault(peer, 0, FaultKind.DIE, moment) for peer, moment in dying.items()]
    comm = VirtualWorld(WORKERS + 1, costs=costs, faults=faults, seed=int(1e6 * min(dying.values())))
    x = np.arange(SAMPLES, dtype="float64")[:, None]
    data, watched = Rows(x, np.full((SAMPLES, 1), FAR), BATCH), Validations()
    half = {"schedule": lambda epoch: 0.5}
    run = train_here(
        comm, data, Algo(loss="mae", metrics=(), **algo), Counting, epochs=EPOCHS, val=data, callbacks=[watched], **half
    )
    assert run.history["outcome"] == "done" and {one["rank"] for one in run.history["lost"]} <= dying.keys()
    assert [entry["samples"] for entry in run.history["epochs"]] == [SAMPLES, 2 * SAMPLES]
    return run, watched.seen


@pytest.mark.parametrize("peer", [1, 2, 3, 4])
@pytest.mark.parametrize("part", range(8))
def test_no_round_counts_twice_or_is_forgotten(part: int, peer: int) -> None:
    """A step of rate 1 takes 1 off the sum of the weights, and every batch statistic is that of one batch a step.

    Another worker dies soon after.
    """
    for place, moment in enumerate(np.linspace(part, part + 1, 4, endpoint=False) * LAST / 8):
        dying = {peer: float(moment), peer % WORKERS + 1: float(moment) + 1e-4 * (1 + (5 * part + place) % 11)}
        run, validated = trained(dying, optimizer="sgd", lr=2.0, mode="allreduce", validate_every=5)
        steps = sum(entry["updates"] for entry in run.history["epochs"])
        assert run.state["batches"].item() == steps
        assert run.state["w"].sum().item() == pytest.approx(SAMPLES - steps, abs=1e-9)
        assert (run.state["w"] < 1 - 1 / SAMPLES).all(), "each sample counts in each epoch"
        for before, loss in validated:
            assert loss == pytest.approx(1 - FAR - before / SAMPLES, abs=1e-9)


@pytest.mark.parametrize("peer", [1, 4])
def test_votes_are_counted_once(peer: int) -> None:
    for moment in np.linspace(0, LAST, 12):
        run, _ = trained({peer: float(moment)}, mode="vote", exchange="collective", count_usages=True)
        for entry in run.history["epochs"]:
            assert sum(entry["usages"].values()) == SAMPLES * entry["updates"]


def test_local_steps_of_a_round_given_up_are_undone() -> None:
    """Of the 12 batches 3 workers make 2 each in a round, in whose second one dies; the others then make 6 each.

    Each of these takes 1 / BATCH off its samples, of which the mean over two workers keeps half.
    """
    x = np.arange(SAMPLES, dtype="float64")[:, None]
    data = Rows(x, np.full((SAMPLES, 1), FAR), BATCH)
    comm = VirtualWorld(4, costs=Costs(compute=1e-3), faults=[Fault(3, 1, FaultKind.DIE)])
    algo = Algo(None, mode="local", sync_every=2, worker_optimizer_params={"lr": 1.0}, loss="mae", metrics=())
    run = train_here(comm, data, algo, Counting, epochs=1)
    assert run.state["w"].tolist() == [1 - 1 / BATCH / 2] * SAMPLES
    assert run.state["batches"].item() == 6
