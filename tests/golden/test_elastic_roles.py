"""Elastic averaging and gradient energy matching in their roles: rates, warnings, bad gradients, statistics, ends."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from nnlo import Algo
from nnlo.comm.costs import Costs
from nnlo.comm.messages import Header, Kind
from nnlo.comm.virtual import VirtualWorld
from nnlo.roles.answers import Answer, Answers
from nnlo.roles.links import Link
from tests.golden.test_elastic import batches, final, linear, trained
from tests.jobs import Batches, Rows, Run, cut, labelled, same_bits, train_here

# Rates, warnings, and gradients that are no numbers.


@pytest.mark.parametrize(
    ("options", "rate"),
    [
        ({"mode": "easgd", "elastic_lr": 0.25}, 0.25),
        ({"mode": "easgd", "elastic_lr": 0.25, "elastic_momentum": 0.5}, 0.25),
        ({"mode": "easgd", "worker_optimizer": "adam", "worker_optimizer_params": {"lr": 0.5}}, 0.5),
        ({"mode": "gem", "gem_lr": 0.125}, 0.125),
    ],
)
def test_schedules_scale_the_workers_rate(options: dict[str, Any], rate: float) -> None:
    """At 0 nothing moves."""
    algo, data = Algo(None, loss="mse", metrics=(), **options), Batches(batches([4] * 8))
    for factor in (1.0, 0.5, 0.0):
        run = train_here(VirtualWorld(2), data, algo, linear, schedule=lambda epoch, factor=factor: factor)
        assert run.last["lr"] == factor * rate
        assert torch.equal(final(run), linear().state_dict()["weight"][0]) == (factor == 0)


def test_too_large_a_force_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "nnlo"):
        trained(3, batches([4] * 6), mode="easgd", elastic_force=1.5, elastic_lr=0.0)
    assert [record.message[:24] for record in caplog.records] == ["alpha 1.5 with 3 workers"]


@pytest.mark.parametrize("options", [{"mode": "easgd", "elastic_momentum": 0.5}, {"mode": "gem", "sync_every": 2}])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_worker_goes_on_after_a_gradient_that_is_no_number(options: dict[str, Any], workers: int) -> None:
    data = batches([4] * 24)
    data[3][0][0] = np.inf
    run = trained(workers, data, epochs=2, **options)
    assert run.last["refused"] == 1
    assert final(run).isfinite().all()
    assert run.losses[1] != run.losses[0]


@pytest.mark.parametrize("options", [{"mode": "easgd", "elastic_lr": 0.1}, {"mode": "gem"}])
@pytest.mark.parametrize("compress", [{}, {"compress": "fp16", "synchronous": True}])
def test_every_sample_counts(options: dict[str, Any], compress: dict[str, Any]) -> None:
    """Over files that workers are dealt ranges of, with a ragged end."""
    if options["mode"] == "gem":
        compress = {}
    x, y = labelled(205)
    algo = Algo(None, sync_every=3, **options, **compress)
    run = train_here(VirtualWorld(4), Rows(x, y, 10), algo, lambda: nn.Linear(8, 4), epochs=3)
    assert [entry["samples"] for entry in run.history["epochs"]] == [205, 410, 615]
    assert run.losses[2] < run.losses[0]


# What comes with the weights, and in which order.


@pytest.mark.parametrize("options", [{"mode": "easgd"}, {"mode": "easgd", "compress": "fp16"}, {"mode": "gem"}])
def test_the_statistics_of_inputs_are_those_of_all_batches(options: dict[str, Any]) -> None:
    x, y = labelled(60)
    data = cut(x, y, [6] * 10)
    run = train_here(
        VirtualWorld(2), Batches(data), Algo(None, **options), lambda: nn.Sequential(nn.BatchNorm1d(8), nn.Linear(8, 4))
    )
    alone = nn.BatchNorm1d(8)
    for batch, _ in data:
        alone(torch.from_numpy(batch))
    for name, value in alone.named_buffers():
        assert torch.equal(run.state[f"0.{name}"], value), name


@pytest.mark.parametrize("compress", ["none", "bf16"])
def test_synchronous_training_is_the_same_at_any_speed(compress: str) -> None:
    """Whichever worker asks first, each gets the same batches."""
    x, y = labelled(90)
    algo = Algo(None, mode="easgd", synchronous=True, compress=compress)

    def trained_by(first: float, second: float) -> Run:
        costs = Costs(compute=lambda peer, samples: first if peer == 1 else second)
        return train_here(VirtualWorld(3, costs=costs), Rows(x, y, 5), algo, lambda: nn.Linear(8, 4), epochs=3, seed=1)

    runs = [trained_by(1e-3, 2e-3), trained_by(2e-3, 1e-3)]
    assert same_bits(runs[0].state, runs[1].state)
    assert runs[0].losses == runs[1].losses


@pytest.mark.parametrize("options", [{"mode": "easgd"}, {"mode": "easgd", "compress": "fp16"}, {"mode": "gem"}])
def test_a_worker_is_told_to_stop_once(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one whose update is on its way while the others are told."""
    told: list[int] = []
    send = Answers._send

    def noted(answers: Answers, link: Link, answer: Answer, headers: Mapping[int, Header], flags: int) -> None:
        told.extend(headers if answer.kind is Kind.STOP else ())
        send(answers, link, answer, headers, flags)

    monkeypatch.setattr(Answers, "_send", noted)
    x, y = labelled(90)
    world = VirtualWorld(4, costs=Costs(offload=0.02, local_latency=1e-3))
    run = train_here(
        world, Rows(x, y, 5), Algo(None, validate_every=4, **options), lambda: nn.Linear(8, 4), epochs=9,
        val=Rows(x, y, 90), target_metric="val_acc,>,0.0",
    )  # fmt: skip
    assert run.history["stop_reason"] and sorted(told) == [1, 2, 3]
