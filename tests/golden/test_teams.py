"""A worker of several ranks trains as one of a single rank does: to the last bit, on dyadic data.

Features are small integers and weights multiples of a power of two; parts of a batch have 1, 2 or 4 rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nnlo import Algo, Data, MPIManager
from nnlo.algos import MODES
from nnlo.comm.costs import Costs, Fault, FaultKind
from nnlo.comm.virtual import VirtualWorld
from nnlo.errors import DataError
from nnlo.training.seeds import seed_everything
from tests.golden.test_synchronous import LR, integers, linear
from tests.jobs import Batch, Batches, Built, Rows, Run, cut, labelled, same_bits, train_here

CASES: list[tuple[str, dict[str, Any]]] = [
    ("downpour", {}),
    ("downpour", {"synchronous": True}),
    ("downpour", {"sync_every": 2, "local_lr": 2.0**-6}),
    ("downpour", {"synchronous": True, "compress": "fp16"}),
    ("allreduce", {}),
    ("allreduce", {"sync_every": 2}),
    ("easgd", {"elastic_force": 0.25, "elastic_lr": LR}),
    ("easgd", {"elastic_force": 0.25, "elastic_lr": LR, "elastic_momentum": 0.5, "synchronous": True}),
    ("local", {"sync_every": 2, "worker_optimizer_params": {"lr": LR}}),
    ("sign", {}),
    ("vote", {"exchange": "collective"}),
]
ENTRY = ("samples", "updates", "refused", "staleness")
RANK = ("samples", "updates", "loss")


def trained(ranks: int, data: Data, workers: int = 2, **options: Any) -> Run:
    """Workers of so many ranks each, on the virtual clock."""
    mode = options.pop("mode", "downpour")
    kept = {name: options.pop(name) for name in ("make", "epochs", "worker_accuracy", "loss") if name in options}
    make, loss = kept.pop("make", linear), kept.pop("loss", "mse")
    settings = {"lr": LR, "fused": False} if MODES[mode].needs_optimizer else {}
    algo = Algo("sgd" if settings else None, mode=mode, loss=loss, **settings, **options)
    return train_here(VirtualWorld(1 + workers * ranks), data, algo, make, num_processes=ranks, **kept)


def check_equal(team: Run, alone: Run, ranks: int) -> None:
    """Weights and all figures, worker by worker; those of a team go by its lead."""
    assert same_bits(team.state, alone.state)
    assert not same_bits(alone.state, linear().state_dict())
    for mine, theirs in zip(team.history["epochs"], alone.history["epochs"], strict=True):
        assert [mine[name] for name in ENTRY] == [theirs[name] for name in ENTRY]
        leads = {str(1 + (int(worker) - 1) * ranks): figures for worker, figures in theirs["ranks"].items()}
        assert mine["ranks"].keys() == leads.keys()
        for lead in leads:
            assert [mine["ranks"][lead][name] for name in RANK] == [leads[lead][name] for name in RANK]


@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize(("mode", "options"), CASES)
def test_a_team_is_one_worker(mode: str, options: dict[str, Any], ranks: int) -> None:
    x, y = integers(24)
    runs = [trained(p, Batches(cut(x, y, [4] * 6)), mode=mode, **options) for p in (ranks, 1)]
    check_equal(*runs, ranks)


def test_a_team_is_one_worker_to_rounding_where_a_mode_divides() -> None:
    x, y = integers(24)
    team, alone = (trained(p, Batches(cut(x, y, [4] * 6)), mode="gem") for p in (3, 1))
    assert team.delays == alone.delays
    for name, value in alone.state.items():
        torch.testing.assert_close(team.state[name], value, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("mode", ["downpour", "allreduce"])
def test_ranges_of_a_file_reach_all_ranks_of_a_team(mode: str) -> None:
    x, y = integers(16)
    runs = [trained(p, Rows(x, y, 4), mode=mode, workers=1, epochs=1, sync_every=3) for p in (2, 1)]
    check_equal(*runs, 2)


def test_a_batch_of_fewer_rows_than_the_team_has_ranks() -> None:
    x, y = integers(7)
    runs = [trained(p, Batches(cut(x, y, [4, 2, 1])), workers=1) for p in (3, 1)]
    check_equal(*runs, 3)


class Shuffled(Data):
    """Batches in an order that numpy's generator draws; the end of an epoch comes earlier than was counted."""

    def __init__(self, draw: Any) -> None:
        super().__init__(4)
        self.draw, (self.x, self.y) = draw, integers(16)

    def count_data(self) -> int:
        return 24

    def generate_data(self) -> Iterator[Batch]:
        for k in self.draw(4):
            yield self.x[4 * k : 4 * k + 4], self.y[4 * k : 4 * k + 4]


def test_a_generator_of_ones_own_runs_on_every_rank_of_a_team() -> None:
    runs = [trained(p, Shuffled(np.random.permutation), workers=1, epochs=2) for p in (2, 1)]
    assert runs[0].last["samples"] == 32
    assert same_bits(runs[0].state, runs[1].state)


class Unlike(Shuffled):
    """As many batches as torch's generator says, which every rank seeds for itself."""

    def generate_data(self) -> Iterator[Batch]:
        for _ in range(1 + int(torch.randint(50, ()))):
            yield self.x[:4], self.y[:4]


def test_generators_that_differ_within_a_team_end_the_job() -> None:
    with pytest.raises(DataError, match=r"unlike batches.*numpy's or Python's"):
        trained(3, Unlike(None), workers=1, epochs=30)


class Half(Shuffled):
    """Batches of unlike sizes."""

    def generate_data(self) -> Iterator[Batch]:
        for _ in range(50):
            rows = 1 + int(torch.randint(4, ()))
            yield self.x[:rows], self.y[:rows]


