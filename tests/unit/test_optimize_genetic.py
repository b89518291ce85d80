"""Genetic search against its equations: the population, crossover and mutation."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnlo.errors import OptionsError
from nnlo.optimize.dimensions import Categorical, Integer, Real
from nnlo.optimize.searchers import Told
from nnlo.optimize.searchers.genetic import Genetic, parents
from nnlo.optimize.space import Space
from tests.searching import MIXED, SQUARE, points, quadratic, search, told

CHOICES = Space([Categorical("kind", tuple("abcde")), Real("x", 0, 1), Integer("k", 0, 9)])


def trials(costs: list[float | None]) -> list[Told]:
    return told(costs, SQUARE, np.random.default_rng(0).random((len(costs), 2)))


@given(
    costs=st.lists(st.sampled_from([None, math.nan, -2.0, -1.0, 0.0, 1.0, 2.0]), max_size=20),
    population=st.integers(2, 12),
)
def test_the_population_is_the_elite_and_those_that_ended_last(costs: list[float | None], population: int) -> None:
    ended = trials(costs)
    good = [one for one in ended if one.cost is not None and not math.isnan(one.cost)]
    elite = sorted(good, key=lambda one: (one.cost, one.number))[: max(1, population // 5)]
    others = [one for one in good[::-1] if one not in elite]
    found = [one for _, one in Genetic(SQUARE, 0, 5, population=population).members(ended)]
    assert found == (elite + others)[:population]


def test_the_best_never_worsens() -> None:
    genetic = Genetic(SQUARE, 4, 8, population=4)
    bests = [
        min(cost for cost, _ in genetic.members(asking.ended))
        for asking in search(genetic, quadratic, genetic.trials)
        if asking.ended
    ]
    assert bests == sorted(bests, reverse=True) and bests[-1] < bests[0]


def test_the_first_generation_is_random_and_so_is_a_child_without_two_parents() -> None:
    genetic = Genetic(SQUARE, 4, 8, population=4)
    crowd = trials([1.0, 2.0, 3.0])
    alone = trials([None, 2.0, None])
    assert genetic.ask(3, crowd, []) == genetic.ask(3, [], [])
    assert genetic.ask(4, alone, []) == genetic.ask(4, [], [])
    assert genetic.ask(4, crowd, []) != genetic.ask(4, [], [])


def test_parents_win_tournaments_of_two_and_are_two() -> None:
    """Of 4 the best wins 1/2 of the first tournaments, the second best 1/3, the third 1/6, the worst none."""
    members = [(cost, one) for one in trials([3.0, -1.0, 0.0, 2.0]) if (cost := one.cost) is not None]
    rng, pairs = np.random.default_rng(1), []
    for _ in range(6000):
        better, worse = parents(rng, members)
        assert better[0] < worse[0]
        pairs.append((better[1].number, worse[1].number))
    order = [1, 2, 3, 0]  # from the best to the worst

    def chance(first: int, rest: list[int]) -> float:
        """That it wins a tournament among the `rest`, given by rising cost."""
        duels = list(itertools.combinations(rest, 2))
        return sum(duel[0] == first for duel in duels) / len(duels)

    for one, other in itertools.combinations(order, 2):
        wanted = sum(
            chance(a, order) * chance(b, [c for c in order if c != a]) for a, b in ((one, other), (other, one))
        )
        assert pairs.count((one, other)) / 6000 == pytest.approx(wanted, abs=0.025)


def test_two_members_are_both_parents() -> None:
    members = [(cost, one) for one in trials([3.0, -1.0]) if (cost := one.cost) is not None]
    for seed in range(20):
        assert [one.number for _, one in parents(np.random.default_rng(seed), members)] == [1, 0]


def test_a_child_lies_beyond_the_better_parent() -> None:
    genetic, rng = Genetic(CHOICES, 0, 5), np.random.default_rng(2)
    better, worse = np.array([0.1, 0.6, 0.7]), np.array([0.9, 0.4, 0.3])
    steps, kinds = [], []
    for _ in range(3000):
        child = genetic.crossed(rng, better, worse)
        step = (child[1] - better[1]) / (better[1] - worse[1])
        assert child[2] == pytest.approx(min(1.0, 0.7 + step * 0.4))  # one step for all genes, within the cube
        steps.append(step)
        kinds.append(child[0])
    assert 0 <= min(steps) < 0.01 and 0.99 < max(steps) < 1 and np.mean(steps) == pytest.approx(0.5, abs=0.02)
    assert set(kinds) == {0.1, 0.9} and kinds.count(0.1) / 3000 == pytest.approx(0.5, abs=0.04)


def test_a_child_of_the_same_parents_is_them() -> None:
    genetic = Genetic(CHOICES, 0, 5)
    for seed in range(20):
        parent = np.random.default_rng(seed).random(3)
        assert np.array_equal(genetic.crossed(np.random.default_rng(seed), parent, parent), parent)


@pytest.mark.parametrize("done", [0.0, 0.5, 0.9])
def test_mutation_goes_a_falling_share_of_the_way_to_either_end(done: float) -> None:
    """The share is 1 - r^e with e = (1 - done)^3: its distribution function is 1 - (1 - s)^(1/e)."""
    genetic, rng = Genetic(CHOICES, 0, 5), np.random.default_rng(3)
    genes, exponent = np.array([0.3, 0.25, 0.5]), (1 - done) ** 3
    found = np.array([genetic.mutated(rng, genes, done) for _ in range(4000)])
    for column in (1, 2):
        moves = found[:, column] - genes[column]
        shares = np.sort(np.where(moves > 0, moves / (1 - genes[column]), -moves / genes[column]))
        drawn = np.clip(1 - (1 - shares) ** (1 / exponent), 0, 1)
        assert np.abs(drawn - (np.arange(4000) + 0.5) / 4000).max() < 1.95 / math.sqrt(4000)
        assert np.mean(moves > 0) == pytest.approx(0.5, abs=0.03)
    other = found[:, 0] != genes[0]  # the mean of 1 - r^e is e / (1 + e)
    assert np.mean(other) == pytest.approx(exponent / (1 + exponent), abs=0.03)
    kinds = [CHOICES.from_unit(row)["kind"] for row in found[other]]
    assert {kind: kinds.count(kind) / len(kinds) for kind in "acde"} == pytest.approx(
        dict.fromkeys("acde", 0.25), abs=3 * math.sqrt(0.19 / len(kinds))
    )
    assert "b" not in kinds


def test_at_the_end_nothing_mutates() -> None:
    genetic = Genetic(CHOICES, 0, 5)
    for seed in range(20):
        genes = np.random.default_rng(seed).random(3)
        assert np.array_equal(genetic.mutated(np.random.default_rng(seed), genes, 1.0), genes)


def test_a_trial_mutates_by_the_share_of_generations_that_are_over(monkeypatch: pytest.MonkeyPatch) -> None:
    genetic, seen = Genetic(SQUARE, 0, 4, population=5), []

    def child(rng: Any, members: Any, done: float) -> Any:
        seen.append(done)
        return np.full(2, 0.5)

    monkeypatch.setattr(genetic, "child", child)
    for number in (5, 9, 10, 19):
        genetic.ask(number, trials([1.0, 2.0]), [])
    assert seen == [0.25, 0.25, 0.5, 0.75]


def test_a_child_that_is_known_is_bred_again_and_then_drawn_at_random(monkeypatch: pytest.MonkeyPatch) -> None:
    genetic, bred = Genetic(SQUARE, 0, 4, population=5), []
    ended = trials([1.0, 2.0])

    def child(rng: Any, members: Any, done: float) -> Any:
        bred.append(done)
        return SQUARE.to_unit(ended[0].parameters)

    monkeypatch.setattr(genetic, "child", child)
    point = genetic.ask(5, ended, [])
    assert len(bred) == 10 and point not in [one.parameters for one in ended]


def test_two_are_a_population_and_one_is_none() -> None:
    assert all(MIXED.check(point) is None for point in points(search(Genetic(MIXED, 1, 10, population=2), cost, 20)))
    with pytest.raises(OptionsError, match="--ga-populations must be at least 2, for a child has two parents, not 1"):
        Genetic(SQUARE, 0, 10, population=1)


def cost(point: Any) -> float | None:
    return None if point["width"] % 2 else -point["lr"]
