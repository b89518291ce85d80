"""Workers that die: what they had not done is done by others, and nobody waits for them."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from nnlo import Algo
from nnlo.comm.costs import Costs, Fault, FaultInjected, FaultKind
from nnlo.comm.virtual import VirtualWorld
from nnlo.errors import TrainingError
from tests.golden.test_asynchronous import OneHot
from tests.jobs import Rows, Run, train_here

SAMPLES, BATCH = 96, 8


def one_hot(
    world: VirtualWorld, epochs: int = 1, batch: int = BATCH, manager: Mapping[str, Any] | None = None, **options: Any
) -> Run:
    """One unit is taken off w[n] for each time that sample n is trained on in an asynchronous update of `batch`."""
    x = np.arange(SAMPLES, dtype="float64")[:, None]
    algo = Algo("sgd", lr=batch, loss="mae", metrics=(), **options)
    data = Rows(x, np.full((SAMPLES, 1), -1000.0), batch)
    return train_here(world, data, algo, lambda: OneHot(SAMPLES), epochs=epochs, **(manager or {}))


def dying(*faults: tuple[int, int], size: int = 4) -> VirtualWorld:
    costs = Costs(compute=1e-3, notice=0.02)
    return VirtualWorld(size, costs=costs, faults=[Fault(peer, step, FaultKind.DIE) for peer, step in faults])


@pytest.mark.parametrize("step", [0, 1, 3])
@pytest.mark.parametrize("peer", [1, 3])
def test_asynchronous_training_does_each_sample_once_all_the_same(peer: int, step: int) -> None:
    run = one_hot(dying((peer, step)), epochs=2)
    assert run.state["w"].tolist() == [-2.0] * SAMPLES
    assert run.history["outcome"] == "done"


@pytest.mark.parametrize("step", [0, 1, 3])
@pytest.mark.parametrize("peer", [1, 3])
def test_synchronous_training_takes_the_quorum_again(peer: int, step: int) -> None:
    run = one_hot(dying((peer, step)), synchronous=True)
    ranks = run.last["ranks"]
    assert run.last["samples"] == SAMPLES == sum(entry["samples"] for entry in ranks.values())
    assert ranks.get(str(peer), {"samples": 0})["samples"] == step * BATCH
    assert (run.state["w"] < 0).all(), "a sample of the lost worker was left out"
    assert set(run.delays) == {0}


def test_synchronous_steps_after_the_loss_are_means_of_those_left() -> None:
    """A step of three workers takes 8 / 24 off each of its 24 samples, one of two workers 8 / 16 off each of 16."""
    w = one_hot(dying((2, 1)), synchronous=True).state["w"]
    found = {round(-6 * value): int((w == value).sum()) for value in w.unique().tolist()}
    assert found == {2: 24, 3: 64, 6: 8}


def test_all_but_one_may_die() -> None:
    run = one_hot(dying((1, 2), (3, 0), (4, 5), size=5), epochs=3)
    assert run.state["w"].tolist() == [-3.0] * SAMPLES


def test_several_batches_an_update_are_lost_together_and_done_again() -> None:
    x = np.arange(SAMPLES, dtype="float64")[:, None]
    algo = Algo("sgd", lr=2 * BATCH, loss="mae", metrics=(), sync_every=2)
    data = Rows(x, np.full((SAMPLES, 1), -1000.0), BATCH)
    run = train_here(dying((2, 3)), data, algo, lambda: OneHot(SAMPLES), epochs=2)
    assert run.last["samples"] == 2 * SAMPLES
    assert (run.state["w"] < 0).all()


def test_the_history_tells_who_was_lost_and_when() -> None:
    run = one_hot(dying((1, 2), (3, 4), size=5), epochs=3)
    lost = run.history["lost"]
    assert [one["rank"] for one in lost] == [1, 3] and all(one["host"] in run.history["hosts"] for one in lost)
    assert 0 < lost[0]["seconds"] < lost[1]["seconds"] < run.history["seconds"]
    assert 0 < lost[0]["samples"] < lost[1]["samples"] < 3 * SAMPLES


@pytest.mark.parametrize("size", [1, 2])
def test_one_lost_behind_a_master_between_is_told_of_too(size: int) -> None:
    world = dying(*((worker, 2) for worker in (3, 2)[:size]), size=7)
    x = np.arange(SAMPLES, dtype="float64")[:, None]
    algo = Algo("sgd", lr=BATCH, loss="mae", metrics=())
    data = Rows(x, np.full((SAMPLES, 1), -1000.0), BATCH)
    run = train_here(world, data, algo, lambda: OneHot(SAMPLES), epochs=2, num_masters=3)
    assert {one["rank"] for one in run.history["lost"]} == set((3, 2)[:size])
    assert run.last["samples"] == 2 * SAMPLES


@pytest.mark.parametrize(
    ("settings", "reason"),
    [({"on_worker_loss": "stop"}, "rank 2 is lost: .*--on-worker-loss stop"), ({"min_workers": 3}, "2 left are fewer")],
)
def test_the_job_stops_where_it_is_to(settings: dict[str, object], reason: str) -> None:
    x = np.arange(SAMPLES, dtype="float64")[:, None]
    data = Rows(x, np.full((SAMPLES, 1), -1000.0), BATCH)
    algo = Algo("sgd", lr=BATCH, loss="mae", metrics=())
    with pytest.raises(TrainingError, match=reason):
        train_here(dying((2, 3)), data, algo, lambda: OneHot(SAMPLES), epochs=2, **settings)


def test_workers_may_be_as_few_as_was_said() -> None:
    x = np.arange(SAMPLES, dtype="float64")[:, None]
    data = Rows(x, np.full((SAMPLES, 1), -1000.0), BATCH)
    algo = Algo("sgd", lr=BATCH, loss="mae", metrics=())
    run = train_here(dying((2, 3)), data, algo, lambda: OneHot(SAMPLES), epochs=2, min_workers=2)
    assert run.history["outcome"] == "done" and run.history["arguments"].get("min_workers", 2) == 2


def test_when_all_die_the_job_says_so() -> None:
    with pytest.raises(TrainingError, match="every worker is lost"):
        one_hot(dying((1, 1), (2, 2), (3, 0)))


def test_a_rank_that_raises_ends_the_job() -> None:
    with pytest.raises(FaultInjected, match="rank 2 fails at step 3"):
        one_hot(VirtualWorld(4, faults=[Fault(2, 3, FaultKind.RAISE)]))


def test_a_rank_that_stalls_is_waited_for() -> None:
    costs = Costs(compute=1e-3)
    quick = one_hot(VirtualWorld(4, costs=costs), synchronous=True)
    slow = one_hot(VirtualWorld(4, costs=costs, faults=[Fault(2, 1, FaultKind.STALL, 5.0)]), synchronous=True)
    assert slow.state["w"].tolist() == quick.state["w"].tolist()
    assert slow.history["seconds"] - quick.history["seconds"] == pytest.approx(5.0, abs=1e-6)


WAYS: tuple[dict[str, object], ...] = (
    {},
    {"synchronous": True},
    {"pipeline": True},
    {"backup_workers": 1, "synchronous": True},
    {"compress": "topk:ratio=0.5"},
    {"sync_every": 3},
    {"mode": "easgd", "optimizer": None, "elastic_lr": 0.01},
    {"mode": "easgd", "optimizer": None, "elastic_lr": 0.01, "synchronous": True},
    {"mode": "gem", "optimizer": None},
    {"mode": "sign", "lr": 0.01},
    {"mode": "vote", "lr": 0.01, "sync_every": 2},
)


@pytest.mark.parametrize("seed", range(44))
def test_whoever_dies_when_the_others_do_every_sample_once(seed: int) -> None:
    """Workers die at random steps, messages and notice take random times: training ends, and each sample is counted."""
    chance, algo = random.Random(seed), {"optimizer": "sgd", "lr": 0.1, **WAYS[seed % len(WAYS)]}
    if algo["optimizer"] is None:
        del algo["lr"]
    shapes = ((1, 0),) if "backup_workers" in algo else ((1, 0), (1, 0), (3, 2), (3, 3))
    masters, below = chance.choice(shapes)
    size = chance.randint(3, 9) if masters == 1 else masters + (masters - 1) * below
    workers = [rank for rank in range(1, size) if masters == 1 or (rank - 1) % (1 + below)]
    dying = chance.sample(workers, chance.randint(1, len(workers) - 1))
    costs = Costs(
        compute=1e-3,
        jitter=chance.random(),
        latency=chance.choice((1e-6, 1e-3)),
        notice=chance.choice((1e-5, 0.01, 0.3)),
    )
    faults = [Fault(rank, chance.randint(0, 12), FaultKind.DIE) for rank in dying]
    x = np.arange(SAMPLES, dtype="float64")[:, None]
    run = train_here(
        VirtualWorld(size, costs=costs, faults=faults, seed=seed),
        Rows(x, np.full((SAMPLES, 1), -1000.0), BATCH),
        Algo(loss="mae", metrics=(), **algo),
        lambda: OneHot(SAMPLES),
        epochs=3,
        num_masters=masters,
    )
    assert run.history["outcome"] == "done" and run.last["samples"] == 3 * SAMPLES
    assert {one["rank"] for one in run.history["lost"]} <= set(dying)


@pytest.mark.parametrize("options", [{}, {"synchronous": True}])
def test_one_that_hangs_and_cannot_end_itself_ends_the_job(options: dict[str, object]) -> None:
    """Ten times as long as that, in virtual seconds."""
    world = VirtualWorld(4, costs=Costs(compute=1e-3), faults=[Fault(2, 3, FaultKind.STALL, seconds=100.0)])
    others = "" if not options else "rank 1 on .*, "
    with pytest.raises(TrainingError, match=rf"nothing was heard of {others}rank 2 on .* for 20 s .twice --stall-time"):
        one_hot(world, epochs=3, manager={"stall_timeout": 10.0}, **options)


def test_a_collective_that_hangs_ends_the_job() -> None:
    world = VirtualWorld(4, costs=Costs(compute=1e-3), faults=[Fault(2, 3, FaultKind.STALL, seconds=100.0)])
    with pytest.raises(TrainingError, match=r"nothing was heard of rank 1 on .*, rank 2 on .*, rank 3 on .* for 20 s"):
        one_hot(world, mode="allreduce", manager={"stall_timeout": 10.0})
