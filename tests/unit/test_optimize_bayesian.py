"""Bayesian search: its first points, what the Gaussian process is told, and that it is never asked in vain."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import skopt

from nnlo.errors import OptionsError
from nnlo.optimize.dimensions import Categorical, Integer, Real
from nnlo.optimize.searchers import Asked, Told
from nnlo.optimize.searchers.bayesian import Bayesian
from nnlo.optimize.space import Space
from tests.searching import MIXED, SQUARE, points, quadratic, search, told

COSTS = [3.0, None, math.nan, -1.0, math.inf, 0.5]


def some(costs: list[float | None], space: Space) -> list[Told]:
    return told(costs, space, np.random.default_rng(0).random((len(costs), len(space.names))))


class Recorder:
    """In the place of skopt.Optimizer: keeps what it is given, and wants to try `wanted`."""

    wanted: list[Any]

    def __init__(self, dimensions: list[Any], **settings: Any) -> None:
        Recorder.dimensions, Recorder.settings = dimensions, settings

    def tell(self, known: list[list[Any]], costs: list[float]) -> None:
        Recorder.told = list(zip(known, costs, strict=True))

    def ask(self) -> list[Any]:
        return Recorder.wanted


def test_the_first_points_fill_the_space() -> None:
    """The first 8 points of a Sobol sequence have one in each eighth of every axis, wherever the eighths begin."""
    bayesian = Bayesian(Space([Real(name, 0, 1) for name in "abcde"]), 7, 100)
    units = np.array([list(bayesian.ask(number, [], []).values()) for number in range(8)])
    for column in np.sort(units, axis=0).T:
        assert np.diff([*column, column[0] + 1]) == pytest.approx(1 / 8, abs=1e-8)
    assert np.linalg.matrix_rank(units - units[0]) == 5


@pytest.mark.parametrize(("iterations", "designed"), [(1, 1), (2, 1), (7, 3), (20, 10), (500, 10)])
def test_they_are_ten_or_half_of_a_short_search(iterations: int, designed: int) -> None:
    assert Bayesian(SQUARE, 0, iterations).designed == designed


def test_the_process_comes_after_them_and_needs_a_trial_that_succeeded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(skopt, "Optimizer", Recorder)
    Recorder.wanted = [0.125, 0.25]
    bayesian, wanted = Bayesian(SQUARE, 0, 8), {"x": 0.125, "y": 0.25}
    assert bayesian.ask(3, some([1.0], SQUARE), []) == bayesian.ask(3, [], []) != wanted
    assert bayesian.ask(4, some([None, math.nan], SQUARE), []) == bayesian.ask(4, [], []) != wanted
    assert bayesian.ask(4, some([None, 1.0], SQUARE), []) == wanted


def test_what_the_process_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Failed trials cost as much as the worst; a choice is told by its place. The kernel is fitted once."""
    monkeypatch.setattr(skopt, "Optimizer", Recorder)
    Recorder.wanted = [0.01, np.int64(5), np.int64(64), np.int64(2)]
    ended = some(COSTS, MIXED)
    running = [Asked(number, MIXED.sample(np.random.default_rng(number)), 0) for number in (6, 7)]
    found = Bayesian(MIXED, 0, 12).ask(8, ended, running)
    assert found == {"lr": 0.01, "width": 5, "batch": 64, "optimizer": True}
    assert [type(value) for value in found.values()] == [float, int, int, bool]
    assert [cost for _, cost in Recorder.told][:6] == [3.0, 3.0, 3.0, -1.0, 3.0, 0.5]
    assert Recorder.settings["acq_func"] == "EI" and Recorder.settings["base_estimator"].optimizer is None
    kinds = ("sgd", None, True, 0.5)
    for (values, _), one in zip(Recorder.told, [*ended, *running], strict=True):
        assert [*values[:3], kinds[values[3]]] == list(one.parameters.values())
    assert [(type(one).__name__, one.bounds, one.prior) for one in Recorder.dimensions] == [
        ("Real", (1e-5, 1e-1), "log-uniform"),
        ("Integer", (2, 40), "uniform"),
        ("Integer", (8, 512), "log-uniform"),
        ("Categorical", (0, 1, 2, 3), None),
    ]


def test_a_running_trial_counts_as_what_is_expected_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a smooth function that is known all around, that is about its value."""
    monkeypatch.setattr(skopt, "Optimizer", Recorder)
    Recorder.wanted = [0.125, 0.25]
    units = [[x, y] for x in np.linspace(0, 1, 5) for y in np.linspace(0, 1, 5)]
    ended = [Told(n, SQUARE.from_unit(np.array(unit)), 0, cost=0.0) for n, unit in enumerate(units)]
    ended = [replace(one, cost=quadratic(one.parameters)) for one in ended]
    running = [Asked(25 + n, SQUARE.from_unit(np.array(unit)), 0) for n, unit in enumerate(([0.6, 0.3], [0.1, 0.9]))]
    Bayesian(SQUARE, 0, 40).ask(30, ended, running)
    expected = [cost for _, cost in Recorder.told[-2:]]
    assert expected == pytest.approx([quadratic(one.parameters) for one in running], rel=0.05, abs=0.02)


def test_a_known_point_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(skopt, "Optimizer", Recorder)
    ended = some([1.0, 2.0], SQUARE)
    Recorder.wanted = list(ended[0].parameters.values())
    found = Bayesian(SQUARE, 0, 4).ask(2, ended, [])
    SQUARE.check(found)
    assert found not in [one.parameters for one in ended]


def test_a_running_trial_sends_the_next_one_elsewhere() -> None:
    bayesian = Bayesian(SQUARE, 1, 12)
    ended = some([1.0, 5.0, 2.0, 4.0, 3.0, 2.5], SQUARE)
    first = bayesian.ask(7, ended, [])
    second = bayesian.ask(7, ended, [Asked(6, first, 6)])
    assert np.abs(SQUARE.to_unit(first) - SQUARE.to_unit(second)).max() > 0.01


def test_nothing_is_said_of_a_space_that_is_tried_to_the_full(recwarn: pytest.WarningsRecorder) -> None:
    space = Space([Integer("k", 1, 3), Categorical("one", (None,))])
    search(Bayesian(space, 0, 6), lambda point: float(point["k"]), 6)
    assert [str(one.message) for one in recwarn] == []


def test_it_closes_in_on_the_minimum() -> None:
    tried = points(search(Bayesian(SQUARE, 2, 24), quadratic, 24, blocks=1))
    assert min(map(quadratic, tried[10:])) < min(min(map(quadratic, tried[:10])) / 10, 1e-2)


def test_more_dimensions_than_a_process_can_learn() -> None:
    with pytest.raises(OptionsError, match="--hyper-opt bayesian searches at most 40 parameters, not 41"):
        Bayesian(Space([Real(f"x{k}", 0, 1) for k in range(41)]), 0, 10)
    assert len(Bayesian(Space([Real(f"x{k}", 0, 1) for k in range(40)]), 0, 10).ask(0, [], [])) == 40
