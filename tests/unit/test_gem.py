"""Gradient energy matching against its equations."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from nnlo import Algo
from nnlo.errors import OptionsError
from tests.servers import Server, server

LR = 0.25


def constant(x: Tensor) -> Tensor:
    return torch.ones_like(x)


def bowl(x: Tensor) -> Tensor:
    """The gradient of 1/2 |x|^2."""
    return x.clone()


def commits(count: int, **options: object) -> list[float]:
    """What one worker sends of a constant gradient, in units of its update u."""
    here = server("gem", [1.0], 1, gem_lr=LR, **options)
    centres = [here.w.item()]
    for _ in range(count):
        here.round(constant)
        centres.append(here.w.item())
    return [(after - before) / -LR for before, after in pairwise(centres)]


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"gem_kappa": 1, "gem_momentum": 0.9}, [1, 0.9, 1.81, 1.629, 2.4661]),
        ({"gem_kappa": 1, "gem_momentum": 0.0}, [1, 0, 1, 0, 1, 0]),
        ({"gem_kappa": 2, "gem_momentum": 0.9}, [2, 1.8, 3.62, 3.258, 4.9322, 4.43898, 5]),
        ({"gem_kappa": 2, "gem_momentum": 0.9, "gem_clip": 0}, [2, 1.8, 3.62, 3.258, 4.9322, 4.43898, 5.995082]),
        ({"gem_kappa": 0}, [0, 0, 0]),
        ({"gem_kappa": 0, "gem_clip": 0}, [0, 0, 0]),
        ({}, [2, 1.8, 3.62, 3.258, 4.9322, 4.43898, 5]),
    ],
)
@pytest.mark.parametrize("variant", ["paper", "code"])
def test_commits_of_a_constant_gradient(variant: str, options: dict[str, object], wanted: Sequence[float]) -> None:
    found = commits(len(wanted), **options, gem_variant=variant)
    assert found == pytest.approx(wanted, abs=1e-12)


def test_a_stale_centre_of_0_costs_the_first_commit() -> None:
    here = server("gem", [0.0], 1, gem_lr=0.1, gem_kappa=1, gem_momentum=0.9)
    here.w.fill_(1.0)
    centres = [1.0]
    for _ in range(3):
        here.round(constant)
        centres.append(here.w.item())
    assert [(after - before) / -0.1 for before, after in pairwise(centres)] == pytest.approx([0, 1.9, 0.81])


def test_without_clipping_updates_may_turn_back() -> None:
    here = server("gem", [0.0], 1, gem_lr=0.5, gem_kappa=1, gem_momentum=0.0, gem_clip=0)
    here.w.fill_(2.0)
    here.round(constant)
    assert here.w.item() == pytest.approx(2.0 + 1.5)  # pi = (1/2 - 2) / (1/2) = -3, u = -1/2


def test_a_huge_kappa_is_downpour_at_the_clip_times_the_rate() -> None:
    here = server("gem", [3.0, -1.0, 0.5], 2, gem_lr=2.0**-5, gem_kappa=1e12, gem_momentum=0.5)
    w, x = here.w.clone(), [here.w.clone() for _ in range(2)]
    for _ in range(4):
        here.round(bowl)
        for i in range(2):
            x[i], w = w, w - 5 * 2.0**-5 * x[i]
    assert torch.equal(here.w, w)


def reference(
    w: Tensor, workers: int, rounds: int, *, tau: int, clip: float, ahead: bool, lr: float, mu: float, kappa: float
) -> Tensor:
    """The equations on 1/2 |x|^2, workers in turn, u by the weights before and after steps of SGD at rate 1."""
    x, s, m = ([w.clone() for _ in range(workers)] for _ in range(3))
    m = [torch.zeros_like(w) for _ in m]
    for _ in range(rounds):
        for i in range(workers):
            old = x[i]
            for _ in range(tau):
                x[i] = x[i] - x[i] / 4
            u = -lr * (old - x[i])
            c, s[i] = w - s[i], w
            m[i] = mu * m[i] + u
            pi = (kappa * m[i].abs() - c.abs()) / (u.abs() + 1e-16)
            q = (pi.clamp(0, clip) if clip else pi) * u
            x[i], w = w + q if ahead else w, w + q
    return w


@pytest.mark.parametrize("tau", [1, 3])
@pytest.mark.parametrize("clip", [0.0, 1.5])
@pytest.mark.parametrize("variant", ["paper", "code"])
def test_workers_in_turn(variant: str, clip: float, tau: int) -> None:
    begin = torch.randn(20, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    options = {"gem_lr": 0.125, "gem_momentum": 0.75, "gem_kappa": 1.25, "gem_clip": clip, "gem_variant": variant}
    here = server("gem", begin, 3, sync_every=tau, **options)
    ends = []
    for turn in range(1, 6):
        here.round(lambda x: x / 4, batches=tau)
        ends.append(
            reference(begin, 3, turn, tau=tau, clip=clip, ahead=variant == "code", lr=0.125, mu=0.75, kappa=1.25)
        )
        torch.testing.assert_close(here.w, ends[-1], rtol=1e-12, atol=1e-12)
    assert not torch.equal(ends[0], ends[-1])


@pytest.mark.parametrize(("variant", "wanted"), [("paper", 8.0), ("code", 5.0)])
def test_where_a_worker_goes_on(variant: str, wanted: float) -> None:
    here = server("gem", [8.0], 1, gem_lr=0.5, gem_kappa=2, gem_variant=variant, sync_every=3)
    here.round(constant, batches=3)
    assert (here.x[0].item(), here.w.item()) == (wanted, 8.0 - 2 * 0.5 * 3)


def test_local_steps_have_rate_1() -> None:
    here = server("gem", [8.0], 1, sync_every=3)
    for _ in range(2):
        here.train(0, lambda x: x / 2)
    assert here.x[0].item() == 2.0


def single(**options: object) -> Server:
    """One worker of float32 weights 1."""
    return Server(Algo(None, mode="gem", gem_lr=1.0, **options), torch.ones(2), 1)


def test_small_gradients_are_summed_beside_weights_that_do_not_change() -> None:
    here = single(sync_every=2, gem_kappa=1)
    for _ in range(2):
        here.train(0, lambda x: torch.full_like(x, 2.0**-30))
    sent = here.update(0)
    assert here.x[0].tolist() == [1, 1] and sent.tolist() == [-(2.0**-29)] * 2


def test_where_the_gradient_is_0_nothing_is_sent_however_large_the_momentum() -> None:
    here = single(gem_clip=0)
    here.algorithm.start(here.x[0], torch.zeros(2), here.states[0])
    for gradient in ([2.0**99, 1.0], [0.0, 0.0]):
        here.train(0, lambda x, gradient=gradient: torch.tensor(gradient))  # type: ignore[misc]
        sent = here.update(0)
    assert sent.tolist() == [0, 0]


def test_the_schedule_scales_the_rate() -> None:
    here = server("gem", [8.0], 1, gem_lr=0.5, gem_kappa=1)
    assert here.algorithm.rate == 0.5
    here.algorithm.scale(0.25, here.states[0])
    here.round(constant)
    assert here.w.item() == 8.0 - 0.125


def test_a_new_start_forgets_what_a_bad_gradient_left_behind() -> None:
    here, fresh = (server("gem", [3.0, -1.0], 1, sync_every=2) for _ in range(2))
    here.train(0, lambda x: x * torch.inf)
    assert not here.update(0).isfinite().any()
    here.algorithm.start(here.x[0], here.w, here.states[0])
    for one in (here, fresh):
        one.round(bowl, batches=2)
        one.round(bowl, batches=1)
    assert torch.equal(here.x[0], fresh.x[0]) and torch.equal(here.w, fresh.w)


def test_a_new_start_between_two_batches_forgets_the_first() -> None:
    here, fresh = (server("gem", [3.0, -1.0], 1, sync_every=2) for _ in range(2))
    here.train(0, bowl)
    here.algorithm.start(here.x[0], here.w, here.states[0])
    for one in (here, fresh):
        one.round(bowl, batches=2)
    assert torch.equal(here.w, fresh.w)


def test_updates_of_several_workers_are_added() -> None:
    here = server("gem", [8.0], 2, gem_lr=0.5, gem_kappa=1)
    for worker in range(2):
        here.train(worker, constant)
    here.exchange(0, 1)
    assert here.w.item() == 8.0 - 0.5 - 0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gem_lr": -1}, "--gem-lr must be at least 0"),
        ({"gem_momentum": 1}, "--gem-momentum must be below 1"),
        ({"gem_momentum": -0.5}, "--gem-momentum must be at least 0"),
        ({"gem_kappa": -1}, "--gem-kappa must be at least 0"),
        ({"gem_clip": -1}, "--gem-clip must be at least 0"),
        ({"gem_variant": "book"}, "--gem-variant: unknown value 'book': choose one of paper, code"),
        ({"synchronous": True}, "--mode gem has no setting 'synchronous'"),
    ],
)
def test_bad_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(OptionsError, match=message):
        Algo(None, mode="gem", **options)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_gradient_of_0_is_0_in_every_type(dtype: torch.dtype) -> None:
    here = Server(Algo(None, mode="gem", gem_lr=LR), torch.ones(2, dtype=dtype), 1)
    for _ in range(2):
        here.round(torch.zeros_like)
    assert here.w.tolist() == [1, 1]
