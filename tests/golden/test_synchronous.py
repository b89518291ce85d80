"""Synchronous training of M workers with batches of b is one process with batches of M b: exactly, on dyadic data.

Features are small integers and weights multiples of a power of two, so that every product and sum is exact in
float64 and no order of summation can show.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import nn

from nnlo import Algo
from nnlo.comm.costs import Costs
from nnlo.comm.virtual import VirtualWorld
from tests.jobs import Batch, Batches, Rows, cut, labelled, same_bits, train_here

LR = 2.0**-5
INPUTS, OUTPUTS = 4, 2


def integers(samples: int) -> Batch:
    rng = np.random.default_rng(3)
    return rng.integers(-3, 4, (samples, INPUTS)).astype("float64"), rng.integers(-2, 3, (samples, OUTPUTS)) * 1.0


def linear() -> nn.Module:
    module = nn.Linear(INPUTS, OUTPUTS, dtype=torch.float64)
    with torch.no_grad():
        for k, parameter in enumerate(module.parameters()):
            parameter.copy_(torch.arange(parameter.numel()).view(parameter.shape).sub(3 + k) / 8)
    return module


def one_process(data: Sequence[Batch]) -> nn.Module:
    module = linear()
    optimizer = torch.optim.SGD(module.parameters(), lr=LR, foreach=False)
    for x, y in data:
        optimizer.zero_grad()
        nn.functional.mse_loss(module(torch.from_numpy(x)), torch.from_numpy(y)).backward()
        optimizer.step()
    return module


def check_dyadic(module: nn.Module) -> None:
    """The weights are far from the end of their mantissas, so nothing was rounded on the way."""
    for value in module.parameters():
        assert torch.equal(value * 2.0**44, (value * 2.0**44).round())


def synchronous(workers: int, sizes: Sequence[int], x: np.ndarray, y: np.ndarray, unlike: bool = False) -> nn.Module:
    """Worker i of M trains the batches i, M + i, ..., at like or unlike speeds."""
    costs = Costs(compute=lambda peer, samples: 1e-3 * samples * (1 + peer % 3)) if unlike else Costs()
    algo = Algo("sgd", lr=LR, loss="mse", synchronous=True, fused=False)
    run = train_here(VirtualWorld(workers + 1, costs=costs), Batches(cut(x, y, sizes)), algo, linear)
    assert set(run.delays) == {0}
    return run.model


@pytest.mark.parametrize("unlike", [False, True])
@pytest.mark.parametrize("workers", [2, 4])
def test_m_workers_are_one_process(workers: int, unlike: bool) -> None:
    steps, batch = 3, 8
    x, y = integers(steps * workers * batch)
    reference = one_process(cut(x, y, [workers * batch] * steps))
    check_dyadic(reference)
    model = synchronous(workers, [batch] * (steps * workers), x, y, unlike)
    assert same_bits(model.state_dict(), reference.state_dict())


@pytest.mark.parametrize("last", [(4, 2, 1, 1), (2, 1, 1), (8, 8), (4,)])
def test_ragged_last_batches_count_by_their_samples(last: tuple[int, ...]) -> None:
    workers, batch = 4, 8
    sizes = [batch] * (2 * workers) + list(last)
    x, y = integers(sum(sizes))
    reference = one_process(cut(x, y, [workers * batch] * 2 + [sum(last)]))
    check_dyadic(reference)
    model = synchronous(workers, sizes, x, y)
    assert same_bits(model.state_dict(), reference.state_dict())


def test_batches_of_unlike_sizes_in_every_step() -> None:
    sizes = [8, 4, 4] * 3
    x, y = integers(sum(sizes))
    model = synchronous(3, sizes, x, y)
    assert same_bits(model.state_dict(), one_process(cut(x, y, [16] * 3)).state_dict())


def test_any_data_to_rounding() -> None:
    """As above on real numbers, with Adam and a ragged end, within float64's last digits."""
    sizes = [6] * 12 + [5, 3]
    x, y = labelled(sum(sizes))
    x = x.astype("float64")

    def network() -> nn.Module:
        torch.manual_seed(1)
        return nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 4)).double()

    algo = Algo("adam", lr=0.01, synchronous=True, fused=False)
    run = train_here(VirtualWorld(5), Batches(cut(x, y, sizes)), algo, network)
    module = network()
    optimizer = torch.optim.Adam(module.parameters(), lr=0.01, foreach=False)
    for bx, by in cut(x, y, [24] * 3 + [8]):
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(torch.from_numpy(bx)), torch.from_numpy(by)).backward()
        optimizer.step()
    for name, value in module.state_dict().items():
        torch.testing.assert_close(run.state[name], value, rtol=1e-10, atol=1e-12)


def test_several_batches_an_update_weigh_by_their_samples() -> None:
    """tau = 2: a step is the mean gradient of two batches from each of two workers, taken at one point."""
    sizes = [8, 8, 4, 4] * 2
    x, y = integers(sum(sizes))
    algo = Algo("sgd", lr=LR, loss="mse", synchronous=True, sync_every=2, fused=False)
    run = train_here(VirtualWorld(3), Batches(cut(x, y, sizes)), algo, linear)
    starts = np.cumsum([0, *sizes])
    steps = [[0, 2, 1, 3], [4, 6, 5, 7]]  # batches 0, 2, ... are worker 1's; each brings two
    order = [np.concatenate([np.arange(starts[k], starts[k + 1]) for k in step]) for step in steps]
    reference = one_process([(x[rows], y[rows]) for rows in order])
    assert run.history["epochs"][0]["updates"] == 2
    assert not same_bits(reference.state_dict(), linear().state_dict())
    for name, value in reference.state_dict().items():
        torch.testing.assert_close(run.state[name], value, rtol=1e-14, atol=1e-15)


def test_files_dealt_to_workers_reach_every_step() -> None:
    x, y = integers(8 * 16)
    algo = Algo("sgd", lr=LR, loss="mse", synchronous=True)
    run = train_here(VirtualWorld(5), Rows(x, y, 4), algo, linear, epochs=2)
    assert [entry["updates"] for entry in run.history["epochs"]] == [8, 8]
    assert [entry["samples"] for entry in run.history["epochs"]] == [128, 256]
