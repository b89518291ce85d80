"""Hogwild: workers step on the weights that they all have. On the virtual clock a step is whole, and all are one after
another: so many workers are then one process with the same batches, exactly on dyadic data.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from nnlo import Algo
from nnlo.comm.costs import Costs, Host
from nnlo.comm.virtual import VirtualWorld
from nnlo.errors import OptionsError
from nnlo.flat import HEADER_BYTES
from tests.golden.test_synchronous import LR, check_dyadic, integers, linear, one_process
from tests.jobs import Batches, Rows, Run, cut, labelled, same_bits, train_here

STEPS, ROWS = 4, 4


def together(ranks: int) -> VirtualWorld:
    return VirtualWorld(ranks, hosts=[Host(tuple(range(ranks)), cores=ranks)], costs=Costs(jitter=0.1))


def wild(workers: int, data: Batches | Rows, make: Any = linear, **options: Any) -> Run:
    settings = {"lr": LR, "loss": "mse", "metrics": (), "fused": False, **options}
    return train_here(together(workers + 1), data, Algo("sgd", hogwild=True, **settings), make)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_workers_step_on_the_same_weights(workers: int) -> None:
    data = cut(*integers(STEPS * ROWS), [ROWS] * STEPS)
    if workers > 1:  # who is first depends on the jitter, and does not matter for the same batch
        data = [data[0]] * STEPS
    run, alone = wild(workers, Batches(data)), one_process(data)
    check_dyadic(alone)
    assert same_bits(run.state, alone.state_dict())
    assert run.last["updates"] == STEPS


def test_each_worker_has_a_momentum_of_its_own() -> None:
    """Two workers in turn at the same batch: v_i <- mu v_i + g(w), w <- w - lr v_i."""
    data = cut(*integers(ROWS), [ROWS]) * STEPS
    run = wild(2, Batches(data), momentum=0.5)
    module, velocities = linear(), [torch.zeros(10, dtype=torch.float64) for _ in range(2)]
    for turn, (x, y) in enumerate(data):
        module.zero_grad()
        nn.functional.mse_loss(module(torch.from_numpy(x)), torch.from_numpy(y)).backward()
        g = nn.utils.parameters_to_vector([p.grad for p in module.parameters() if p.grad is not None])
        v = velocities[turn % 2].mul_(0.5).add_(g)
        w = nn.utils.parameters_to_vector(module.parameters()).detach() - LR * v
        nn.utils.vector_to_parameters(w, module.parameters())
    assert same_bits(run.state, module.state_dict())


def test_nothing_but_headers_and_sums_travels() -> None:
    data = Rows(*labelled(400), 4)
    run = train_here(together(3), data, Algo("sgd", lr=0.1, hogwild=True), lambda: nn.Linear(8, 4))
    most = 100 + 2 + 2  # the updates, and what two workers say first and last
    assert run.last["bytes_up"] <= most * (HEADER_BYTES + 64) and run.last["bytes_down"] <= most * HEADER_BYTES


def test_a_gradient_that_is_not_finite_is_left_out() -> None:
    x, y = integers(STEPS * ROWS)
    data = cut(x, y, [ROWS] * STEPS)
    broken = [*data[:5], (np.full_like(x[:ROWS], np.inf), y[:ROWS]), *data[5:]]
    run, alone = wild(1, Batches(broken)), one_process(data)
    assert same_bits(run.state, alone.state_dict())
    assert run.last["refused"] == 1


def test_statistics_go_to_the_centre() -> None:
    def batch_norm() -> nn.Module:
        torch.manual_seed(2)
        return nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1d(6), nn.Linear(6, 4))

    data = cut(*labelled(STEPS * ROWS), [ROWS] * STEPS)
    run = train_here(together(2), Batches(data), Algo("sgd", lr=0.0, hogwild=True), batch_norm)
    module = batch_norm()
    for x, _ in data:
        module(torch.from_numpy(x))
    torch.testing.assert_close(run.state["1.running_mean"], module[1].running_mean)


@pytest.mark.parametrize(
    ("options", "flag"),
    [({"synchronous": True}, "--synchronous"), ({"pipeline": True}, "--pipeline"), ({"compress": "fp16"}, "--compress"),
     ({"compress_down": "fp16"}, "--compress-down"), ({"max_staleness": 2}, "--max-staleness"),
     ({"sync_every": 2, "local_lr": 0.1}, "--local-lr")],
)  # fmt: skip
def test_what_it_does_not_go_with(options: dict[str, Any], flag: str) -> None:
    with pytest.raises(OptionsError, match=f"--hogwild does not go with {flag}: drop one"):
        Algo("sgd", lr=0.1, hogwild=True, **options)


def test_it_takes_one_host_and_one_master() -> None:
    algo, data = Algo("sgd", lr=0.1, loss="mse", hogwild=True), Rows(*integers(40), 4)
    with pytest.raises(OptionsError, match="--hogwild needs all ranks on one host, in shared memory"):
        train_here(VirtualWorld(3), data, algo, linear)
    with pytest.raises(OptionsError, match="--hogwild knows one master: drop --n-masters, or --hogwild"):
        train_here(together(5), data, algo, linear, num_masters=2)


def test_nobody_waits_for_an_answer() -> None:
    """A batch takes 1 s, a message a quarter: so long are the question for weights and its answer, four batches, the
    first exchange, which is waited for since its answer brings more batches, and the last update."""
    costs = Costs(compute=0.25, local_latency=0.25, local_bandwidth=float("inf"))
    world = VirtualWorld(2, hosts=[Host((0, 1), cores=2)], costs=costs)
    algo = Algo("sgd", lr=LR, loss="mse", metrics=(), hogwild=True)
    run = train_here(world, Batches(cut(*integers(STEPS * ROWS), [ROWS] * STEPS)), algo, linear)
    assert run.history["epochs"][-1]["seconds"] == 0.5 + STEPS + 0.5 + 0.25
