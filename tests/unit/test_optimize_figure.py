"""The figure of merit: its text, which of two values is the better one, and what is refused."""

from __future__ import annotations

import math

import pytest

from nnlo.errors import OptionsError
from nnlo.optimize.figure import FigureOfMerit

MEASURED = ("loss", "acc", "val_loss", "val_acc")
LOSS, ACCURACY = FigureOfMerit.of("val_loss,min"), FigureOfMerit.of("val_acc,max")
NOT_FINITE = (math.nan, math.inf, -math.inf)


@pytest.mark.parametrize(
    ("text", "name", "mode"),
    [
        ("val_loss,min", "val_loss", "min"),
        (" val_acc , max ", "val_acc", "max"),
        ("val_accuracy", "val_acc", "max"),
        ("accuracy,max", "acc", "max"),
        ("loss", "loss", "min"),
        ("val_top5", "val_top5", "max"),
        ("val_f1,max", "val_f1", "max"),
        ("val_distance,min", "val_distance", "min"),
    ],
)
def test_texts(text: str, name: str, mode: str) -> None:
    figure = FigureOfMerit.of(text)
    assert (figure.name, figure.mode, str(figure)) == (name, mode, f"{name},{mode}")
    assert FigureOfMerit.of(str(figure)) == figure


def test_the_default_is_the_validation_loss() -> None:
    assert str(FigureOfMerit.of()) == "val_loss,min"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "'': expected metric,min or metric,max, such as 'val_loss,min'"),
        ("val_loss,", "expected metric,min or metric,max"),
        (",min", "expected metric,min or metric,max"),
        ("val_loss,min,3", "expected metric,min or metric,max"),
        ("val_loss,<", "unknown direction '<': choose one of min, max"),
        ("val_f1", "is less of it better, or more? give val_f1,min or val_f1,max"),
        ("val_loss,max", "val_loss,max: max looks for the worst val_loss: write 'val_loss,min'"),
        ("val_accuracy,min", "val_acc,min: min looks for the worst val_acc: write 'val_acc,max'"),
    ],
)
def test_texts_that_are_refused(text: str, said: str) -> None:
    with pytest.raises(OptionsError) as refused:
        FigureOfMerit.of(text)
    assert said in str(refused.value) and str(refused.value).startswith("--figure-of-merit")


def test_a_figure_that_the_run_does_not_measure() -> None:
    FigureOfMerit.of("val_accuracy").check(MEASURED)
    with pytest.raises(OptionsError) as refused:
        FigureOfMerit.of("val_f1,max").check(MEASURED)
    assert str(refused.value) == ("--figure-of-merit val_f1: not measured: choose one of loss, acc, val_loss, val_acc")
    with pytest.raises(OptionsError, match="not measured: choose one of loss, acc; val_ figures need --val-data"):
        LOSS.check(("loss", "acc"))


def test_less_of_a_cost_is_better() -> None:
    assert (LOSS.cost(0.25), LOSS.cost(-3.0), LOSS.cost(0.0)) == (0.25, -3.0, 0.0)
    assert (ACCURACY.cost(0.25), ACCURACY.cost(-3.0), ACCURACY.cost(0.0)) == (-0.25, 3.0, 0.0)
    assert all(math.isnan(figure.cost(value)) for figure in (LOSS, ACCURACY) for value in NOT_FINITE)


def test_the_better_one_of_two_values() -> None:
    for figure, good, bad in ((LOSS, 0.0, 0.5), (ACCURACY, 0.5, 0.0)):
        assert figure.better(good, bad) and not figure.better(bad, good) and not figure.better(good, good)
        for value in NOT_FINITE:
            assert figure.better(bad, value) and not figure.better(value, bad)
            assert not any(figure.better(value, other) for other in NOT_FINITE)


def test_a_target_is_reached_by_what_is_as_good() -> None:
    for figure, good, bad in ((LOSS, 0.0, 0.5), (ACCURACY, 0.5, 0.0)):
        assert figure.reaches(good, good) and figure.reaches(good, bad) and not figure.reaches(bad, good)
        assert not any(figure.reaches(value, bad) for value in NOT_FINITE)


def test_the_figure_of_an_epoch() -> None:
    assert LOSS.value_of({"epoch": 1, "loss": 0.5, "val_loss": 0.0, "val_acc": 1.0}) == 0.0
    assert ACCURACY.value_of({"epoch": 1, "loss": 0.5, "val_loss": 0.0, "val_acc": 1.0}) == 1.0
    assert math.isnan(LOSS.value_of({"epoch": 1, "loss": 0.5}))
    assert math.isnan(LOSS.value_of({"epoch": 1, "val_loss": None}))
