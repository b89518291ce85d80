"""Whole trainings by allreduce and local on the virtual clock against loops written here, exactly on dyadic data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nnlo import Algo
from nnlo.comm.base import Source
from nnlo.comm.costs import Costs
from nnlo.comm.virtual import VirtualWorld
from nnlo.comm.virtual_transport import VirtualTransport
from nnlo.errors import TrainingError
from nnlo.roles.reducing import Overlapped
from tests.golden.test_bad_updates import Steps
from tests.golden.test_synchronous import LR, check_dyadic, integers, linear, one_process
from tests.jobs import Batch, Batches, Rows, Run, cut, same_bits, train_here

WHOLE, PARTS = {"bucket_mib": 0}, {"bucket_mib": 1e-6}


def world(workers: int) -> VirtualWorld:
    """Workers of unlike speeds, on a network."""
    return VirtualWorld(workers + 1, costs=Costs(compute=lambda peer, samples: 1e-3 * samples * (1 + peer % 3)))


def allreduce(**options: Any) -> Algo:
    return Algo("sgd", mode="allreduce", loss="mse", lr=LR, fused=False, **options)


def local(**options: Any) -> Algo:
    return Algo(None, mode="local", loss="mse", worker_optimizer_params={"lr": LR}, **options)


SAME = {"whole": allreduce(**WHOLE), "parts": allreduce(**PARTS), "local": local()}


@pytest.mark.parametrize("name", SAME)
@pytest.mark.parametrize("last", [(), (4, 2, 1, 1), (4,)], ids=str)
def test_m_workers_are_one_process(last: tuple[int, ...], name: str) -> None:
    """Worker i of 4 takes batches i, 4 + i, ...; the last round is ragged, or of one worker alone."""
    workers, batch = 4, 8
    sizes = [batch] * (2 * workers) + list(last)
    x, y = integers(sum(sizes))
    reference = one_process(cut(x, y, [workers * batch] * 2 + ([sum(last)] if last else [])))
    check_dyadic(reference)
    run = train_here(world(workers), Batches(cut(x, y, sizes)), SAME[name], linear)
    assert same_bits(run.state, reference.state_dict())
    assert run.last["updates"] == 2 + bool(last)


@pytest.fixture
def reduced(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """The bytes of the vectors that are reduced, whose sums are complete when they are used."""
    sizes: set[int] = set()
    allreduce, average = VirtualTransport.allreduce, Overlapped.reduce

    def recorded(transport: VirtualTransport, memory: Tensor) -> Source:
        sizes.add(memory.nbytes)
        return allreduce(transport, memory)

    async def checked(reducing: Overlapped, *arguments: Any) -> Tensor:
        assert all(source.ready for source in reducing.under_way)
        return await average(reducing, *arguments)

    monkeypatch.setattr(VirtualTransport, "allreduce", recorded)
    monkeypatch.setattr(Overlapped, "reduce", checked)
    return sizes


@pytest.mark.parametrize(
    ("options", "sizes"),
    [
        ({}, {40}),
        ({"bucket_mib": 0}, {40}),
        ({"bucket_mib": 1e-6}, {8, 32}),
        ({"bucket_mib": 1e-6, "amp": "fp16"}, {40}),
    ],
    ids=str,
)
def test_what_is_reduced_at_a_time(options: dict[str, Any], sizes: set[int], reduced: set[int]) -> None:
    """2 x 4 weights and 2 biases in float32; fp16 may compute a gradient twice."""
    x, y = (array.astype("float32") for array in integers(32))
    train_here(
        VirtualWorld(3, costs=Costs(latency=1.0, local_latency=1.0)), Rows(x, y, 8), allreduce(**options), single
    )
    assert reduced == sizes


def single() -> nn.Module:
    return nn.Linear(4, 2)


def test_parts_are_the_same_bits_as_the_whole() -> None:
    def run(options: dict[str, Any]) -> Run:
        x, y = integers(100)
        return train_here(world(3), Rows(x, y, 8), allreduce(**options), deep, epochs=3)

    whole, parts = run(WHOLE), run(PARTS)
    assert same_bits(whole.state, parts.state)
    assert whole.losses == parts.losses


def deep() -> nn.Module:
    torch.manual_seed(7)
    return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 2)).double()


def steps(module: nn.Module, batches: Sequence[Batch], rate: float = LR) -> nn.Module:
    optimizer = torch.optim.SGD(module.parameters(), lr=rate, foreach=False)
    for x, y in batches:
        optimizer.zero_grad()
        nn.functional.mse_loss(module(torch.from_numpy(x)), torch.from_numpy(y)).backward()
        optimizer.step()
    return module


def local_sgd(rounds: Sequence[Sequence[Sequence[Batch]]]) -> dict[str, Tensor]:
    """Every worker takes its batches from the same weights; these become the mean of theirs by samples."""
    state = linear().state_dict()
    for batches in rounds:
        states = []
        for own in batches:
            module = linear()
            module.load_state_dict(state)
            states.append(steps(module, own).state_dict())
        samples = [sum(len(y) for _, y in own) for own in batches]
        pairs = list(zip(samples, states, strict=True))
        state = {name: torch.stack([n * one[name] for n, one in pairs]).sum(0) / sum(samples) for name in state}
    return state


def dealt(batches: Sequence[Batch], workers: int, taus: Sequence[int]) -> list[list[list[Batch]]]:
    """[round][worker]: batches i, M + i, ... are worker i's; it takes `taus[r]` of them in round r."""
    shares = [list(batches[i::workers]) for i in range(workers)]
    starts = np.cumsum([0, *taus])
    return [[share[start : start + tau] for share in shares] for start, tau in zip(starts[:-1], taus, strict=True)]


