"""Stopping rules in a training: one decision, taken by the master at a validation point, obeyed by all ranks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from torch import nn

from nnlo import Algo
from nnlo.comm.virtual import VirtualWorld
from nnlo.errors import OptionsError
from tests.jobs import Rows, Run, labelled, train_here

X, Y = labelled(96)


def linear() -> nn.Module:
    return nn.Linear(8, 4)


def indifferent() -> nn.Module:
    """Every sample has the same loss, log 4, and the sums of an epoch the same bits, however it is shuffled."""
    module = linear()
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


def train(
    lr: float = 0.5, workers: int = 3, epochs: int = 12, module: Callable[[], nn.Module] = linear, **options: Any
) -> Run:
    more = {name: options.pop(name) for name in ("synchronous", "validate_every") if name in options}
    algo = Algo("sgd", lr=lr, loss="sparse_categorical_crossentropy", **more)
    world = VirtualWorld(1 + workers)
    return train_here(world, Rows(X, Y, 8), algo, module, epochs=epochs, val=Rows(X, Y, 96), **options)


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_a_target_stops_at_the_point_after_it_was_reached(workers: int) -> None:
    losses = [entry["val_loss"] for entry in train(workers=workers, synchronous=True).history["epochs"]]
    run = train(workers=workers, synchronous=True, target_metric=f"val_loss,<,{(losses[3] + losses[4]) / 2}")
    assert [entry["val_loss"] for entry in run.history["epochs"]] == losses[:6]
    assert run.history["outcome"] == "stopped"
    assert run.history["stop_reason"].startswith("--target-metric val_loss,<,")
    assert f"reached {losses[4]:g}" in run.history["stop_reason"]


def test_asynchronous_workers_stop_too() -> None:
    run = train(target_metric="val_acc,>,0.1")
    assert len(run.history["epochs"]) == 2
    assert run.history["outcome"] == "stopped"


def test_early_stopping_waits_for_its_patience() -> None:
    """At a rate of zero nothing changes: the first value is the best, and 3 more are no better."""
    run = train(lr=0.0, early_stopping="val_loss,<,3")
    assert len(run.history["epochs"]) == 5
    assert "--early-stopping val_loss,<,3: nothing better than" in run.history["stop_reason"]
    run = train(lr=0.0, early_stopping="val_loss,~<,3")
    assert len(run.history["epochs"]) == 7, "two windows of three, and the point at which it takes effect"


def test_rules_see_the_validations_within_epochs() -> None:
    """96 / 8 = 12 batches an epoch, validated every 3: four validations an epoch, of which the third decides."""
    run = train(lr=0.0, validate_every=3, synchronous=True, early_stopping="val_loss,<,2")
    assert len(run.history["validations"]) == 4
    assert len(run.history["epochs"]) == 1
    run = train(lr=0.0, module=indifferent, validate_every=3, synchronous=True, early_stopping="loss,<,2")
    assert len(run.history["epochs"]) == 3, "a training figure is seen once an epoch"


def test_a_rule_that_never_holds_leaves_the_run_as_it_is() -> None:
    plain, watched = train(synchronous=True), train(synchronous=True, early_stopping="val_loss,<,12")
    assert watched.losses == plain.losses and len(plain.losses) == 12
    assert watched.history["outcome"] == "done" and watched.history["stop_reason"] is None


def test_both_rules_together_and_their_record() -> None:
    run = train(lr=0.0, early_stopping="val_loss,<,2", target_metric="val_accuracy,>,2")
    assert len(run.history["epochs"]) == 4
    assert run.history["arguments"]["early_stopping"] == "val_loss,<,2"
    assert run.history["arguments"]["target_metric"] == "val_acc,>,2"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"early_stopping": "val_f1,<,2"}, "--early-stopping val_f1: not measured: choose one of loss, acc, val_"),
        ({"target_metric": "f1,>,2"}, "--target-metric f1: not measured"),
        ({"early_stopping": "val_loss;<;2"}, "--early-stopping 'val_loss;<;2': expected metric"),
    ],
)
def test_what_is_not_computed_is_refused_before_training(options: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionsError) as refused:
        train(**options)
    assert said in str(refused.value)


def test_a_validation_figure_needs_validation_data() -> None:
    algo = Algo("sgd", loss="sparse_categorical_crossentropy")
    with pytest.raises(
        OptionsError,
        match="--target-metric val_acc: not measured: choose one of loss, acc; val_ figures need --val-data",
    ):
        train_here(VirtualWorld(2), Rows(X, Y, 8), algo, linear, target_metric="val_acc,>,0.5")


def test_a_rule_that_holds_at_the_very_end_stops_nothing() -> None:
    run = train(lr=0.0, epochs=4, early_stopping="val_loss,<,3")
    assert len(run.history["epochs"]) == 4
    assert run.history["outcome"] == "done" and run.history["stop_reason"] is None
