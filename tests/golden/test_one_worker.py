"""One worker: training over the master is a plain torch loop on the same batches, bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nnlo import Algo
from nnlo.comm.local import LocalWorld
from nnlo.comm.virtual import VirtualWorld
from tests.jobs import Batch, Batches, cut, labelled, same_bits, train_here

OPTIMIZERS: dict[str, tuple[type[torch.optim.Optimizer], dict[str, Any], dict[str, Any]]] = {
    "sgd": (torch.optim.SGD, {"lr": 0.1}, {}),
    "momentum": (torch.optim.SGD, {"lr": 0.05, "momentum": 0.9}, {}),
    "nesterov": (torch.optim.SGD, {"lr": 0.05, "momentum": 0.9, "weight_decay": 1e-3}, {"nesterov": True}),
    "adam": (torch.optim.Adam, {"lr": 0.01}, {}),
    "adamw": (torch.optim.AdamW, {"lr": 0.01, "weight_decay": 0.1}, {}),
    "rmsprop": (torch.optim.RMSprop, {"lr": 0.01, "centered": True}, {}),
    "adadelta": (torch.optim.Adadelta, {"lr": 1.0}, {}),
    "adagrad": (torch.optim.Adagrad, {"lr": 0.05}, {}),
}
"""torch's class, the settings given to both, and those that the name stands for."""

SIZES = (16,) * 9 + (5,)
EPOCHS = 3


def network() -> nn.Module:
    """Tensors of several shapes: two convolutions with bias, a tied weight, a frozen one."""
    torch.manual_seed(5)
    features = nn.Sequential(nn.Unflatten(1, (1, 8)), nn.Conv1d(1, 3, 3, padding=1), nn.Tanh(), nn.Flatten())
    tied = nn.Linear(8, 8, bias=False)
    frozen = nn.Linear(24, 8)
    for parameter in frozen.parameters():
        parameter.requires_grad_(False)
    again = nn.Linear(8, 8, bias=False)
    again.weight = tied.weight
    return nn.Sequential(features, frozen, tied, nn.ReLU(), again, nn.Linear(8, 4))


def normalised() -> nn.Module:
    torch.manual_seed(6)
    return nn.Sequential(nn.Linear(8, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 4))


def batches() -> list[Batch]:
    return cut(*labelled(sum(SIZES)), SIZES)


def plain_loop(module: nn.Module, optimizer: torch.optim.Optimizer, data: Sequence[Batch]) -> list[float]:
    """EPOCHS epochs of textbook training; the mean loss of each."""
    losses = []
    for _ in range(EPOCHS):
        total, samples = 0.0, 0
        for x, y in data:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(module(torch.from_numpy(x)), torch.from_numpy(y))
            loss.backward()
            optimizer.step()
            total, samples = total + loss.item() * len(y), samples + len(y)
        losses.append(total / samples)
    return losses


@pytest.mark.parametrize("make", [network, normalised])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_equals_a_plain_torch_loop(name: str, make: Callable[[], nn.Module]) -> None:
    torch_class, settings, meant = OPTIMIZERS[name]
    run = train_here(VirtualWorld(2), Batches(batches()), Algo(name, fused=False, **settings), make, epochs=EPOCHS)
    module = make()
    losses = plain_loop(module, torch_class(module.parameters(), foreach=False, **settings, **meant), batches())
    assert same_bits(run.state, module.state_dict())
    assert run.losses == losses
    assert set(run.delays) == {0}


def test_equals_a_plain_torch_loop_on_wall_time() -> None:
    run = train_here(LocalWorld(2), Batches(batches()), Algo("adam", fused=False), normalised, epochs=EPOCHS)
    module = normalised()
    plain_loop(module, torch.optim.Adam(module.parameters(), foreach=False), batches())
    assert same_bits(run.state, module.state_dict())


def test_synchronous_with_one_worker_is_the_same() -> None:
    algo = Algo("momentum", lr=0.05, synchronous=True, fused=False)
    run = train_here(VirtualWorld(2), Batches(batches()), algo, normalised, epochs=EPOCHS)
    module = normalised()
    plain_loop(module, torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9, foreach=False), batches())
    assert same_bits(run.state, module.state_dict())


def groups(data: Sequence[Batch], tau: int) -> list[list[Batch]]:
    """`tau` batches an update; the last of an epoch may have fewer."""
    return [list(data[start : start + tau]) for start in range(0, len(data), tau)]


def gradient(module: nn.Module, x: Tensor, y: Tensor) -> list[Tensor]:
    loss = nn.functional.cross_entropy(module(x), y)
    return list(torch.autograd.grad(loss, list(module.parameters())))


def dean(module: nn.Module, data: Sequence[Batch], tau: int, local_lr: float, lr: float) -> None:
    """The equations of Downpour with one worker: w <- w - lr sum(b_j g_j) / sum(b_j), g_j along the local steps."""
    weights = list(module.parameters())
    for group in groups(data, tau) * EPOCHS:
        start = [w.detach().clone() for w in weights]
        sums = [torch.zeros_like(w) for w in weights]
        for x, y in group:
            found = gradient(module, torch.from_numpy(x), torch.from_numpy(y))
            for w, s, g in zip(weights, sums, found, strict=True):
                s.add_(g, alpha=len(y))
                w.data.sub_(local_lr * g)
        samples = sum(len(y) for _, y in group)
        for w, begun, s in zip(weights, start, sums, strict=True):
            w.data.copy_(begun - lr * (s / samples))


def perceptron() -> nn.Module:
    torch.manual_seed(8)
    return nn.Sequential(nn.Linear(8, 10), nn.Tanh(), nn.Linear(10, 4)).double()


@pytest.mark.parametrize("local_lr", [0.0, 0.3])
@pytest.mark.parametrize("tau", [2, 3, 7])
def test_several_batches_an_update(tau: int, local_lr: float) -> None:
    x, y = labelled(sum(SIZES))
    data = cut(x.astype("float64"), y, SIZES)
    algo = Algo("sgd", lr=0.5, sync_every=tau, local_lr=local_lr, fused=False)
    run = train_here(VirtualWorld(2), Batches(data), algo, perceptron, epochs=EPOCHS)
    module = perceptron()
    dean(module, data, tau, local_lr, lr=0.5)
    for name, value in module.state_dict().items():
        torch.testing.assert_close(run.state[name], value, rtol=1e-12, atol=1e-13)
    assert [entry["updates"] for entry in run.history["epochs"]] == [len(groups(data, tau))] * EPOCHS


def test_local_steps_matter() -> None:
    def final(local_lr: float) -> dict[str, Tensor]:
        algo = Algo("sgd", lr=0.5, sync_every=4, local_lr=local_lr)
        return train_here(VirtualWorld(2), Batches(batches()), algo, normalised).state

    assert not same_bits(final(0.0), final(0.3))
