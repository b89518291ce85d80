"""Schedules, clipping, weight decay and parameter groups in a training: a plain torch loop's bits, or its equations."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from nnlo import Algo, MPIManager
from nnlo.comm.virtual import VirtualWorld
from nnlo.errors import OptionsError
from nnlo.optim import Schedule
from tests.jobs import Batches, Built, Rows, cut, labelled, same_bits, train_here

SIZES = (16,) * 3 + (8,)
SAMPLES, EPOCHS = sum(SIZES), 4
Rate = Callable[[float], float]


def perceptron() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 4))


def plain_loop(module: nn.Module, optimizer: torch.optim.Optimizer, rate: Rate, clip: Any = None) -> list[float]:
    """Textbook training with a rate that depends on the epochs done before each step; the rate of each epoch's last."""
    base = [group["lr"] for group in optimizer.param_groups]
    done, last = 0, []
    for _ in range(EPOCHS):
        for x, y in cut(*labelled(SAMPLES), SIZES):
            optimizer.zero_grad()
            nn.functional.cross_entropy(module(torch.from_numpy(x)), torch.from_numpy(y)).backward()
            if clip:
                clip(module.parameters())
            for group, own in zip(optimizer.param_groups, base, strict=True):
                group["lr"] = own * rate(done / SAMPLES)
            optimizer.step()
            done += len(y)
        last.append(optimizer.param_groups[0]["lr"])
    return last


def trained(algo: Algo, make: Callable[[], nn.Module] = perceptron, **options: Any) -> Any:
    data = Batches(cut(*labelled(SAMPLES), SIZES))
    return train_here(VirtualWorld(2), data, algo, make, epochs=EPOCHS, **options)


@pytest.mark.parametrize(
    ("schedule", "rate"),
    [
        ("constant", lambda epoch: 1.0),
        (lambda epoch: 1 / (1 + epoch), lambda epoch: 1 / (1 + epoch)),
        ("cosine", lambda epoch: 0.5 * (1 + math.cos(math.pi * epoch / EPOCHS))),
        ("exponential", lambda epoch: 0.9**epoch),
        (Schedule.of("step", {"every": 1.5, "by": 0.5}), lambda epoch: 0.5 ** (epoch // 1.5)),
    ],
)
@pytest.mark.parametrize("synchronous", [False, True])
def test_a_schedule_goes_by_the_masters_clock(schedule: Any, rate: Rate, synchronous: bool) -> None:
    run = trained(Algo("momentum", lr=0.05, fused=False, synchronous=synchronous), schedule=schedule)
    module = perceptron()
    rates = plain_loop(module, torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9, foreach=False), rate)
    assert same_bits(run.state, module.state_dict())
    assert [entry["lr"] for entry in run.history["epochs"]] == rates


def test_the_workers_own_steps_follow_the_schedule() -> None:
    """Two batches behind an update, the second of them at weights that the worker's own step has moved."""
    algo = Algo("sgd", lr=0.05, local_lr=0.1, sync_every=2, fused=False)
    run = trained(algo, schedule=lambda epoch: 1 / (1 + epoch))
    w, done = torch.nn.utils.parameters_to_vector(perceptron().parameters()).detach(), 0
    batches = cut(*labelled(SAMPLES), SIZES) * EPOCHS
    for pair in zip(batches[::2], batches[1::2], strict=True):
        factor, x, sums, samples = 1 / (1 + done / SAMPLES), w, torch.zeros_like(w), 0
        for features, labels in pair:
            module = perceptron()
            torch.nn.utils.vector_to_parameters(x, module.parameters())
            loss = nn.functional.cross_entropy(module(torch.from_numpy(features)), torch.from_numpy(labels))
            g = torch.cat([part.flatten() for part in torch.autograd.grad(loss, list(module.parameters()))])
            sums, samples, x = sums + len(labels) * g, samples + len(labels), x - 0.1 * factor * g
        w, done = w - 0.05 * factor * sums / samples, done + samples
    found = torch.cat([value.flatten() for value in run.state.values()])
    torch.testing.assert_close(found, w, rtol=0, atol=1e-6)


def test_the_rate_falls_at_the_same_sample_whatever_the_workers() -> None:
    """Synchronous steps of M batches: the rate of an epoch's last step is that of the samples before it."""
    x, y = labelled(96)
    for workers, before in ((1, 88), (2, 80), (3, 72)):
        algo = Algo("sgd", lr=0.5, synchronous=True)
        run = train_here(
            VirtualWorld(1 + workers), Rows(x, y, 8), algo, perceptron, epochs=2, schedule=lambda epoch: 1 - epoch / 4
        )
        rates = [entry["lr"] for entry in run.history["epochs"]]
        assert rates == [0.5 * (1 - (before + epoch * 96) / 96 / 4) for epoch in range(2)]


def test_gradients_are_clipped_as_torch_does_it() -> None:
    run = trained(Algo("sgd", lr=0.5, clip_norm=0.125, fused=False))
    module = perceptron()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.5, foreach=False)
    plain_loop(module, optimizer, lambda epoch: 1.0, lambda all: nn.utils.clip_grad_norm_(all, 0.125))
    for name, value in module.state_dict().items():
        torch.testing.assert_close(run.state[name], value, rtol=1e-5, atol=1e-6)
    run = trained(Algo("sgd", lr=0.5, clip_value=1 / 64, fused=False))
    module = perceptron()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.5, foreach=False)
    plain_loop(module, optimizer, lambda epoch: 1.0, lambda all: nn.utils.clip_grad_value_(all, 1 / 64))
    assert same_bits(run.state, module.state_dict())