def test_local_sgd_with_a_ragged_end() -> None:
    """tau = 2; in the last round one of the workers has one batch, and the other none."""
    sizes = [4, 4, 8, 8, 2, 2, 4, 4, 8]
    x, y = integers(sum(sizes))
    batches = cut(x, y, sizes)
    run = train_here(world(2), Batches(batches), local(sync_every=2), linear)
    assert same_bits(run.state, local_sgd(dealt(batches, 2, [2, 2, 1])))
    assert run.last["updates"] == 3


def test_post_local_sgd_exchanges_less_from_an_epoch_on() -> None:
    batches = cut(*integers(16), [4, 4, 4, 4])
    algo = local(sync_every=2, post_local_from=1, outer_lr=0.5)
    run = train_here(world(2), Batches(batches), algo, linear, epochs=2)
    assert [entry["updates"] for entry in run.history["epochs"]] == [2, 1]
    before = local_sgd(dealt(batches, 2, [1, 1]))
    after = local_sgd([*dealt(batches, 2, [1, 1]), *dealt(batches, 2, [2])])
    half_way = {name: before[name] + 0.5 * (after[name] - before[name]) for name in before}
    assert same_bits(run.state, half_way)


def halved(epoch: float) -> float:
    return 1.0 if epoch < 1 else 0.5


def test_the_schedule_is_that_of_the_inner_steps() -> None:
    """The rate is halved after the first epoch, and the history says so."""
    batches = cut(*integers(16), [8, 8])
    run = train_here(world(2), Batches(batches), local(), linear, epochs=2, schedule=halved)
    module = steps(linear(), cut(*integers(16), [16]))
    assert same_bits(run.state, steps(module, cut(*integers(16), [16]), LR / 2).state_dict())
    assert [entry["lr"] for entry in run.history["epochs"]] == [LR, LR / 2]


MORE = {
    "slowmo": local(sync_every=2, outer_momentum=0.5),
    "momentum": Algo(None, mode="local", loss="mse", worker_optimizer="momentum", worker_optimizer_params={"lr": LR}),
}


@pytest.mark.parametrize("name", [*SAME, *MORE])
def test_a_batch_that_gives_no_finite_gradient_is_left_out(name: str) -> None:
    """Its worker's update is refused alone, and training goes on."""
    algo = {**SAME, **MORE}[name]
    x, y = integers(32)
    spoilt = x.copy()
    spoilt[9] = np.nan
    run = train_here(world(2), Batches(cut(spoilt, y, [4] * 8)), algo, linear)
    assert all(torch.isfinite(value).all() for value in run.state.values())
    assert run.last["refused"] == 1
    assert run.last["refused_samples"] == 4 * algo.algorithm.sync_every
    assert run.last["samples"] == 32


