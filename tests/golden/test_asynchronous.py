"""Asynchronous training: the delays of updates, and the equations along a known order of events."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from nnlo import Algo
from nnlo.comm.costs import Costs
from nnlo.comm.virtual import VirtualWorld
from tests.jobs import Batches, Rows, cut, labelled, train_here


def network() -> nn.Module:
    torch.manual_seed(4)
    return nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 4)).double()


@pytest.mark.parametrize("workers", [1, 2, 3, 7])
def test_workers_in_turn_see_delays_that_grow_to_m_minus_1(workers: int) -> None:
    rounds = 10
    data = Batches(cut(*labelled(workers * rounds * 4), [4] * (workers * rounds)))
    run = train_here(VirtualWorld(workers + 1), data, Algo("sgd", lr=0.1), network)
    late = workers * (rounds - 1) + 1
    assert run.delays == [*range(workers - 1), *[workers - 1] * late]
    staleness = run.last["staleness"]
    assert staleness["histogram"] == [1] * (workers - 1) + [late]
    assert staleness["max"] == workers - 1
    assert staleness["mean"] == sum(run.delays) / len(run.delays)


def test_delays_go_on_through_the_ends_of_epochs() -> None:
    workers, epochs, samples = 3, 3, 360
    data = Rows(*labelled(samples), 4)
    run = train_here(VirtualWorld(workers + 1), data, Algo("sgd", lr=0.1), network, epochs=epochs)
    updates = samples * epochs // 4
    assert len(run.delays) == updates
    assert run.delays[: updates - 12] == [0, 1, *[2] * (updates - 14)]


def test_a_slow_worker_is_late_by_what_the_others_did_meanwhile() -> None:
    """Worker 2 takes 9.5 times as long as worker 1: its gradients are nine or ten steps old."""
    costs = Costs(compute=lambda peer, samples: (1e-3, 9.5e-3)[peer - 1], latency=0.0, bandwidth=float("inf"))
    data = Rows(*labelled(400), 4)
    run = train_here(VirtualWorld(3, costs=costs), data, Algo("sgd", lr=0.1), network, shuffle_buffer=400)
    assert set(run.delays[:80]) == {0, 1, 9, 10}
    assert sum(entry["samples"] for entry in run.last["ranks"].values()) == 400


def test_two_workers_in_turn_follow_the_equations() -> None:
    """w_{t+1} = w_t - lr g(w_{t-1}; batch t): two equal workers read every second version."""
    steps, lr = 12, 0.3
    x, y = labelled(steps * 4)
    data = cut(x.astype("float64"), y, [4] * steps)
    run = train_here(VirtualWorld(3), Batches(data), Algo("sgd", lr=lr, fused=False), network)
    module = network()
    w = nn.utils.parameters_to_vector(module.parameters()).detach()
    read = [w, w]
    for t, (bx, by) in enumerate(data):
        nn.utils.vector_to_parameters(read[t % 2], module.parameters())
        loss = nn.functional.cross_entropy(module(torch.from_numpy(bx)), torch.from_numpy(by))
        g = nn.utils.parameters_to_vector(torch.autograd.grad(loss, list(module.parameters())))
        w = w - lr * g
        read[t % 2] = w
    torch.testing.assert_close(
        nn.utils.parameters_to_vector(run.model.parameters()).detach(), w, rtol=1e-12, atol=1e-14
    )


class OneHot(nn.Module):
    """Output n is w[n] for sample n, so that the gradient of the mean tells who was in the batch."""

    def __init__(self, samples: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(samples, dtype=torch.float64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.w[x[:, 0].long()].unsqueeze(1)


def test_each_sample_counts_once_an_epoch() -> None:
    """Half the mean of |w_n + 1000| with SGD of rate b takes 1 off w_n whenever sample n is trained on."""
    samples, batch, epochs = 96, 8, 3
    x = np.arange(samples, dtype="float64")[:, None]
    algo = Algo("sgd", lr=batch, loss="mae", metrics=())
    data = Rows(x, np.full((samples, 1), -1000.0), batch)
    run = train_here(VirtualWorld(6, costs=Costs(jitter=0.5)), data, algo, lambda: OneHot(samples), epochs=epochs)
    assert torch.equal(run.state["w"], torch.full((samples,), -float(epochs), dtype=torch.float64))
