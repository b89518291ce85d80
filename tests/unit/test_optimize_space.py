"""Search spaces: what a uniform draw becomes, that nothing is lost on the way, and what is refused."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnlo.errors import OptionsError
from nnlo.optimize.dimensions import Categorical, Dimension, Integer, Real
from nnlo.optimize.space import Space

MIXED: tuple[Any, ...] = ("sgd", None, True, 0.5, 3)
PLACES = st.floats(0, 1)


def space() -> Space:
    return Space(
        [Real("lr", 1e-4, 1e-1, log=True), Integer("kernel-size", 2, 7), Categorical("kind", MIXED), Real("x", -1, 3)]
    )


@st.composite
def ranges(draw: Any) -> Integer:
    log = draw(st.booleans())
    low = draw(st.integers(1 if log else -(2**40), 2**40 - 1))
    return Integer("k", low, draw(st.integers(low + 1, 2**40)), log)


@given(place=PLACES, low=st.floats(-1e6, 1e6), width=st.floats(1e-6, 1e6))
def test_a_real_is_as_far_from_its_ends_as_its_place(place: float, low: float, width: float) -> None:
    real = Real("x", low, low + width)
    assert real.from_unit(place) == pytest.approx(low + place * (real.high - low), rel=1e-12, abs=1e-9)
    assert (real.from_unit(0.0), real.from_unit(1.0)) == (real.low, real.high)
    assert real.low <= real.from_unit(place) <= real.high


@given(place=PLACES)
def test_a_real_on_a_log_scale_multiplies_by_as_much_over_equal_steps(place: float) -> None:
    real = Real("lr", 1e-5, 1e-1, log=True)
    assert math.log10(real.from_unit(place)) == pytest.approx(-5 + 4 * place, abs=1e-12)
    assert (real.from_unit(0.0), real.from_unit(1.0)) == (1e-5, 1e-1)
    assert real.to_unit(real.from_unit(place)) == pytest.approx(place, abs=1e-12)


@pytest.mark.parametrize("log", [False, True])
def test_integers_share_the_unit_interval(log: bool) -> None:
    """Each owns what lies between k - 1/2 and k + 1/2, as measured by its length or by the ratio of its ends."""
    low, high = 1, 6
    measure = math.log if log else float
    edges = [measure(k - 0.5) for k in range(low, high + 2)]
    shares = np.diff(edges) / (edges[-1] - edges[0])
    grid = (np.arange(100_000) + 0.5) / 100_000
    integer = Integer("k", low, high, log)
    counts = np.bincount([integer.from_unit(place) for place in grid], minlength=high + 1)[low:]
    assert counts / 100_000 == pytest.approx(shares, abs=2e-5)


@given(integer=ranges(), share=PLACES)
def test_an_integer_comes_back_from_its_place(integer: Integer, share: float) -> None:
    for value in (integer.low, integer.high, integer.low + int(share * (integer.size - 1))):
        assert 0 <= integer.to_unit(value) <= 1
        assert integer.from_unit(integer.to_unit(value)) == value
    assert integer.low <= integer.from_unit(share) <= integer.high


def test_choices_share_the_unit_interval_equally_and_come_back() -> None:
    one = Categorical("kind", MIXED)
    assert [one.from_unit(k / 10) for k in range(11)] == [choice for choice in MIXED for _ in range(2)] + [MIXED[-1]]
    assert [one.from_unit(one.to_unit(choice)) for choice in MIXED] == list(MIXED)


@pytest.mark.parametrize(
    ("dimension", "points", "wanted"),
    [
        (Real("x", -1, 3), 5, [-1, 0, 1, 2, 3]),
        (Real("x", 0.1, 0.7), 2, [0.1, 0.7]),
        (Real("x", 1e-4, 1.0, True), 5, [1e-4, 1e-3, 1e-2, 1e-1, 1.0]),
        (Integer("k", 2, 7), 6, [2, 3, 4, 5, 6, 7]),
        (Integer("k", 2, 7), 3, [2, 5, 7]),
        (Integer("k", 1, 1000, True), 4, [1, 10, 100, 1000]),
        (Integer("k", 1, 6, True), 5, [1, 2, 4, 6]),
        (Categorical("kind", MIXED), 2, list(MIXED)),
    ],
)
def test_grids_are_even_from_end_to_end_and_have_nothing_twice(
    dimension: Dimension, points: int, wanted: list[Any]
) -> None:
    found = dimension.grid(points)
    assert {type(value) for value in found} <= {int, float, str, bool, type(None)}
    if isinstance(dimension, Real):
        assert found == pytest.approx(wanted, rel=1e-12)
        assert (found[0], found[-1]) == (wanted[0], wanted[-1])
    else:
        assert list(found) == wanted


def test_draws_are_uniform_in_the_unit_cube_and_come_back() -> None:
    rng, units = np.random.default_rng(3), []
    for _ in range(2000):
        point = space().sample(rng)
        again = space().from_unit(space().to_unit(point))
        assert [again[name] for name in ("kernel_size", "kind")] == [point[name] for name in ("kernel_size", "kind")]
        assert [again[name] for name in ("lr", "x")] == pytest.approx([point[name] for name in ("lr", "x")], rel=1e-12)
        units.append(space().to_unit(point))
    assert np.mean(units, axis=0) == pytest.approx(0.5, abs=0.03)
    assert np.var(units, axis=0) == pytest.approx([1 / 12, (1 - 1 / 36) / 12, (1 - 1 / 25) / 12, 1 / 12], rel=0.08)


def test_a_place_outside_the_cube_is_the_nearest_point_of_it() -> None:
    low, high = (space().from_unit(np.full(4, place)) for place in (-0.5, 1.5))
    assert low == {"lr": 1e-4, "kernel_size": 2, "kind": "sgd", "x": -1.0}
    assert high == {"lr": 1e-1, "kernel_size": 7, "kind": 3, "x": 3.0}


def test_values_are_those_that_json_keeps() -> None:
    rng = np.random.default_rng(1)
    for _ in range(100):
        point = space().sample(rng)
        assert json.loads(json.dumps(point)) == point
        assert [type(value) for value in json.loads(json.dumps(point)).values()] == [type(v) for v in point.values()]
        space().check(json.loads(json.dumps(point)))


def test_sizes() -> None:
    assert space().size is None
    assert Space([Integer("a", 2, 7), Categorical("b", MIXED), Categorical("c", (1,))]).size == 6 * 5


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"lr": 0.2}, "lr must be a number from 0.0001 to 0.1, not 0.2"),
        ({"lr": math.nan}, "lr must be a number"),
        ({"x": True}, "x must be a number"),
        ({"kernel_size": 2.0}, "kernel_size must be a whole number from 2 to 7, not 2.0"),
        ({"kernel_size": 8}, "kernel_size must be a whole number"),
        ({"kernel_size": True}, "kernel_size must be a whole number"),
        ({"kind": 1}, "kind must be one of 'sgd', None, True, 0.5, 3, not 1"),
        ({"momentum": 0.9}, "momentum is not searched: the search is over lr, kernel_size, kind, x"),
    ],
)
def test_what_is_no_point_of_the_space(changes: dict[str, Any], said: str) -> None:
    point = {"lr": 1e-2, "kernel_size": 3, "kind": None, "x": 1}
    space().check(point)
    with pytest.raises(OptionsError) as refused:
        space().check({**point, **changes})
    assert said in str(refused.value)
    with pytest.raises(OptionsError, match="x is missing"):
        space().check({name: value for name, value in point.items() if name != "x"})


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: Real("lr", 1, 1), "lr: low must be below high, but 1.0 is not below 1.0"),
        (lambda: Integer("k", 7, 2), "k: low must be below high, but 7 is not below 2"),
        (lambda: Real("lr", 0, 1, True), "lr: log needs a low above 0, not 0.0: raise it, or drop log"),
        (lambda: Integer("k", -2, 2, True), "k: log needs a low above 0, not -2"),
        (lambda: Real("lr", "small", 1), "lr: low must be a finite number, not 'small'"),
        (lambda: Real("lr", 0, math.inf), "lr: high must be a finite number, not inf"),
        (lambda: Real("lr", False, 1), "lr: low must be a finite number, not False"),
        (lambda: Real("lr", 0.1, 1, "yes"), "lr: log must be true or false, not 'yes'"),
        (lambda: Integer("k", 1.5, 3), "k: low must be a whole number, not 1.5: or make it real"),
        (lambda: Integer("k", 1, 2**41), "k: high must be within 2^40 of 0"),
        (lambda: Categorical("kind", ()), "kind: choices must be a list of at least one, not ()"),
        (lambda: Categorical("kind", "sgd"), "kind: choices must be a list of at least one, not 'sgd'"),
        (lambda: Categorical("kind", (1, "1", 1.0)), "kind: the choices 1 and 1.0 are the same: drop one"),
        (lambda: Categorical("kind", (1, True)), "kind: the choices 1 and True are the same"),
        (lambda: Categorical("kind", ((3, 3),)), "kind: a choice must be a finite number, a text, true, false or null"),
        (lambda: Categorical("kind", (math.nan,)), "kind: a choice must be a finite number"),
        (lambda: Real("learning rate", 0, 1), "'learning rate' is no name of a parameter"),
        (lambda: Real(3, 0, 1), "3 is no name of a parameter"),
        (lambda: Space([]), "nothing to search"),
        (lambda: Space([Real("a-b", 0, 1), Real("a_b", 0, 1)]), "a_b is there twice (- and _ are the same)"),
    ],
)
def test_what_cannot_be_searched(build: Any, said: str) -> None:
    with pytest.raises(OptionsError) as refused:
        build()
    assert said in str(refused.value)


def test_spaces_that_are_the_same_differ_in_nothing() -> None:
    assert space().names == ("lr", "kernel_size", "kind", "x")
    assert space().differences(json.loads(json.dumps(space().recorded()))) == []
    assert space().recorded()[:2] == [
        {"name": "lr", "type": "real", "low": 1e-4, "high": 1e-1, "log": True},
        {"name": "kernel_size", "type": "integer", "low": 2, "high": 7, "log": False},
    ]


@pytest.mark.parametrize(
    ("dimensions", "said"),
    [
        ([Real("a", 0, 2), Integer("b", 1, 3)], ["a: high is 2.0 (was 1.0)"]),
        ([Real("a", 0.5, 1, True), Integer("b", 1, 3)], ["a: low is 0.5 (was 0.0)", "a: log is true (was false)"]),
        ([Categorical("a", (1,)), Integer("b", 1, 3)], ['a: type is "categorical" (was "real")']),
        ([Real("a", 0, 1), Real("c", 0, 1)], ["c is new", "b is gone"]),
        ([Integer("b", 1, 3), Real("a", 0, 1)], ["the order is b, a (was a, b)"]),
    ],
)
def test_differences_are_named(dimensions: list[Dimension], said: list[str]) -> None:
    before = Space([Real("a", 0, 1), Integer("b", 1, 3)]).recorded()
    assert Space(dimensions).differences(json.loads(json.dumps(before))) == said


def test_equal_choices_of_another_type_are_a_difference() -> None:
    before = Space([Categorical("a", (1, "x"))]).recorded()
    assert Space([Categorical("a", (True, "x"))]).differences(before) == ['a: choices is [true, "x"] (was [1, "x"])']


def test_a_space_loads_nothing_slow() -> None:
    program = "import sys, nnlo.optimize.space_file, nnlo.optimize.space_skopt, nnlo.optimize.searchers;"
    slow = ("skopt", "sklearn", "scipy", "optuna")
    done = subprocess.run([sys.executable, "-c", f"{program} sys.exit(any(m in sys.modules for m in {slow}))"])
    assert done.returncode == 0
