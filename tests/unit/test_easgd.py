"""Elastic averaging against its equations. Data are dyadic and float64, so that all of it is exact."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import Tensor

from nnlo import Algo
from nnlo.algos.easgd_options import EasgdOptions
from nnlo.algos.look_ahead import LookAheadSGD
from nnlo.errors import OptionsError
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


# Rates, and beginning again.


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_the_schedule_scales_the_workers_rate_and_survives_a_new_start(momentum: float) -> None:
    here = server("easgd", [8.0], 1, elastic_lr=0.5, elastic_momentum=momentum)
    assert here.algorithm.rate == 0.5
    here.algorithm.scale(0.5, here.states[0])
    here.algorithm.start(here.x[0], here.w, here.states[0])
    assert here.states[0]["optimizer"].lr == 0.25
    here.train(0, still)
    assert here.x[0].item() == 8.0 - 0.25


@pytest.mark.parametrize("options", [{"elastic_momentum": 0.5}, {"worker_optimizer": "adam"}])
def test_a_new_start_forgets_what_a_bad_gradient_left_behind(options: dict[str, object]) -> None:
    here, fresh = (server("easgd", W, 1, **options) for _ in range(2))
    here.train(0, lambda x: x * torch.nan)
    assert here.x[0].isnan().all()
    here.algorithm.start(here.x[0], here.w, here.states[0])
    for one in (here, fresh):
        one.round(bowl)
    assert torch.equal(here.x[0], fresh.x[0]) and torch.equal(here.w, fresh.w)


def test_weight_decay_of_steps_ahead() -> None:
    decay = {"worker_optimizer_params": {"weight_decay": 0.5}}
    here = server("easgd", [8.0], 1, elastic_lr=0.25, elastic_momentum=0.5, **decay)
    here.train(0, lambda x: torch.zeros_like(x))
    assert here.x[0].item() == 8.0 - 0.25 * 0.5 * 8.0


# What the force is, and what is refused.


def test_beta_is_shared_by_the_workers_of_a_master_and_alpha_is_not() -> None:
    beta = EasgdOptions(elastic_force=0.75)
    assert (beta.alpha(3), EasgdOptions().alpha(3)) == (0.25, pytest.approx(0.3))
    alpha = EasgdOptions.from_keywords(elastic_force=0.75)
    assert (alpha.alpha(3), alpha.alpha(1)) == (0.75, 0.75)
    assert EasgdOptions.from_keywords().alpha(2) == 0.45


def test_the_force_in_the_record_is_the_one_that_was_given() -> None:
    flags = Algo(None, mode="easgd", mode_options=EasgdOptions(elastic_force=0.75)).record()
    keywords = Algo(None, mode="easgd", elastic_force=0.75).record()
    assert flags["elastic_force"] == 0.75 and "elastic_alpha" not in flags
    assert keywords["elastic_force"] is None and keywords["elastic_alpha"] == 0.75


@pytest.mark.parametrize(
    ("options", "workers", "said"),
    [
        ({"elastic_force": 3.0}, 3, "--elastic-force 3 (alpha 1) with 3 workers: the weights do not settle at 3 or"),
        (
            {"elastic_force": 1.6, "synchronous": True},
            4,
            "with 4 synchronous workers: the weights do not settle at 1.6",
        ),
        ({"elastic_alpha": 1.0}, 1, "alpha 1 with 1 worker: the weights do not settle at 1 or more: give less"),
        ({"elastic_alpha": 0.4, "synchronous": True}, 4, "alpha 0.4 with 4 synchronous workers"),
        ({"elastic_force": 2.99}, 3, ""),
        ({"elastic_force": 1.59, "synchronous": True}, 4, ""),
        ({"elastic_alpha": 0.99}, 4, ""),
        ({"elastic_alpha": 0.39, "synchronous": True}, 4, ""),
    ],
)
def test_a_force_that_is_too_large_is_warned_of_once(
    caplog: pytest.LogCaptureFixture, options: dict[str, object], workers: int, said: str
) -> None:
    algo = Algo(None, mode="easgd", mode_options=EasgdOptions(**options))  # type: ignore[arg-type]
    with caplog.at_level(logging.WARNING, "nnlo"):
        Server(algo, torch.zeros(2), workers)
    assert len(caplog.records) == bool(said)
    assert said in caplog.text


def test_compression_has_no_feedback() -> None:
    algorithm = Algo(None, mode="easgd", compress="fp16").algorithm
    assert algorithm.codec is not None and not algorithm.feedback


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"elastic_force": -0.1}, r"elastic_force \(alpha\) must be at least 0, not -0.1"),
        ({"elastic_lr": -1}, "--elastic-lr must be at least 0"),
        ({"elastic_momentum": 1.0}, "--elastic-momentum must be below 1"),
        ({"elastic_order": "first"}, "--elastic-order: unknown value 'first'"),
        ({"elastic_lr": 0.1, "worker_optimizer": "adam"}, "--elastic-lr is for --worker-optimizer sgd, not adam"),
        ({"elastic_momentum": 0.1, "worker_optimizer": "adam"}, "--elastic-momentum is for --worker-optimizer sgd"),
        ({"elastic_lr": 0.1, "worker_optimizer_params": {"learning_rate": 1}}, "learning_rate and --elastic-lr set"),
        ({"elastic_momentum": 0.1, "worker_optimizer_params": {"momentum": 1}}, "momentum and --elastic-momentum set"),
        ({"error_feedback": True, "compress": "fp16"}, "--error-feedback: --mode easgd sends what workers and centre"),
        ({"worker_optimizer_params": {"beta": 1}}, "--worker-optimizer-params: optimizer 'sgd' has no setting 'beta'"),
    ],
)
def test_bad_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(OptionsError, match=message) as refused:
        Algo(None, mode="easgd", **options)
    assert "\n" not in str(refused.value)
