"""The options of elastic averaging: the force, the rates of the workers' steps, and what is refused."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from torch import Tensor

from nnlo import Algo
from nnlo.algos.easgd_options import EasgdOptions
from nnlo.errors import OptionsError
from tests.servers import Server, server

W = [3.0, -1.0, 0.5]


def still(x: Tensor) -> Tensor:
    return torch.ones_like(x)


def bowl(x: Tensor) -> Tensor:
    """The gradient of 1/2 |x|^2."""
    return x.clone()


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


@pytest.mark.parametrize(
    ("options", "rate"),
    [
        ({}, 0.1),
        ({"elastic_momentum": 0.9}, 0.1),
        ({"worker_optimizer_params": {"weight_decay": 0.5}}, 0.1),
        ({"worker_optimizer_params": {"momentum": 0.9}}, 0.01),
        ({"worker_optimizer_params": {"learning_rate": 0.5}}, 0.5),
        ({"worker_optimizer": "momentum"}, 0.01),
        ({"worker_optimizer": "adam"}, 0.001),
    ],
)
def test_the_rate_of_workers_who_are_told_none(options: dict[str, Any], rate: float) -> None:
    assert EasgdOptions(**options).worker_rate == rate


# What the force is, and what is refused.


def test_beta_is_shared_by_the_workers_of_a_master_and_alpha_is_not() -> None:
    beta = EasgdOptions(elastic_force=0.75)
    assert (beta.alpha(3), EasgdOptions().alpha(3)) == (0.25, pytest.approx(0.3))
    alpha = EasgdOptions.from_keywords(elastic_force=0.75)
    assert (alpha.alpha(3), alpha.alpha(1)) == (0.75, 0.75)
    assert EasgdOptions.from_keywords().alpha(2) == 0.45


def test_the_force_in_the_record_is_the_one_that_was_given() -> None:
    flags = Algo(None, mode="easgd", mode_options=EasgdOptions(elastic_force=0.75)).recorded()
    keywords = Algo(None, mode="easgd", elastic_force=0.75).recorded()
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