def too_long(name: str, **options: Any) -> Run:
    """Four gradients of the first of two rounds are finite, and their sum is not."""
    x, y = integers(32)
    x[:16:4] = 0.0
    x[:16:4, 0] = 1.2e154
    return train_here(world(4), Batches(cut(x, y, [4] * 8)), SAME[name], linear, **options)


@pytest.mark.parametrize("name", ["whole", "parts"])
def test_a_sum_that_is_not_finite_is_dropped(name: str) -> None:
    run, (x, y) = too_long(name), integers(32)
    assert same_bits(run.state, one_process([(x[16:], y[16:])]).state_dict())
    assert (run.last["refused"], run.last["refused_samples"], run.last["updates"]) == (4, 16, 1)


@pytest.mark.parametrize("name", ["whole", "parts"])
def test_such_a_sum_counts_as_bad_on_every_rank(name: str) -> None:
    steps = Steps()
    with pytest.raises(TrainingError, match="1 updates in a row"):
        too_long(name, max_bad_updates=1, callbacks=[steps])
    assert steps.count == 0


@pytest.mark.parametrize("name", ["whole", "parts"])
def test_such_a_sum_counts_once(name: str) -> None:
    assert too_long(name, max_bad_updates=2).last["updates"] == 1


class Poison(torch.autograd.Function):
    """The same number; its gradient is nan where it is told to be."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bad: bool) -> Tensor:
        ctx.bad = bad
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return gradient * (torch.nan if ctx.bad else 1.0), None


class LateNan(nn.Module):
    """Of samples that begin with `MARK` the first layer's gradient is nan, and the second's is as it should be."""

    MARK = 2.0**20

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.first, self.second = nn.Linear(4, 4, dtype=torch.float64), nn.Linear(4, 2, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        bad = bool((x[:, 0] == self.MARK).any())
        return self.second(Poison.apply(self.first(x), bad))  # type: ignore[no-any-return,no-untyped-call]


@pytest.mark.parametrize(("name", "lost"), [("whole", 1), ("parts", 4)])
def test_a_nan_that_comes_late_in_the_backward_pass_counts_once(name: str, lost: int) -> None:
    """In the second of three rounds, in one of four workers. Parts that are under way already cost all the round."""
    x, y = integers(48)
    x[4 * 5, 0] = LateNan.MARK
    batches = Batches(cut(x, y, [4] * 12))
    run = train_here(world(4), batches, SAME[name], LateNan, max_bad_updates=2)
    assert (run.last["refused"], run.last["refused_samples"]) == (lost, 4 * lost)
    assert run.last["updates"] == (3 if lost == 1 else 2)
    assert run.last["ranks"]["2"]["updates"] == 2
    assert all(bool(torch.isfinite(value).all()) for value in run.state.values())
    with pytest.raises(TrainingError, match="1 updates in a row were inf or nan, the last from rank 2"):
        train_here(world(4), batches, SAME[name], LateNan, max_bad_updates=1)


class Replacing(nn.Module):
    """A running mean that is a new tensor at every batch."""

    def __init__(self, replaces: bool) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.linear, self.replaces = nn.Linear(4, 2, dtype=torch.float64), replaces
        self.mean: Tensor
        self.register_buffer("mean", torch.zeros(4, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            mean = 0.5 * self.mean + 0.5 * x.mean(0)
            if self.replaces:
                self.mean = mean
            else:
                self.mean.copy_(mean)
        return self.linear(x - self.mean)  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", ["whole", "parts"])
def test_buffers_that_a_module_replaces_are_averaged_as_others_are(name: str) -> None:
    x, y = integers(64)
    replaced, changed = (
        train_here(world(2), Batches(cut(x, y, [4] * 16)), SAME[name], lambda how=how: Replacing(how), epochs=2)
        for how in (True, False)
    )
    assert same_bits(replaced.state, changed.state) and bool(changed.state["mean"].abs().max() > 0)
