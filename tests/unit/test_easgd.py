"""Elastic averaging against its equations. Data are dyadic and float64, so that all of it is exact."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nnlo.algos.look_ahead import LookAheadSGD
from tests.servers import Server, server

W = [3.0, -1.0, 0.5]
BOTH = pytest.mark.parametrize("order", ["before", "after"])
WIRES = pytest.mark.parametrize("compress", ["none", "fp16"])


def still(x: Tensor) -> Tensor:
    return torch.ones_like(x)


def bowl(x: Tensor) -> Tensor:
    """The gradient of 1/2 |x|^2."""
    return x.clone()


def apart(workers: int, **options: object) -> Server:
    """Workers at places of their own, which do not move by themselves."""
    found = server("easgd", W, workers, elastic_lr=0.0, **options)
    for i, x in enumerate(found.x):
        x.copy_(torch.tensor([i + 0.25, 7.0 - i, -2.0 * i], dtype=torch.float64))
    return found


# Without gradients: the elastic band alone.


@BOTH
@WIRES
@pytest.mark.parametrize("synchronous", [False, True])
def test_what_an_exchange_gives_the_centre_it_takes_from_the_workers(
    order: str, compress: str, synchronous: bool
) -> None:
    here = apart(3, elastic_force=0.25, elastic_order=order, compress=compress, synchronous=synchronous)
    whole, begin = here.w + sum(here.x), here.w.clone()
    for _ in range(4):
        here.round(still)
        assert torch.equal(here.w + sum(here.x), whole)
    assert not torch.equal(here.w, begin)


def test_it_is_kept_where_the_codec_rounds() -> None:
    here = apart(2, elastic_force=0.25, compress="bf16")
    here.x[0].add_(2.0**-20)
    whole = here.w + sum(here.x)
    here.round(still)
    assert torch.equal(here.w + sum(here.x), whole)
    assert (here.x[0] * 2.0**18).frac().any()  # what the codec left out stays with the worker


@BOTH
@WIRES
@pytest.mark.parametrize("alpha", [0.0, 0.25, 0.5, 0.75, 1.0])
def test_the_distance_shrinks_by_1_less_2_alpha(alpha: float, order: str, compress: str) -> None:
    here = apart(1, elastic_force=alpha, elastic_order=order, compress=compress)
    x, w = here.x[0].clone(), here.w.clone()
    here.round(still)
    assert torch.equal(here.x[0] - here.w, (1 - 2 * alpha) * (x - w))
    if alpha == 0.5:
        assert torch.equal(here.w, (x + w) / 2)
    if alpha == 1.0:
        assert torch.equal(here.w, x) and torch.equal(here.x[0], w)


@BOTH
@WIRES
def test_synchronous_differences_are_all_from_the_old_centre(order: str, compress: str) -> None:
    here = apart(3, elastic_force=0.25, synchronous=True, elastic_order=order, compress=compress)
    x, w = [one.clone() for one in here.x], here.w.clone()
    here.round(still)
    assert torch.equal(here.w, w + 0.25 * sum(one - w for one in x))
    assert all(torch.equal(mine, one - 0.25 * (one - w)) for mine, one in zip(here.x, x, strict=True))


@BOTH
@WIRES
@pytest.mark.parametrize("synchronous", [False, True])
def test_nothing_moves_where_all_are_equal_and_stand_still(order: str, compress: str, synchronous: bool) -> None:
    here = server("easgd", W, 4, elastic_lr=0.0, elastic_order=order, compress=compress, synchronous=synchronous)
    for _ in range(5):
        here.round(still)
    for one in (here.w, *here.x):
        assert one.tolist() == W


# On 1/2 x^2: the largest alpha at which the weights settle, by the determinant of the round's matrix at -1.


def asynchronous_limit(order: str, eta: float) -> float:
    return (4 - 2 * eta) / (4 - eta if order == "before" else 4 - 3 * eta)


def synchronous_limit(order: str, eta: float, m: int) -> float:
    return (4 - 2 * eta) / (2 + m * (2 - eta) if order == "before" else m + (1 - eta) * (m + 2))


def size_after(rounds: int, order: str, eta: float, workers: int, alpha: float) -> float:
    """How large the centre is in the end, that began at 1."""
    here = server(
        "easgd", [1.0], workers, elastic_force=alpha, elastic_lr=eta, elastic_order=order, synchronous=workers > 1
    )
    for _ in range(rounds):
        here.round(bowl)
    return abs(here.w.item())


@BOTH
@pytest.mark.parametrize("eta", [0.125, 0.5, 1.0])
@pytest.mark.parametrize("workers", [1, 4])
def test_the_border_of_stability(order: str, eta: float, workers: int) -> None:
    limit = asynchronous_limit(order, eta) if workers == 1 else synchronous_limit(order, eta, workers)
    assert size_after(300, order, eta, workers, 0.97 * limit) < 0.05
    assert size_after(300, order, eta, workers, 1.03 * limit) > 20


# With gradients, against the recursions of the paper.


def paper(
    w: Tensor, workers: int, rounds: int, *, alpha: float, eta: float, delta: float = 0.0, tau: int = 1
) -> tuple[Tensor, list[Tensor]]:
    """Algorithms 1 and 2 on 1/2 |x|^2, workers in turn, from the clock 1 on: an exchange when tau divides it."""
    x, v = [w.clone() for _ in range(workers)], [torch.zeros_like(w) for _ in range(workers)]
    for r in range(rounds):
        for i in range(workers):
            for t in range(r * tau + 1, (r + 1) * tau + 1):
                here = x[i]
                if t % tau == 0:
                    e = alpha * (here - w)
                    x[i], w = here - e, w + e
                v[i] = delta * v[i] - eta * (here + delta * v[i])
                x[i] = x[i] + v[i]
    return w, x


def nnlo_order(
    w: Tensor, workers: int, rounds: int, *, alpha: float, eta: float, delta: float = 0.0, tau: int = 1
) -> tuple[Tensor, list[Tensor]]:
    """The same with tau steps first and then the exchange."""
    x, v = [w.clone() for _ in range(workers)], [torch.zeros_like(w) for _ in range(workers)]
    for _ in range(rounds):
        for i in range(workers):
            for _ in range(tau):
                v[i] = delta * v[i] - eta * (x[i] + delta * v[i])
                x[i] = x[i] + v[i]
            e = alpha * (x[i] - w)
            x[i], w = x[i] - e, w + e
    return w, x


@BOTH
@WIRES
@pytest.mark.parametrize("delta", [0.0, 0.5])
@pytest.mark.parametrize("tau", [1, 3])
def test_the_papers_recursion(order: str, compress: str, delta: float, tau: int) -> None:
    rounds = 2 if tau == 3 else 4
    settings = {"alpha": 0.25, "eta": 0.125, "delta": delta, "tau": tau}
    reference = paper if order == "before" else nnlo_order
    w, x = reference(torch.tensor(W, dtype=torch.float64), 3, rounds, **settings)  # type: ignore[arg-type]
    here = server(
        "easgd", W, 3, elastic_force=0.25, elastic_lr=0.125, elastic_momentum=delta, elastic_order=order,
        sync_every=tau, compress=compress,
    )  # fmt: skip
    for _ in range(rounds):
        here.round(bowl, batches=tau)
    found = [here.w, *here.x]
    if compress == "none":
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(found, [w, *x], strict=True))
    for mine, theirs in zip(found, [w, *x], strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-3)


def test_the_orders_differ() -> None:
    ends = [server("easgd", W, 1, elastic_lr=0.5, elastic_order=order) for order in ("before", "after")]
    for here in ends:
        here.round(bowl)
    assert ends[0].w.tolist() == W != ends[1].w.tolist()


def test_an_exchange_after_fewer_batches_goes_with_the_last_of_them() -> None:
    here = server("easgd", [8.0], 1, elastic_force=0.5, elastic_lr=0.5, elastic_order="before", sync_every=4)
    here.w.zero_()
    here.round(bowl, batches=2)
    assert here.w.item() == 2.0  # half of 4, where the worker was before its second step
    assert here.x[0].item() == 4.0 - 2.0 - 2.0


def test_without_momentum_looking_ahead_is_sgd() -> None:
    x, y, g = torch.tensor(W), torch.tensor(W), torch.tensor([0.5, -2.0, 1.0])
    optimizer = LookAheadSGD(y, 0.25, 0.0, weight_decay=0.5)
    for _ in range(3):
        x = x - 0.25 * (g + 0.5 * x)
        optimizer.probe(y)
        optimizer.step(y, g.clone())
    assert torch.equal(x, y)


def test_alpha_0_is_workers_on_their_own_and_a_frozen_centre() -> None:
    here = server("easgd", W, 2, elastic_force=0.0, worker_optimizer_params={"lr": 0.125, "momentum": 0.5})
    alone = torch.nn.Parameter(torch.tensor(W, dtype=torch.float64))
    optimizer = torch.optim.SGD([alone], lr=0.125, momentum=0.5)
    for _ in range(4):
        here.round(bowl)
        alone.grad = alone.detach().clone()
        optimizer.step()
    assert here.w.tolist() == W
    assert all(torch.equal(x, alone.detach()) for x in here.x)


def test_synchronous_with_alpha_1_over_m_the_centre_is_the_mean_of_the_round_before() -> None:
    """w_(t+1) = mean x_t, and mean x_(t+1) = mean x_t - eta mean g_t - (mean x_t - w_t) / M: all exact."""
    m, eta = 4, 0.125
    here = server(
        "easgd", W, m, elastic_force=1 / m, elastic_lr=eta, elastic_order="before", synchronous=True
    )  # fmt: skip
    w, mean = here.w.clone(), here.w.clone()
    for turn in range(5):
        gradients = [torch.tensor([i + 1.0, turn - i, 2.0 * i * turn], dtype=torch.float64) for i in range(m)]
        for i, gradient in enumerate(gradients):
            here.train(i, lambda x, gradient=gradient: gradient)  # type: ignore[misc]
        here.exchange(*range(m))
        w, mean = mean, mean - eta * sum(gradients) / m - (mean - w) / m
        assert torch.equal(here.w, w)
        assert torch.equal(sum(here.x) / m, mean)
        if turn == 0:
            assert here.w.tolist() == W


def test_any_worker_optimizer_takes_the_local_steps() -> None:
    here = server("easgd", W, 1, elastic_force=0.5, worker_optimizer="adam", worker_optimizer_params={"lr": 0.1})
    alone = torch.nn.Parameter(torch.tensor(W, dtype=torch.float64))
    optimizer = torch.optim.Adam([alone], lr=0.1, fused=True)
    for _ in range(2):
        here.train(0, bowl)
        alone.grad = alone.detach().clone()
        optimizer.step()
    assert torch.equal(here.x[0], alone.detach())
    here.exchange(0)
    torch.testing.assert_close(here.w, (alone.detach() + torch.tensor(W, dtype=torch.float64)) / 2, rtol=1e-15, atol=0)
