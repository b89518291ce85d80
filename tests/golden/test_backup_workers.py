"""Synchronous training that goes without the last K gradients: which steps are made, and that nobody waits in vain.

Where batches are dealt in turn, worker i of M trains the batches i, M + i, ..., so that the steps are known.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from torch import nn

from nnlo import Algo
from nnlo.comm.costs import Costs, Fault, FaultKind
from nnlo.comm.virtual import VirtualWorld
from nnlo.errors import OptionsError
from tests.golden.test_synchronous import LR, check_dyadic, integers, linear, one_process
from tests.jobs import Batches, Rows, Run, cut, same_bits, train_here

BATCH = 4


def costs(slow: Sequence[float]) -> Costs:
    """Worker i takes slow[i - 1] seconds for a batch; messages take no time."""
    return Costs(compute=lambda peer, samples: slow[peer - 1], latency=0.0, bandwidth=float("inf"), notice=0.25)


def run_of(slow: Sequence[float], backups: int, batches: int, *faults: Fault, **options: Any) -> Run:
    x, y = integers(BATCH * batches)
    algo = Algo("sgd", lr=LR, loss="mse", synchronous=True, backup_workers=backups, fused=False)
    world = VirtualWorld(len(slow) + 1, costs=costs(slow), faults=faults)
    run = train_here(world, Batches(cut(x, y, [BATCH] * batches)), algo, linear, **options)
    assert set(run.delays) == {0} and run.history["outcome"] == "done"
    return run


def total(run: Run, name: str) -> int:
    return sum(entry[name] for entry in run.history["epochs"])


def steps_of(steps: Sequence[Sequence[int]], batches: int) -> nn.Module:
    """One process, each step of which is of these batches together."""
    x, y = integers(BATCH * batches)
    rows = [np.concatenate([np.arange(BATCH * k, BATCH * (k + 1)) for k in step]) for step in steps]
    module = one_process([(x[some], y[some]) for some in rows])
    return module


@pytest.mark.parametrize("slow", [2.4, 3.3, 20.0])
def test_each_step_is_the_mean_of_the_first_and_the_slow_one_gets_fresh_weights(slow: float) -> None:
    """The weights agree to rounding, since a third of a sum is not exact."""
    rounds = 6
    run = run_of([1.0, 1.0, 1.0, slow], 1, 4 * rounds)
    steps = [[4 * t, 4 * t + 1, 4 * t + 2] for t in range(rounds)]
    late = next(k for k in range(1, 99) if k * slow > rounds)  # one that began before the quick ones were done
    steps += [[4 * t + 3] for t in range(late, rounds)]
    assert run.last["late"] == run.last["ranks"]["4"]["late"] == late
    assert run.last["late_samples"] == BATCH * late
    assert run.last["updates"] == len(steps)
    assert run.last["samples"] == BATCH * 4 * rounds
    for name, value in steps_of(steps, 4 * rounds).state_dict().items():
        assert (run.state[name] - value).abs().max() < 1e-13


@pytest.mark.parametrize(("workers", "backups"), [(3, 1), (5, 1), (6, 2), (6, 4), (4, 3)])
def test_exactly_the_first_that_come(workers: int, backups: int) -> None:
    """Whoever is quick is in all steps; the K slow ones are in none until the others have no batch left."""
    rounds, quick = 3, workers - backups
    run = run_of([1.0] * quick + [50.0 + k for k in range(backups)], backups, workers * rounds)
    steps: list[list[int]] = [[workers * t + i for i in range(quick)] for t in range(rounds)]
    assert run.last["updates"] >= len(steps)
    ranks = run.last["ranks"]
    assert [ranks[str(1 + i)]["late"] for i in range(quick)] == [0] * quick
    assert [ranks[str(1 + i)]["updates"] for i in range(quick)] == [rounds] * quick
    assert all(ranks[str(1 + i)]["late"] > 0 for i in range(quick, workers))
    if backups == 1:
        steps += [[workers * t + workers - 1] for t in range(1, rounds)]
        for name, value in steps_of(steps, rounds * workers).state_dict().items():
            assert (run.state[name] - value).abs().max() < 1e-13


def test_two_quick_of_three_to_the_last_bit() -> None:
    run = run_of([1.0, 1.0, 30.0], 1, 9)
    reference = steps_of([[0, 1], [3, 4], [6, 7], [5], [8]], 9)
    check_dyadic(reference)
    assert same_bits(run.state, reference.state_dict())


def test_those_without_batches_are_not_spared() -> None:
    """Worker 3 has one batch, the others two: of the second ones that of worker 1 comes first and is a step."""
    run = run_of([1.0, 1.5, 1.25], 1, 5)
    assert same_bits(run.state, steps_of([[0, 2], [3]], 5).state_dict())
    assert run.last["ranks"]["2"]["late"] == run.last["late"] == 2
    assert run.last["samples"] == BATCH * 5


def test_who_comes_too_late_in_an_epoch_begins_the_next_with_all_others() -> None:
    run = run_of([1.0, 1.0, 30.0], 1, 3, epochs=3)
    assert [entry["late"] for entry in run.history["epochs"]] == [1, 1, 1]
    assert [entry["samples"] for entry in run.history["epochs"]] == [12, 24, 36]
    assert same_bits(run.state, steps_of([[0, 1]] * 3, 3).state_dict())


def test_a_lost_worker_is_not_waited_for_and_one_is_still_spared() -> None:
    """Worker 1 dies in its third batch: of two that are left the first makes a step alone."""
    run = run_of([1.0, 1.0, 60.0], 1, 18, Fault(1, 2, FaultKind.DIE))
    steps = [[0, 1], [3, 4], *[[3 * t + 1] for t in range(2, 6)], *[[3 * t + 2] for t in range(1, 6)]]
    assert same_bits(run.state, steps_of(steps, 18).state_dict())
    assert total(run, "late") == 1


def test_a_lost_slow_worker_is_spared_no_more() -> None:
    run = run_of([1.0, 1.0, 60.0], 1, 18, Fault(3, 0, FaultKind.DIE))
    assert total(run, "late") > 0, "of two equal ones the second is late"
    assert run.last["ranks"]["1"]["updates"] + run.last["ranks"]["2"]["updates"] + run.last["late"] == 12


def from_files(backups: int, slow: float, epochs: int = 2, samples: int = 480) -> Run:
    algo = Algo("sgd", lr=LR, loss="mse", synchronous=True, backup_workers=backups)
    world = VirtualWorld(5, costs=costs([1.0, 1.0, 1.0, slow]))
    return train_here(world, Rows(*integers(samples), BATCH), algo, linear, epochs=epochs)


def test_a_slow_worker_does_not_make_the_others_slow() -> None:
    """Files are dealt as workers come: all but its last few batches are done by the quick ones."""
    quick, waiting, spared = from_files(0, 1.0), from_files(0, 5.0), from_files(1, 5.0)
    assert waiting.history["seconds"] == pytest.approx(5 * quick.history["seconds"])
    assert spared.history["seconds"] < 0.5 * waiting.history["seconds"]
    assert [entry["samples"] for entry in spared.history["epochs"]] == [480, 960]
    assert total(spared, "late") == sum(entry["ranks"]["4"]["late"] for entry in spared.history["epochs"]) > 0


def test_three_of_four_that_are_alike() -> None:
    """At each step one of four that are equal is late, and it is not always the same."""
    run = train_here(
        VirtualWorld(5, costs=Costs(compute=1e-3, jitter=0.3)), Rows(*integers(960), BATCH),
        Algo("sgd", lr=LR, loss="mse", synchronous=True, backup_workers=1), linear,
    )  # fmt: skip
    applied = sum(entry["updates"] for entry in run.last["ranks"].values())
    assert applied + run.last["late"] == 240
    assert 3 * run.last["updates"] - 6 < applied <= 3 * run.last["updates"]
    assert all(entry["late"] > 0 for entry in run.last["ranks"].values())


@pytest.mark.parametrize("seed", range(40))
def test_it_never_hangs(seed: int) -> None:
    """Any number of workers, of spared ones, of batches behind an update, of losses: the clock comes to its end."""
    rng = np.random.default_rng(seed)
    workers = int(rng.integers(2, 9))
    backups, tau = int(rng.integers(1, workers)), int(rng.choice([1, 1, 2, 3]))
    samples, epochs = int(rng.integers(workers, 60)), int(rng.integers(1, 3))
    speeds = rng.choice([1.0, 1.0, 2.0, 9.0], workers)
    lost = rng.choice(workers, size=int(rng.integers(0, min(3, workers))), replace=False) + 1
    faults = [Fault(int(peer), int(rng.integers(0, 12)), FaultKind.DIE) for peer in lost]
    clock = Costs(
        compute=lambda peer, count: 1e-3 * speeds[peer - 1], jitter=float(rng.choice([0.0, 0.5])), notice=0.02
    )
    x, y = integers(samples)
    own = bool(rng.integers(2))
    data = Batches(cut(x, y, [1] * samples)) if own else Rows(x, y, int(rng.integers(1, 6)))
    algo = Algo("sgd", lr=LR, loss="mse", synchronous=True, backup_workers=backups, sync_every=tau)
    run = train_here(
        VirtualWorld(workers + 1, costs=clock, faults=faults, seed=seed), data, algo, linear,
        epochs=epochs, val=Rows(x, y, 64),
    )  # fmt: skip
    assert run.history["outcome"] == "done" and run.last["epoch"] == epochs and "val_loss" in run.last
    if not (own and faults):
        assert run.last["samples"] == epochs * samples


@pytest.mark.parametrize(("workers", "backups"), [(1, 1), (3, 3), (3, 7)])
def test_as_many_as_there_are_workers_are_too_many(workers: int, backups: int) -> None:
    with pytest.raises(OptionsError) as caught:
        run_of([1.0] * workers, backups, 2 * workers)
    assert str(caught.value) == (
        f"--backup-workers {backups} must be below the number of workers, which is {workers}: "
        "lower it or start more ranks"
    )
