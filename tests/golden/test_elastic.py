"""Elastic averaging and gradient energy matching, through roles and messages, against loops over the equations.

Features are small integers, weights and settings dyadic, so that every product and sum is exact in float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nnlo import Algo
from nnlo.comm.virtual import VirtualWorld
from tests.jobs import Batch, Batches, Run, cut, train_here

INPUTS = 3


def batches(sizes: list[int]) -> list[Batch]:
    rng = np.random.default_rng(3)
    x = rng.integers(-2, 3, (sum(sizes), INPUTS)).astype("float64")
    return cut(x, rng.integers(-2, 3, (sum(sizes), 1)) * 1.0, sizes)


def linear() -> nn.Module:
    module = nn.Linear(INPUTS, 1, bias=False, dtype=torch.float64)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[1.0, -0.5, 2.0]]))
    return module


def gradient(w: Tensor, batch: Batch) -> Tensor:
    """That of the mean square error at w, shape (INPUTS,)."""
    x, y = map(torch.from_numpy, batch)
    return 2 * ((x @ w - y[:, 0])[:, None] * x).mean(0)


def trained(workers: int, data: list[Batch], epochs: int = 1, **options: Any) -> Run:
    algo = Algo(None, loss="mse", metrics=(), **options)
    return train_here(VirtualWorld(workers + 1), Batches(data), algo, linear, epochs=epochs)


def final(run: Run) -> Tensor:
    return run.state["weight"][0]


def own_steps(x: Tensor, v: Tensor, group: list[Batch], eta: float, delta: float, order: str) -> tuple[Tensor, ...]:
    """The new x and v after a group of batches, and the x that is exchanged."""
    exchanged = x
    for batch in group:
        exchanged = x
        v = delta * v - eta * gradient(x + delta * v, batch)
        x = x + v
    return x, v, x if order == "after" else exchanged


def elastic(
    data: list[Batch], workers: int, *, alpha: float, eta: float, delta: float, tau: int, order: str, together: bool
) -> Tensor:
    """The centre's weights in the end; worker i has the batches i, M + i, ..."""
    w = linear().weight.detach()[0].clone()  # type: ignore[operator, union-attr]
    x, v = [w] * workers, [torch.zeros_like(w)] * workers
    shares = [data[i::workers] for i in range(workers)]
    for start in range(0, len(shares[0]), tau):
        present = [i for i in range(workers) if shares[i][start : start + tau]]
        e = {}
        for i in present:
            x[i], v[i], exchanged = own_steps(x[i], v[i], shares[i][start : start + tau], eta, delta, order)
            e[i] = alpha * (exchanged - w)
            x[i] = x[i] - e[i]
            w = w if together else w + e[i]
        w = w + sum(e.values()) if together else w
    return w


@pytest.mark.parametrize("order", ["after", "before"])
@pytest.mark.parametrize("delta", [0.0, 0.5])
@pytest.mark.parametrize(("workers", "together"), [(1, False), (2, False), (3, False), (1, True), (3, True)])
def test_easgd(workers: int, together: bool, delta: float, order: str) -> None:
    data = batches([4] * 3 * workers)
    run = trained(
        workers, data, mode="easgd", elastic_force=0.25, elastic_lr=0.0625, elastic_momentum=delta,
        elastic_order=order, synchronous=together,
    )  # fmt: skip
    wanted = elastic(data, workers, alpha=0.25, eta=0.0625, delta=delta, tau=1, order=order, together=together)
    assert torch.equal(final(run), wanted)
    assert run.last["updates"] == (3 if together else 3 * workers)


@pytest.mark.parametrize("order", ["after", "before"])
@pytest.mark.parametrize("together", [False, True])
def test_easgd_after_several_batches_and_fewer_in_the_end(together: bool, order: str) -> None:
    data = batches([4] * 9)  # worker 1 has 5 of them, worker 2 has 4
    run = trained(
        2, data, mode="easgd", elastic_force=0.5, elastic_lr=0.125, elastic_order=order, sync_every=2,
        synchronous=together,
    )  # fmt: skip
    wanted = elastic(data, 2, alpha=0.5, eta=0.125, delta=0.0, tau=2, order=order, together=together)
    assert torch.equal(final(run), wanted)


@pytest.mark.parametrize("synchronous", [False, True])
def test_a_compressed_exchange_moves_both_ends_by_what_was_sent(synchronous: bool) -> None:
    """bf16 rounds e; the workers pull w first, both at one time, and all e are from there."""
    workers, eta, data = 2, 2.0**-4, batches([4] * 8)
    run = trained(
        workers, data, mode="easgd", elastic_force=0.25, elastic_lr=eta, compress="bf16", synchronous=synchronous
    )
    w = linear().weight.detach()[0].clone()  # type: ignore[operator, union-attr]
    x, rounded = [w] * workers, False
    for start in range(0, len(data), workers):
        e = []
        for i in range(workers):
            x[i] = x[i] - eta * gradient(x[i], data[start + i])
            exact = 0.25 * (x[i] - w)
            e.append(exact.bfloat16().double())
            rounded |= not torch.equal(e[i], exact)
            x[i] = x[i] - e[i]
        w = w + sum(e)
    assert rounded
    assert torch.equal(final(run), w)


@pytest.mark.parametrize("variant", ["paper", "code"])
@pytest.mark.parametrize(("workers", "tau"), [(1, 1), (1, 3), (2, 1), (3, 2)])
def test_gem(workers: int, tau: int, variant: str) -> None:
    """Equal workers ask at one time, so that all are given the same centre, and then send."""
    data, lr, mu, kappa, clip = batches([4] * 4 * workers * tau), 0.0625, 0.5, 1.5, 1.25
    run = trained(
        workers, data, mode="gem", gem_lr=lr, gem_momentum=mu, gem_kappa=kappa, gem_clip=clip, gem_variant=variant,
        sync_every=tau,
    )  # fmt: skip
    w = linear().weight.detach()[0].clone()  # type: ignore[operator, union-attr]
    x, s, m = [w] * workers, [w] * workers, [torch.zeros_like(w)] * workers
    for start in range(0, len(data), workers * tau):
        pulled = w
        for i in range(workers):
            u = torch.zeros_like(w)
            for batch in data[start + i : start + workers * tau : workers]:
                g = gradient(x[i], batch)
                u, x[i] = u - lr * g, x[i] - g
            c, s[i] = pulled - s[i], pulled
            m[i] = mu * m[i] + u
            q = ((kappa * m[i].abs() - c.abs()) / (u.abs() + 1e-16)).clamp(0, clip) * u
            x[i] = pulled + q if variant == "code" else pulled
            w = w + q
    torch.testing.assert_close(final(run), w, rtol=1e-12, atol=1e-12)
    assert not torch.equal(w, pulled)
