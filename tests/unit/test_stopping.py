"""Stopping rules against their definitions, for any sequence of values."""

from __future__ import annotations

import math
from statistics import fmean
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnlo.errors import OptionsError
from nnlo.training.stopping import EarlyStopping, TargetMetric, stopping_rules

ANY = st.lists(st.integers(-3, 3).map(lambda n: n / 2) | st.just(math.nan), max_size=30)
FALLING = st.lists(st.integers(-40, 40).map(lambda n: n / 8), max_size=30).map(lambda some: sorted(some, reverse=True))
VALUES = ANY | st.tuples(FALLING, ANY).map(lambda parts: [*parts[0], *parts[1]])
"""A rule that compares stops at once on most values: some begin with a run of better and better ones."""

PATIENCE = st.integers(1, 6)


def stopped_at(rule: Any, values: list[float]) -> int | None:
    """The first place at which the rule stops."""
    return next((place for place, value in enumerate(values) if rule.stops(value) is not None), None)


def better(one: float, other: float, comparison: str) -> bool:
    return one < other if comparison == "<" else one > other


@given(values=VALUES, patience=PATIENCE, comparison=st.sampled_from("<>"))
def test_early_stopping_waits_for_the_patience_after_the_best(
    values: list[float], patience: int, comparison: str
) -> None:
    def improves(place: int) -> bool:
        known = [value for value in values[:place] if not math.isnan(value)]
        value = values[place]
        return not math.isnan(value) and all(better(value, old, comparison) for old in known)

    improved = [improves(place) for place in range(len(values))]
    windows = [improved[end - patience : end] for end in range(patience, len(values) + 1)]
    wanted = next((patience - 1 + i for i, window in enumerate(windows) if not any(window)), None)
    assert stopped_at(EarlyStopping("val_figure", comparison, patience), values) == wanted


@given(values=VALUES, patience=PATIENCE, comparison=st.sampled_from("<>"))
def test_early_stopping_compares_the_means_of_two_windows(values: list[float], patience: int, comparison: str) -> None:
    def stale(end: int) -> bool:
        late = fmean(values[end - patience : end])
        early = fmean(values[end - 2 * patience : end - patience])
        return not better(late, early, comparison)

    wanted = next((end - 1 for end in range(2 * patience, len(values) + 1) if stale(end)), None)
    assert stopped_at(EarlyStopping("val_figure", "~" + comparison, patience), values) == wanted


@given(values=VALUES, target=st.integers(-3, 3), comparison=st.sampled_from(["<", ">", "<=", ">="]))
def test_a_target_stops_at_the_first_value_beyond_it(values: list[float], target: int, comparison: str) -> None:
    beyond = {"<": float.__lt__, ">": float.__gt__, "<=": float.__le__, ">=": float.__ge__}[comparison]
    wanted = next((i for i, value in enumerate(values) if beyond(value, float(target))), None)
    assert stopped_at(TargetMetric("val_acc", comparison, target), values) == wanted


def test_a_rule_begins_anew_with_each_training() -> None:
    rule = EarlyStopping("loss", "<", 1)
    assert [rule.stops(value) is None for value in (1.0, 2.0)] == [True, False]
    rule.on_train_begin({})
    assert rule.stops(3.0) is None


def test_texts() -> None:
    rule = EarlyStopping.of(" val_accuracy , ~> , 3 ")
    assert (rule.metric, rule.comparison, rule.patience, str(rule)) == ("val_acc", "~>", 3, "val_acc,~>,3")
    target = TargetMetric.of("loss,<,1e-3")
    assert (target.metric, target.comparison, target.target) == ("loss", "<", 1e-3)
    assert [str(rule) for rule in stopping_rules("loss,<,2", target)] == ["loss,<,2", "loss,<,0.001"]
    assert stopping_rules(None, None) == []


@pytest.mark.parametrize("text", ["", "val_loss", "val_loss,<", "val_loss,<,", ",<,4", "val_loss,<,4,5", 4])
def test_malformed_texts_show_an_example(text: Any) -> None:
    with pytest.raises(
        OptionsError, match=r"--early-stopping .*expected metric,comparison,patience, quoted, such as 'val_loss,~<,4'"
    ):
        EarlyStopping.of(text)
    with pytest.raises(
        OptionsError, match=r"--target-metric .*expected metric,comparison,number, quoted, such as 'val_acc,>,0.97'"
    ):
        TargetMetric.of(text)


@pytest.mark.parametrize(
    ("kind", "text", "said"),
    [
        (EarlyStopping, "val_loss,=,4", "'=' is none of <, >, ~<, ~>"),
        (EarlyStopping, "val_loss,<=,4", "'<=' is none of"),
        (EarlyStopping, "val_loss,<,0", "at least 1, not 0"),
        (EarlyStopping, "val_loss,<,2.5", "whole number, at least 1, not '2.5'"),
        (EarlyStopping, "val_loss,>,2", "val_loss is better when it is smaller: write 'val_loss,<,2'"),
        (EarlyStopping, "accuracy,~<,3", "acc is better when it is larger: write 'acc,~>,3'"),
        (TargetMetric, "val_acc,~>,0.9", "'~>' is none of"),
        (TargetMetric, "val_acc,>,high", "finite number, not 'high'"),
        (TargetMetric, "val_acc,>,nan", "finite number, not nan"),
    ],
)
def test_wrong_parts_are_named(kind: Any, text: str, said: str) -> None:
    with pytest.raises(OptionsError) as refused:
        kind.of(text)
    assert said in str(refused.value) and kind.flag in str(refused.value)


def test_a_figure_that_is_not_computed() -> None:
    EarlyStopping.of("val_accuracy,>,2").check(("loss", "acc", "val_loss", "val_acc"))
    with pytest.raises(OptionsError, match="--target-metric val_f1: not measured: choose one of loss, acc, val_loss"):
        TargetMetric.of("val_f1,>,1").check(("loss", "acc", "val_loss", "val_acc"))
