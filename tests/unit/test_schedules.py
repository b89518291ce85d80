"""Schedules against their formulas, and what is refused of them."""

from __future__ import annotations

import math

import pytest

from nnlo.errors import OptionsError
from nnlo.optim import SCHEDULES, Schedule


def factors(schedule: Schedule, at: list[float], epochs: float = 8) -> list[float]:
    return [schedule.factor(epoch, epochs) for epoch in at]


def test_names() -> None:
    assert list(SCHEDULES) == ["constant", "cosine", "exponential", "step"]
    assert Schedule.of(None) == Schedule.of("constant")
    assert Schedule.of("step", {"by": 0.5}, 1).recorded() == {"name": "step", "warmup": 1.0, "every": 10.0, "by": 0.5}


def test_constant_is_one() -> None:
    assert factors(Schedule.of("constant"), [0, 0.3, 7.9]) == [1.0, 1.0, 1.0]


def test_step_falls_at_whole_multiples() -> None:
    step = Schedule.of("step", {"every": 2, "by": 0.5})
    assert factors(step, [0, 1.99, 2, 3.99, 4, 7]) == [1.0, 1.0, 0.5, 0.5, 0.25, 0.125]


def test_exponential_falls_by_its_factor_an_epoch_and_by_its_root_in_half_of_one() -> None:
    assert factors(Schedule.of("exponential", {"by": 0.25}), [0, 0.5, 1, 3]) == [1.0, 0.5, 0.25, 0.25**3]


def test_cosine_goes_from_one_to_its_end() -> None:
    assert factors(Schedule.of("cosine"), [0, 4, 8]) == pytest.approx([1.0, 0.5, 0.0])
    cosine = Schedule.of("cosine", {"end": 0.2})
    assert factors(cosine, [0, 2, 8, 9]) == pytest.approx([1.0, 0.2 + 0.8 * (1 + math.cos(math.pi / 4)) / 2, 0.2, 0.2])


@pytest.mark.parametrize(("name", "params"), [("constant", {}), ("step", {"every": 2, "by": 0.5}), ("cosine", {})])
def test_a_warm_up_goes_before_any_of_them(name: str, params: dict[str, float]) -> None:
    warm, plain = Schedule.of(name, params, warmup=2), Schedule.of(name, params)
    assert factors(warm, [0, 0.5, 1, 1.5]) == [0.0, 0.25, 0.5, 0.75]
    assert factors(warm, [2, 4.5, 7]) == factors(plain, [0, 2.5, 5], epochs=6)


def test_a_function_of_the_epoch() -> None:
    schedule = Schedule.of(lambda epoch: 1 / (1 + epoch)).checked(4)
    assert factors(schedule, [0, 1, 3]) == [1.0, 0.5, 0.25]
    assert "lambda" in schedule.recorded()["name"]
    assert Schedule.of(schedule) is schedule


@pytest.mark.parametrize(
    ("name", "params", "warmup", "parts"),
    [
        ("cosin", {}, 0, ["'cosin'", "cosine"]),
        ("step", {"every": 0}, 0, ["--schedule-params", "every", "above 0"]),
        ("step", {"by": -0.5}, 0, ["--schedule-params", "by", "above 0"]),
        ("exponential", {"by": 0}, 0, ["by must be above 0"]),
        ("exponential", {"by": 1e9}, 0, ["--schedule", "inf"]),
        ("cosine", {"end": -1}, 0, ["end must be at least 0"]),
        ("cosine", {"gamma": 1}, 0, ["no parameter 'gamma'", "it has end"]),
        ("constant", {}, -1, ["--warmup", "at least 0"]),
        ("constant", {}, 51, ["--warmup 51", "--epochs 50"]),
    ],
)
def test_what_never_ends_well_is_refused(name: str, params: dict[str, float], warmup: float, parts: list[str]) -> None:
    with pytest.raises(OptionsError) as refused:
        Schedule.of(name, params, warmup).checked(50)
    assert all(part in str(refused.value) for part in parts), str(refused.value)


def test_a_function_that_gives_no_number_is_refused() -> None:
    with pytest.raises(OptionsError, match="--schedule: the function gives None for epoch 0: it must return a number"):
        Schedule.of(lambda epoch: None).checked(2)


@pytest.mark.parametrize("wrong", [-0.5, math.nan, math.inf])
def test_a_function_that_goes_wrong_late_is_refused_before_training(wrong: float) -> None:
    schedule = Schedule.of(lambda epoch: 1.0 if epoch < 40 else wrong)
    schedule.checked(39)
    with pytest.raises(OptionsError, match="in epoch 40"):
        schedule.checked(50)
