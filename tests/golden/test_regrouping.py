"""A collective that loses workers: the others go on from the last completed round, and stay alike."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nnlo import Algo, Callback, Data
from nnlo.comm.costs import Costs, Fault, FaultKind
from nnlo.comm.virtual import VirtualWorld
from nnlo.errors import TrainingError
from nnlo.roles import parcels
from nnlo.roles.regrouping import Regrouping
from nnlo.roles.rounds import NOT_BEGUN, Rounds
from nnlo.training.checkpoint.store import Saved
from tests.golden.test_asynchronous import OneHot
from tests.golden.test_restoring import EXACT, algo_of, kept_in, network
from tests.jobs import Rows, Run, labelled, train_here

SAMPLES, BATCH = 96, 8
SGD = {"optimizer": "sgd", "lr": 1.0, "mode": "allreduce"}


def world(*faults: tuple[int, int], size: int = 4, seconds: float = 0.0) -> VirtualWorld:
    costs = Costs(compute=1e-3, notice=0.02)
    return VirtualWorld(size, costs=costs, faults=[Fault(*fault, FaultKind.DIE, seconds) for fault in faults])


def one_hot(comm: VirtualWorld, epochs: int = 1, algo: Mapping[str, Any] = SGD, **manager: Any) -> Run:
    """A round of S samples takes the rate / S off w[n] for each of its samples n."""
    x = np.arange(SAMPLES, dtype="float64")[:, None]
    data = Rows(x, np.full((SAMPLES, 1), -1000.0), BATCH)
    return train_here(
        comm, data, Algo(loss="mae", metrics=(), **algo), lambda: OneHot(SAMPLES), epochs=epochs, **manager
    )


@pytest.fixture
def at_the_end(monkeypatch: pytest.MonkeyPatch) -> dict[int, Tensor]:
    """The weights that workers have at their ends, by rank."""
    found, run = dict[int, Tensor](), Rounds.run

    async def watched(self: Rounds) -> None:
        await run(self)
        found[self.transport.id] = torch.cat([self.x, self.up.buffers])

    monkeypatch.setattr(Rounds, "run", watched)
    return found


def shares(run: Run) -> dict[int, int]:
    """How many samples counted as one of so many of a round, where the rate is 48."""
    w = run.state["w"]
    return {round(48 / -value): int((w == value).sum()) for value in w.unique().tolist()}


@pytest.mark.parametrize("peer", [1, 2, 3])
@pytest.mark.parametrize("bucket_mib", [0, 25])
def test_the_others_do_what_it_had_not_done(peer: int, bucket_mib: int, at_the_end: dict[int, Tensor]) -> None:
    """Three workers have 4 batches each. After one round of 24 samples there are 9 left, 5 and 4 for two workers."""
    run = one_hot(world((peer, 1)), algo={**SGD, "lr": 48.0, "bucket_mib": bucket_mib})
    assert shares(run) == {24: 24, 16: 64, 8: 8}
    assert run.last["samples"] == SAMPLES and run.last["updates"] == 6
    assert run.last["ranks"][str(peer)]["samples"] == BATCH
    assert [one["rank"] for one in run.history["lost"]] == [peer] and run.history["outcome"] == "done"
    assert sorted(at_the_end) == sorted({1, 2, 3} - {peer})
    for w in at_the_end.values():
        assert torch.equal(w, run.state["w"])


def test_one_that_dies_in_the_first_round_has_done_nothing() -> None:
    """There are 6 batches for each of the two others."""
    assert shares(one_hot(world((3, 0)), algo={**SGD, "lr": 48.0})) == {16: 96}


def test_all_but_one_may_die_one_after_another() -> None:
    run = one_hot(world((1, 2), (3, 0), (4, 5), size=5), epochs=3)
    assert [one["rank"] for one in run.history["lost"]] == [3, 1, 4]
    assert [entry["samples"] for entry in run.history["epochs"]] == [SAMPLES, 2 * SAMPLES, 3 * SAMPLES]
    assert sum(run.state["w"].tolist()) == pytest.approx(-sum(entry["updates"] for entry in run.history["epochs"]))


def test_several_may_die_at_once() -> None:
    run = one_hot(world((1, 2), (2, 2), (4, 2), size=6), epochs=2)
    assert {one["rank"] for one in run.history["lost"]} == {1, 2, 4} and run.last["samples"] == 2 * SAMPLES


def test_without_any_the_job_ends() -> None:
    with pytest.raises(TrainingError, match="every worker is lost"):
        one_hot(world((1, 2), (2, 1), (3, 3)), epochs=2)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"on_worker_loss": "stop"}, "rank 2 is lost.*the job stops for it .--on-worker-loss stop"),
        ({"min_workers": 3}, "rank 2 is lost.*2 left are fewer than --min-workers 3"),
    ],
)
def test_it_stops_where_that_is_wanted(options: dict[str, Any], text: str) -> None:
    with pytest.raises(TrainingError, match=text):
        one_hot(world((2, 1)), epochs=2, **options)


class Steps(Callback):
    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []

    def on_train_batch_end(self, batch: int, logs: dict[str, Any]) -> None:
        self.seen.append((batch, logs["samples"]))


def test_callbacks_hear_of_each_round_once() -> None:
    steps = Steps()
    one_hot(world((1, 2)), epochs=2, callbacks=[steps])
    assert [step for step, _ in steps.seen] == list(range(len(steps.seen)))
    clocks = [clock for _, clock in steps.seen]
    assert clocks == sorted(set(clocks)) and clocks[-1] == 2 * SAMPLES


WAYS: list[dict[str, Any]] = [
    SGD,
    {**SGD, "sync_every": 2},
    {"optimizer": "adam", "lr": 0.1, "mode": "allreduce"},
    {**SGD, "lr": 0.1, "momentum": 0.9, "compress": "topk:ratio=0.2"},
    {**SGD, "lr": 0.1, "compress": "powersgd"},
    {**SGD, "lr": 0.1, "compress": "fp16"},
    {"mode": "local", "sync_every": 2},
    {"mode": "local", "sync_every": 3, "outer_momentum": 0.5, "worker_optimizer": "adam"},
    {"optimizer": "adam", "lr": 0.1, "mode": "vote", "exchange": "collective", "count_usages": True},
    {"optimizer": "sgd", "lr": 0.1, "mode": "sign", "exchange": "collective"},
]


def anyhow(seed: int, dying: list[int], size: int, chance: random.Random) -> VirtualWorld:
    """They die at any time, between others' ends of one collective too, and are noticed after any time."""
    latency = chance.choice((1e-6, 1e-4, 1e-3))
    costs = Costs(
        compute=1e-3,
        jitter=chance.random(),
        latency=latency,
        notice=chance.choice((1e-5, 3e-3, 0.3)),
        spread=chance.choice((0, latency, 20 * latency)),
    )
    faults = [
        Fault(rank, chance.randint(0, 36 // (size - 1)), FaultKind.DIE, chance.choice((0, chance.uniform(0, 0.02))))
        for rank in dying
    ]
    return VirtualWorld(size, costs=costs, faults=faults, seed=seed)


@pytest.mark.parametrize("seed", range(40))
def test_whoever_dies_when_each_sample_counts_and_those_who_are_left_are_alike(
    seed: int, at_the_end: dict[int, Tensor]
) -> None:
    chance, algo = random.Random(seed), WAYS[seed % len(WAYS)]
    size = chance.randint(3, 7)
    dying = chance.sample(range(1, size), chance.randint(1, size - 2))
    x, y = labelled(SAMPLES)
    run = train_here(
        anyhow(seed, dying, size, chance),
        Rows(x, y, BATCH),
        algo_of({**algo, "validate_every": chance.choice((None, 1, 4))}),
        network,
        epochs=3,
        val=Rows(x[:16], y[:16], 16),
    )
    history = run.history
    assert history["outcome"] == "done" and {one["rank"] for one in history["lost"]} <= set(dying)
    assert [entry["samples"] for entry in history["epochs"]] == [SAMPLES, 2 * SAMPLES, 3 * SAMPLES]
    for entry in history["epochs"]:
        assert sum(rank["samples"] for rank in entry["ranks"].values()) == SAMPLES
    assert all(torch.equal(one, at_the_end[max(at_the_end)]) for one in at_the_end.values())
    last = torch.cat([value.flatten() for name, value in run.state.items() if "running" not in name and value.dim()])
    assert torch.equal(at_the_end[max(at_the_end)][: last.numel()], last)


@pytest.mark.parametrize("seed", range(12))
def test_whoever_dies_when_every_sample_is_done_once(seed: int) -> None:
    """As many are done as there are, and each of them is."""
    chance = random.Random(1000 + seed)
    size = chance.randint(3, 7)
    dying = chance.sample(range(1, size), chance.randint(1, size - 2))
    run = one_hot(anyhow(seed, dying, size, chance), algo={**SGD, "sync_every": chance.choice((1, 2))})
    assert run.last["samples"] == SAMPLES and (run.state["w"] < 0).all()
    assert sum(run.state["w"].tolist()) == pytest.approx(-run.last["updates"])


@pytest.mark.parametrize("piece", [256, parcels.PIECE_BYTES])
def test_a_checkpoint_that_a_loss_breaks_off_is_made_later(
    piece: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One dies before it has shown its state, or while it does."""
    monkeypatch.setattr(parcels, "PIECE_BYTES", piece)
    (size, options), way = EXACT["allreduce"], 1e-4
    costs = Costs(compute=1e-3, notice=way, latency=way, bandwidth=1e7)
    comm = VirtualWorld(size, costs=costs, faults=[Fault(2, 3, FaultKind.DIE, 0.01)])
    data, val = Rows(*labelled(SAMPLES), BATCH), Rows(*labelled(40, seed=1), BATCH)
    run = train_here(
        comm, data, algo_of(options), network, epochs=3, val=val, checkpoint=tmp_path, checkpoint_interval=1, keep=9
    )
    assert run.history["outcome"] == "done" and run.history["lost"][0]["samples"] == SAMPLES
    first, *_ = (Saved(folder) for folder in kept_in(tmp_path))
    assert SAMPLES < first.about["samples"] < 2 * SAMPLES, "it is due as soon as they have come together"


@pytest.mark.parametrize(("seed", "begun"), [(3, [NOT_BEGUN, 0]), (5, [NOT_BEGUN, NOT_BEGUN])])
def test_one_that_is_lost_before_the_first_round_is_not_missed(
    seed: int, begun: list[int], at_the_end: dict[int, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has passed on the first weights, and dies before one of the others has them, or both."""
    position, found = Regrouping._position, list[int]()

    def noted(self: Regrouping) -> dict[str, Any]:
        where = position(self)
        found.append(where["rounds"])
        return where

    monkeypatch.setattr(Regrouping, "_position", noted)
    slow = Costs(compute=1e-3, notice=1e-6, spread=0.5)
    comm = VirtualWorld(4, costs=slow, faults=[Fault(1, 0, FaultKind.DIE, 1e-6)], seed=seed)
    assert shares(one_hot(comm, algo={**SGD, "lr": 48.0})) == {16: 96}
    assert at_the_end.keys() == {2, 3} and found == begun


class Generated(Data):
    """Of three workers each makes 4 batches an epoch."""

    def count_data(self) -> int:
        return SAMPLES

    def generate_data(self) -> Any:
        for _ in range(SAMPLES // BATCH):
            yield np.zeros((BATCH, 1)), np.full((BATCH, 1), -1000.0)


def test_workers_with_generators_of_their_own_go_on_with_them() -> None:
    """What the lost one had is lost with it, and the batch in hand of each of the others."""
    comm = world((2, 1))
    run = train_here(comm, Generated(BATCH), Algo(loss="mae", metrics=(), **SGD), lambda: OneHot(1), epochs=2)
    assert run.history["outcome"] == "done" and len(run.losses) == 2
    assert run.last["samples"] == (3 + 2 * 2 + 2 * 4) * BATCH, run.history["epochs"]