def test_batches_of_unlike_sizes_within_a_team_end_the_job() -> None:
    with pytest.raises(DataError, match="unlike batches"):
        trained(2, Half(None), workers=1, epochs=30)


def normalised() -> nn.Module:
    module = nn.Sequential(nn.BatchNorm1d(4, dtype=torch.float64), nn.Linear(4, 2, dtype=torch.float64))
    module[1].load_state_dict(linear().state_dict())
    return module


def test_batch_norm_statistics_are_the_mean_over_the_team() -> None:
    """After one batch of 8 rows on two ranks: the mean of what either half would leave; the batch counts once."""
    x, y = integers(8)
    team = trained(2, Batches([(x, y)]), workers=1, synchronous=True, make=normalised)
    left = []
    for half in (slice(0, 4), slice(4, 8)):
        module = normalised()
        module(torch.from_numpy(x[half]))
        left.append((module[0].running_mean, module[0].running_var))
    for name, values in zip(("0.running_mean", "0.running_var"), zip(*left, strict=True), strict=True):
        torch.testing.assert_close(team.state[name], sum(values) / 2, rtol=1e-15, atol=1e-15)
    assert team.state["0.num_batches_tracked"].item() == 1


class Cumulative(nn.Module):
    """Statistics that weigh by the integer counter, so that members must know the lead's."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4, momentum=None, dtype=torch.float64)
        self.linear = linear()

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.linear(x + 0.0 * self.norm(x).sum())
        return result


def test_integer_buffers_are_the_leads_on_all_ranks() -> None:
    """The faster worker's counter comes back to the other one, and has to reach that one's member."""
    x, y = integers(64)

    def run(ranks: int) -> Run:
        costs = Costs(compute=lambda peer, samples: 1e-3 if peer <= ranks else 3.3e-3)
        algo, data = Algo("sgd", lr=LR, loss="mse"), Rows(x, y, 4)
        return train_here(VirtualWorld(1 + 2 * ranks, costs=costs), data, algo, Cumulative, num_processes=ranks)

    team, alone = run(2), run(1)
    assert team.delays == alone.delays
    assert team.state["norm.num_batches_tracked"] == alone.state["norm.num_batches_tracked"] < 16
    torch.testing.assert_close(
        team.state["norm.running_mean"], alone.state["norm.running_mean"], rtol=1e-14, atol=1e-14
    )


class Counting(nn.Module):
    """Counts its batches."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = linear()
        self.register_buffer("batches", torch.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.batches += 1
        result: Tensor = self.linear(x)
        return result


def test_the_lead_has_rows_of_every_batch() -> None:
    x, y = integers(5)
    run = trained(3, Batches(cut(x, y, [1, 1, 1, 2])), workers=1, make=Counting)
    assert run.state["batches"].item() == 4


def test_each_worker_is_measured_once() -> None:
    x, y = integers(24)
    run = trained(2, Batches(cut(x, y, [4] * 6)), worker_accuracy=True)
    assert {rank: found["samples"] for rank, found in run.history["workers"].items()} == {"1": 12, "3": 12}


def test_the_timeline_and_the_history_show_all_ranks(tmp_path: Path) -> None:
    x, y = labelled(40)
    manager = MPIManager(
        VirtualWorld(5), Rows(x, y, 10), Algo("sgd", lr=0.1), Built(lambda: nn.Linear(8, 4)), 1, ["all"], ["all"],
        num_processes=2, output=tmp_path, timeline=True,
    )  # fmt: skip
    history = manager.train()
    assert history is not None and history["ranks"] == 5 and history["epochs"][0]["val_loss"] > 0
    assert history["arguments"]["n_processes"] == 2
    spans = json.loads(next(tmp_path.glob("*timeline*")).read_text())["traceEvents"]
    assert {span["pid"] for span in spans if span["name"] == "team wait"} == {1, 2, 3, 4}
    assert {span["pid"] for span in spans if span["name"] == "compute"} == {1, 2, 3, 4}


def test_only_dropout_differs_between_the_ranks_of_a_team() -> None:
    def draws(seed: int, choices: int) -> Sequence[Any]:
        seed_everything(seed, choices)
        return np.random.rand(), torch.rand(()).item()

    (first, mask), (second, other) = draws(1, 7), draws(2, 7)
    assert first == second and mask != other


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_mixed_precision_in_a_team(amp: str) -> None:
    def narrow() -> nn.Module:
        return linear().float()

    x, y = (part.astype("float32") for part in integers(8))
    runs = [trained(p, Batches(cut(x, y, [4, 4])), workers=1, make=narrow, amp=amp) for p in (2, 1)]
    for name, value in runs[1].state.items():
        torch.testing.assert_close(runs[0].state[name], value, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("peer", [4, 5, 6])
@pytest.mark.parametrize("mode", ["downpour", "allreduce"])
def test_a_team_that_loses_a_rank_is_lost_and_the_others_do_its_work(mode: str, peer: int) -> None:
    """Of two teams of three, whether it is the lead of the second or another of its ranks."""
    world = VirtualWorld(7, costs=Costs(compute=1e-3, notice=1e-3), faults=[Fault(peer, 2, FaultKind.DIE)])
    algo = Algo("sgd", lr=0.1, mode=mode, loss="sparse_categorical_crossentropy")
    run = train_here(world, Rows(*labelled(96), 8), algo, lambda: nn.Linear(8, 4), epochs=2, num_processes=3)
    assert [one["rank"] for one in run.history["lost"]] == [4]
    assert run.history["outcome"] == "done" and run.last["samples"] == 2 * 96
