"""What every searcher must do, in one table; random and grid search against their definitions."""

from __future__ import annotations

import itertools
import json
import math
from statistics import median
from typing import Any

import numpy as np
import pytest

from nnlo.errors import OptionsError
from nnlo.optimize.dimensions import Categorical, Integer, Real
from nnlo.optimize.searchers import SEARCHERS
from nnlo.optimize.searchers.grid import Grid
from nnlo.optimize.searchers.random import Random
from nnlo.optimize.space import Space
from nnlo.optimize.trial import Parameters
from tests.searching import MIXED, ROWS, SQUARE, Cost, points, quadratic, search, searcher_of

FEW = Space([Integer("layers", 1, 3), Categorical("kind", ("a", "b", "c")), Categorical("fixed", (0,))])
"""A space of 9 points."""

TRIALS = 10
table = pytest.mark.parametrize(("name", "settings"), ROWS)


def cost_of(point: Parameters) -> float:
    """Negative, zero and positive ones; some points fail."""
    return math.log10(point["lr"]) + point["width"] / 10 if point["width"] % 5 else math.nan


def test_names() -> None:
    assert list(SEARCHERS) == ["bayesian", "genetic", "grid", "optuna", "random"]
    with pytest.raises(OptionsError, match="--hyper-opt: unknown searcher 'bayes': choose one of bayesian, genetic"):
        SEARCHERS["bayes"]


@table
def test_points_lie_in_the_space_and_are_what_json_keeps(name: str, settings: dict[str, Any]) -> None:
    for point in points(search(searcher_of(name, settings, MIXED, TRIALS), cost_of, TRIALS)):
        MIXED.check(point)
        assert list(point) == list(MIXED.names)
        assert {type(value) for value in point.values()} <= {int, float, str, bool, type(None)}
        assert json.loads(json.dumps(point)) == point


@table
def test_an_answer_depends_on_what_is_given_alone(name: str, settings: dict[str, Any]) -> None:
    """Asked in any order, twice, or of a searcher made afresh: as of a search that goes on from its record."""
    one = searcher_of(name, settings, MIXED, TRIALS)
    askings = search(one, cost_of, TRIALS)
    for asking in [*reversed(askings), *askings[::3]]:
        assert one.ask(asking.number, asking.ended, asking.running) == asking.answer
    for asking in askings[::4]:
        fresh = searcher_of(name, settings, MIXED, TRIALS)
        assert fresh.ask(asking.number, list(asking.ended), list(asking.running)) == asking.answer


@table
def test_another_seed_gives_other_points(name: str, settings: dict[str, Any]) -> None:
    if name == "grid":
        pytest.skip("a grid draws nothing")
    first, second = (
        points(search(searcher_of(name, settings, MIXED, TRIALS, seed), cost_of, TRIALS)) for seed in (1, 2)
    )
    assert not any(a == b for a, b in zip(first, second, strict=True))


@table
def test_no_point_is_tried_twice_while_there_are_others(name: str, settings: dict[str, Any]) -> None:
    tried = points(search(searcher_of(name, settings, FEW, 9), lambda point: float(point["layers"]), 9))
    assert len({json.dumps(point) for point in tried}) == FEW.size == 9


@table
def test_a_search_longer_than_its_space_goes_on(name: str, settings: dict[str, Any]) -> None:
    for point in points(search(searcher_of(name, settings, FEW, 12), lambda point: -1.0, 12)):
        FEW.check(point)


@pytest.mark.parametrize(
    "cost", [lambda point: None, lambda point: math.nan, lambda point: math.inf, lambda point: 7.0]
)
@table
def test_failed_trials_and_equal_costs_stop_nothing(name: str, settings: dict[str, Any], cost: Cost) -> None:
    for point in points(search(searcher_of(name, settings, MIXED, TRIALS), cost, TRIALS)):
        MIXED.check(point)


@table
def test_how_many_trials_there_are(name: str, settings: dict[str, Any]) -> None:
    wanted = {"grid": 9, "genetic": 25 * settings.get("population", 0)}.get(name, 25)
    assert SEARCHERS[name](FEW, 0, 25, **settings).trials == wanted


def best_of_random(seed: int) -> float:
    return min(map(quadratic, points(search(Random(SQUARE, seed, 30), quadratic, 30))))


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(("name", "settings"), [row for row in ROWS if row.id in ("genetic", "bayesian", "tpe")])
def test_those_that_learn_are_better_than_chance(name: str, settings: dict[str, Any], seed: int) -> None:
    chance = median(best_of_random(seed) for seed in range(25))
    assert min(map(quadratic, points(search(searcher_of(name, settings, SQUARE, 30, seed), quadratic, 30)))) < chance


def test_random_points_are_uniform_and_a_trial_has_its_own() -> None:
    random = Random(SQUARE, 5, 400)
    units = np.array([SQUARE.to_unit(random.ask(number, [], [])) for number in range(400)])
    for column in units.T:  # the distance of Kolmogorov and Smirnov, at a level of 0.001
        assert np.abs(np.sort(column) - (np.arange(400) + 0.5) / 400).max() < 1.95 / math.sqrt(400)
    assert abs(np.corrcoef(units.T)[0, 1]) < 0.15


def test_the_grid_is_the_product_of_its_axes_the_last_one_fastest() -> None:
    space = Space(
        [Categorical("kind", ("b", None)), Real("lr", 1e-3, 1e-1, True), Integer("k", 1, 2), Categorical("one", (7,))]
    )
    grid = Grid(space, 0, 1000, points=3)
    wanted = [list(row) for row in itertools.product(["b", None], [1e-3, 1e-2, 1e-1], [1, 2], [7])]
    found = [list(grid.ask(number, [], []).values()) for number in range(grid.trials)]
    assert [[row[0], *row[2:]] for row in found] == [[row[0], *row[2:]] for row in wanted]
    assert [row[1] for row in found] == pytest.approx([row[1] for row in wanted])
    assert (grid.size, grid.trials, Grid(space, 0, 5, points=3).trials) == (12, 12, 5)


def test_a_grid_has_five_values_of_a_real_and_at_least_its_two_ends() -> None:
    assert Grid(SQUARE, 0, 1000).size == 25
    with pytest.raises(OptionsError, match="--grid-points must be at least 2"):
        Grid(SQUARE, 0, 10, points=1)