def test_a_synchronous_step_clips_the_mean_and_not_its_parts() -> None:
    """Two workers' gradients of opposite signs cancel in the mean, which no limit touches."""
    x, y = torch.tensor([[1.0], [1.0]]).numpy(), torch.tensor([[4.0], [-4.0]]).numpy()

    def zero() -> nn.Module:
        linear = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(linear.weight)
        return linear

    algo = Algo("sgd", lr=1.0, loss="mse", synchronous=True, clip_value=0.5)
    run = train_here(VirtualWorld(3), Rows(x, y, 1), algo, zero, epochs=1)
    assert run.state["weight"].item() == 0.0


def two_groups(model: nn.Module) -> list[dict[str, Any]]:
    biases = [parameter for name, parameter in model.named_parameters() if name.endswith("bias")]
    return [{"params": biases, "weight_decay": 0.0, "lr": 0.02}]


class Grouped(Built):
    def param_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        return two_groups(model)


def test_parameter_groups_are_the_optimizers_under_a_schedule() -> None:
    data, algo = Batches(cut(*labelled(SAMPLES), SIZES)), Algo("adamw", lr=0.01, weight_decay=0.25, fused=False)
    manager = MPIManager(
        VirtualWorld(2), data, algo, Grouped(perceptron), EPOCHS, [], None, schedule=lambda e: 0.5**e, output=None
    )
    manager.train()
    module = perceptron()
    (biases,) = two_groups(module)
    weights = [parameter for name, parameter in module.named_parameters() if name.endswith("weight")]
    optimizer = torch.optim.AdamW([{"params": weights}, biases], lr=0.01, weight_decay=0.25, foreach=False)
    plain_loop(module, optimizer, lambda epoch: 0.5**epoch)
    assert manager.model is not None
    assert same_bits(manager.model.state_dict(), module.state_dict())


class Wrong(Built):
    def param_groups(self, model: nn.Module) -> Any:
        return [{"params": model.parameters(), "momentun": 0.9}]


class Raising(Built):
    def param_groups(self, model: nn.Module) -> Any:
        raise KeyError("no such layer")


@pytest.mark.parametrize(
    ("builder", "said"),
    [(Wrong, "'sgd' has no setting 'momentun'"), (Raising, r"param_groups\(\): KeyError: 'no such layer'")],
)
def test_groups_that_cannot_be_are_refused_before_training(builder: type[Built], said: str) -> None:
    manager = MPIManager(VirtualWorld(3), Rows(*labelled(8), 2), Algo("sgd"), builder(perceptron), 1, ["all"], None)
    with pytest.raises(OptionsError, match=said):
        manager.train()


def test_what_cannot_work_is_refused_at_once() -> None:
    def made(**options: Any) -> MPIManager:
        return MPIManager(None, Rows(*labelled(8), 2), Algo("sgd"), Built(perceptron), 4, ["all"], None, **options)

    with pytest.raises(OptionsError, match="unknown schedule 'cosin'"):
        made(schedule="cosin")
    with pytest.raises(OptionsError, match=r"in epoch 2.* multiplied by -"):
        made(schedule=lambda epoch: 1.0 if epoch < 2 else -1e-3)
    with pytest.raises(OptionsError, match="--clip-norm"):
        Algo("sgd", clip_norm=-1)
    with pytest.raises(OptionsError, match="weight_decay"):
        Algo("sgd", weight_decay=-0.5)
