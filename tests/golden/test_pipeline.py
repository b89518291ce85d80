"""Pipelined workers: each update is computed while the one before is under way, at weights one step older."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nnlo import Algo
from nnlo.comm.costs import Costs
from nnlo.comm.virtual import VirtualWorld
from nnlo.errors import OptionsError
from tests.golden.test_synchronous import LR, check_dyadic, integers, linear
from tests.jobs import Batches, Rows, Run, cut, labelled, same_bits, train_here

STEPS, ROWS = 6, 4
FREE = Costs(compute=0.25, latency=0.0, bandwidth=float("inf"), local_latency=0.0, local_bandwidth=float("inf"))


def gradient(module: nn.Module, w: Tensor, x: Any, y: Any) -> Tensor:
    nn.utils.vector_to_parameters(w, module.parameters())
    loss = nn.functional.mse_loss(module(torch.from_numpy(x)), torch.from_numpy(y))
    return nn.utils.parameters_to_vector(torch.autograd.grad(loss, list(module.parameters())))


def weights(module: nn.Module) -> Tensor:
    return nn.utils.parameters_to_vector(module.parameters()).detach().clone()


def piped(workers: int, data: Batches | Rows, costs: Costs = FREE, **options: Any) -> Run:
    algo = Algo("sgd", lr=LR, loss="mse", metrics=(), fused=False, pipeline=True, **options)
    return train_here(VirtualWorld(workers + 1, costs=costs), data, algo, linear)


def test_one_worker_is_a_step_late() -> None:
    """w_{t+1} = w_t - lr g(w_{t-1}; batch t), where w_{-1} is w_0: exact on integers."""
    x, y = integers(STEPS * ROWS)
    data = cut(x, y, [ROWS] * STEPS)
    run = piped(1, Batches(data))
    module = linear()
    w = before = weights(module)
    for bx, by in data:
        w, before = w - LR * gradient(module, before, bx, by), w
    check_dyadic(run.model)
    assert torch.equal(weights(run.model), w)
    assert run.delays == [0, *[1] * (STEPS - 1)]


def test_updates_of_several_batches_are_too() -> None:
    """Two batches an update and local steps, which go on until an answer comes: that of the update before."""
    x, y = integers(STEPS * ROWS)
    data = cut(x, y, [ROWS] * STEPS)
    run = piped(1, Batches(data), sync_every=2, local_lr=LR)
    module = linear()
    w = at = weights(module)
    for turn in range(0, STEPS, 2):
        gradients = []
        for batch in data[turn : turn + 2]:
            gradients.append(gradient(module, at, *batch))
            at = at - LR * gradients[-1]
        at = w if turn else at
        w = w - LR * (gradients[0] + gradients[1]) / 2
    assert torch.equal(weights(run.model), w)


def test_together_all_are_a_step_late() -> None:
    """Synchronous: the mean of all workers' gradients at w_{t-1} is applied to w_t."""
    workers = 2
    x, y = integers(STEPS * ROWS)
    data = cut(x, y, [ROWS] * STEPS)
    run = piped(workers, Batches(data), synchronous=True)
    module = linear()
    w = before = weights(module)
    for turn in range(0, STEPS, workers):
        g = sum(gradient(module, before, *batch) for batch in data[turn : turn + workers]) / workers
        w, before = w - LR * g, w
    assert torch.equal(weights(run.model), w)
    assert set(run.delays) == {0, 1}


def test_an_exchange_costs_no_time() -> None:
    """A batch takes 1 s, a message a quarter of a second each way: all exchanges but one are hidden."""
    costs = Costs(compute=0.25, latency=0.25, bandwidth=float("inf"), local_latency=0.25)
    x, y = integers(STEPS * ROWS)
    data = Batches(cut(x, y, [ROWS] * STEPS))
    seconds = piped(1, data, costs).history["seconds"]
    waiting = train_here(VirtualWorld(2, costs=costs), data, Algo("sgd", lr=LR, loss="mse", metrics=()), linear)
    assert waiting.history["seconds"] - seconds == 0.5 * (STEPS - 1)


def batch_norm() -> nn.Module:
    torch.manual_seed(2)
    return nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 4))


def test_statistics_go_on_from_the_answer() -> None:
    """The centre has those that its one worker sent last, which hears of them a step later."""
    data = cut(*labelled(STEPS * ROWS), [ROWS] * STEPS)
    run = train_here(VirtualWorld(2, costs=FREE), Batches(data), Algo("sgd", lr=0.0, pipeline=True), batch_norm)
    module = batch_norm()
    sent = [torch.zeros(6)]
    for x, _ in data:
        start = sent[-1] if len(sent) < 3 else sent[-2]
        sent.append(0.9 * start + 0.1 * module[0](torch.from_numpy(x)).mean(0).detach())
    torch.testing.assert_close(run.state["1.running_mean"], sent[-1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {"max_staleness": 0},
        {"max_staleness": 1},
        {"compress": "topk:ratio=0.5"},
        {"compress_down": "fp16", "compress": "fp16"},
        {"staleness": "inverse"},
    ],
    ids=str,
)
def test_it_goes_with_what_is_about_late_and_compressed_updates(options: dict[str, Any]) -> None:
    algo = Algo("sgd", lr=0.1, pipeline=True, **options)
    run = train_here(VirtualWorld(4), Rows(*labelled(480), 4), algo, batch_norm, epochs=3)
    assert run.last["samples"] == 3 * 480
    assert run.losses[-1] < run.losses[0]


def test_several_masters_and_the_same_again() -> None:
    def run() -> Run:
        algo = Algo("sgd", lr=0.1, pipeline=True)
        world = VirtualWorld(7, costs=Costs(jitter=0.3))
        return train_here(world, Rows(*labelled(480), 4), algo, batch_norm, epochs=2, num_masters=2)

    first, second = run(), run()
    assert same_bits(first.state, second.state)
    assert first.last["samples"] == 960
    assert np.mean(first.delays) > 3


@pytest.mark.parametrize(
    ("options", "flag"),
    [({"delay_compensation": 0.5}, "--delay-compensation"),
     ({"synchronous": True, "backup_workers": 1}, "--backup-workers")],
)  # fmt: skip
def test_what_it_does_not_go_with(options: dict[str, Any], flag: str) -> None:
    with pytest.raises(OptionsError, match=f"--pipeline does not go with {flag}: drop one"):
        Algo("sgd", lr=0.1, pipeline=True, **options)
