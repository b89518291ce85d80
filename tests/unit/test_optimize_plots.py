"""The pictures of a search: what is on them, where it stands, and that it can be read."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nnlo.optimize.figure import FigureOfMerit
from nnlo.optimize.plots import View, draw
from nnlo.optimize.plots.looks import LOOKS
from nnlo.optimize.plots.model import dependences
from nnlo.optimize.plots.pictures import PICTURES
from nnlo.optimize.plots.scale import Scale
from nnlo.optimize.plots.ticks import log_ticks, shortened, ticks_of, with_ends, written
from nnlo.optimize.search import Stretch
from nnlo.optimize.space_file import dimension_of
from nnlo.optimize.trial import Status, Trial
from nnlo.training.plots.curves import head_lines
from nnlo.training.plots.style import sheet

figure_module = pytest.importorskip("matplotlib.figure")
to_hex = pytest.importorskip("matplotlib.colors").to_hex

LOSS, ACCURACY = FigureOfMerit.of("val_loss,min"), FigureOfMerit.of("val_acc,max")
DONE, PRUNED, FAILED, RESTING = Status.DONE, Status.PRUNED, Status.FAILED, Status.RESTING
LR = {"type": "real", "low": 1e-5, "high": 1e-1, "log": True}
CHOICE = {"type": "categorical", "choices": ["sgd", "adam", None, True]}
SPACE: dict[str, dict[str, Any]] = {
    "lr": LR,
    "momentum": {"type": "real", "low": 0.5, "high": 1.0},
    "optimizer": CHOICE,
    "layers": {"type": "integer", "low": 1, "high": 4},
}
LONG = {f"a_rather_long_name_of_a_hyperparameter_{at}": given for at, given in enumerate(SPACE.values())} | {
    "choices": {"type": "categorical", "choices": [f"a long choice, number {at}" for at in range(8)]},
    "many": {"type": "categorical", "choices": list(range(30))},
    "far": {"type": "integer", "low": 1, "high": 10**9, "log": True},
    "near": {"type": "real", "low": 0.9999, "high": 1.0},
}


def point(number: int, space: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Some point, another one for each number."""
    rng = np.random.default_rng(number)
    return {name: dimension_of(name, given).from_unit(float(rng.random())) for name, given in space.items()}


def view_of(
    *ended: tuple[Status, float | None],
    space: dict[str, dict[str, Any]] = SPACE,
    merit: FigureOfMerit = LOSS,
    blocks: int = 2,
) -> View:
    """Trial i runs on block i mod `blocks`, for 10 s each, side by side."""
    trials, stretches = [], []
    for number, (status, figure) in enumerate(ended):
        block, began = number % blocks, 10.0 * (number // blocks)
        common: dict[str, Any] = {"block": block, "figure": figure, "began": began, "seconds": 10.0}
        trials.append(Trial(number, point(number, space), status, **common))
        stretches.append(Stretch(block, number, began, began + 10.0, status))
    return View(trials, stretches, space, merit, "mnist")


MIXED = view_of(
    (DONE, 0.5), (PRUNED, 0.75), (FAILED, None), (DONE, 0.25), (RESTING, 0.125), (DONE, math.nan), (DONE, 1.0)
)


def figure_of(name: str, view: View) -> Any:
    figure = figure_module.Figure(figsize=PICTURES[name].inches(view))
    PICTURES[name].draw(figure, view)
    return figure


def lines_of(panel: Any) -> dict[str, list[tuple[float, float]]]:
    """What is drawn in a panel, by its label."""
    return {line.get_label(): list(zip(*map(list, line.get_data()), strict=True)) for line in panel.lines}


def markers_of(panel: Any) -> dict[str, str]:
    return {line.get_label(): line.get_marker() for line in panel.lines}


def legend_of(figure: Any) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


# The best figure over time.


def test_each_trial_is_a_dot_at_its_end_and_its_figure() -> None:
    """Two blocks: trials 0 and 1 end after 10 s, 2 and 3 after 20 s ..."""
    figure = figure_of("best.png", MIXED)
    (panel,) = figure.axes
    found = lines_of(panel)
    assert found["done (3)"] == [(10, 0.5), (20, 0.25), (40, 1.0)]
    assert found["pruned (1)"] == [(10, 0.75)] and found["resting (1)"] == [(30, 0.125)]
    assert [x for x, _ in found["failed or not finite (2)"]] == [20, 30]
    assert found["best so far of those done"] == [(10, 0.5), (20, 0.25), (40, 0.25)]
    assert found["best 0.2500 (trial 3)"] == [(20, 0.25)]
    assert set(legend_of(figure)) == set(found)
    assert (panel.get_xlabel(), panel.get_ylabel()) == ("seconds of the search", "val_loss")
    colors = {line.get_label().split(" (")[0]: to_hex(line.get_color()) for line in panel.lines}
    assert [colors[status] for status in ("done", "pruned", "resting", "failed or not finite")] == [
        to_hex(LOOKS[status].color) for status in (DONE, PRUNED, RESTING, FAILED)
    ]
    assert len(set(colors.values())) == 5  # the line and the ring have one


def test_all_dots_are_within_the_limits_and_the_failed_ones_at_the_worse_edge() -> None:
    for merit, sign in ((LOSS, 1), (ACCURACY, -1)):
        (panel,) = figure_of("best.png", replace(MIXED, merit=merit)).axes
        found = lines_of(panel)
        low, high = panel.get_ylim()
        left, right = panel.get_xlim()
        for x, y in itertools.chain(*found.values()):
            assert left < x < right and low < y < high
        known = [y for label, dots in found.items() if "finite" not in label for _, y in dots]
        assert all(sign * y > max(sign * one for one in known) for _, y in found["failed or not finite (2)"])
        shown = [tick for tick in panel.get_yticks() if low <= tick <= high]
        assert len(shown) > 3 and min(known) <= min(shown) and max(shown) <= max(known)


def test_without_failures_there_is_no_edge() -> None:
    (panel,) = figure_of("best.png", view_of((DONE, 1.0), (DONE, 2.0))).axes
    assert len(panel.patches) == 0 and panel.get_ylim() == pytest.approx((0.94, 2.06))


def test_where_none_is_done_the_best_is_among_all() -> None:
    found = lines_of(figure_of("best.png", view_of((PRUNED, 0.5), (RESTING, 0.75), (PRUNED, 0.25))).axes[0])
    assert found["best so far"] == [(10, 0.5), (20, 0.25), (20, 0.25)]


def test_a_trial_that_rested_came_to_its_figure_at_the_end_of_its_last_stretch() -> None:
    view = view_of((DONE, 0.5))
    more = [Stretch(1, 0, 100.0, 130.0, DONE), Stretch(0, 0, 50.0, 60.0, RESTING)]
    assert lines_of(figure_of("best.png", replace(view, stretches=[*view.stretches, *more])).axes[0])["done (1)"] == [
        (130, 0.5)
    ]
    assert lines_of(figure_of("best.png", replace(view, stretches=[])).axes[0])["done (1)"] == [(10, 0.5)]


def test_the_best_so_far_goes_by_the_time_and_a_tie_is_no_better() -> None:
    view = view_of((DONE, 0.25), (DONE, 0.5), (DONE, 0.25), (DONE, 0.75))
    ends = {0: 40.0, 1: 20.0, 2: 30.0, 3: 10.0}
    view = replace(view, stretches=[Stretch(0, number, 0.0, end, DONE) for number, end in ends.items()])
    (panel,) = figure_of("best.png", view).axes
    found = lines_of(panel)
    assert found["best so far"] == [(10, 0.75), (20, 0.5), (30, 0.25), (40, 0.25)]
    assert found["best 0.2500 (trial 0)"] == [(40, 0.25)]
    (line,) = (line for line in panel.lines if line.get_label() == "best so far")
    assert line.get_drawstyle() == "steps-post"


@pytest.mark.parametrize(
    ("seconds", "unit", "name"), [(200, 1, "seconds"), (600, 60, "minutes"), (9000, 3600, "hours")]
)
def test_times_are_in_units_that_suit(seconds: float, unit: float, name: str) -> None:
    view = view_of((DONE, 0.5))
    late = replace(view, stretches=[Stretch(0, 0, 0.0, seconds, DONE)])
    (panel,) = figure_of("best.png", late).axes
    assert lines_of(panel)["done (1)"] == [(seconds / unit, 0.5)] and panel.get_xlabel() == f"{name} of the search"
    assert figure_of("blocks.png", late).axes[0].get_xlabel() == f"{name} of the search"


def test_what_is_running_is_not_drawn() -> None:
    more = Trial(9, point(9, SPACE), Status.RUNNING, figure=0.01)
    view = replace(MIXED, trials=[*MIXED.trials, more])
    for name in ("best.png", "dependence.png"):
        assert lines_of(figure_of(name, view).axes[0]) == lines_of(figure_of(name, MIXED).axes[0])
    assert "1 running" in view.summary()


# Figures that are far off.


def test_a_diverged_trial_is_an_arrow_and_not_the_scale() -> None:
    figures = [0.5, 0.6, 0.7, 0.8, 0.9, 0.55, 0.65, 0.75, 1e30]
    figure = figure_of("best.png", view_of(*((DONE, value) for value in figures)))
    (panel,) = figure.axes
    low, high = panel.get_ylim()
    assert panel.get_yscale() == "linear" and 0.4 < low < 0.5 and 0.9 < high < 1.1
    found = lines_of(panel)
    assert len(found["done (9)"]) == 8
    ((x, y),) = found["_done, beyond"]
    assert x == 50 and 0.9 < y < high
    assert "worse than the axis shows (1)" in legend_of(figure)
    assert markers_of(panel)["_done, beyond"] == "^"
    figures = [-value for value in figures]
    (panel,) = figure_of("best.png", view_of(*((DONE, value) for value in figures), merit=ACCURACY)).axes
    assert markers_of(panel)["_done, beyond"] == "v"


def reference(figures: Sequence[float], sign: int) -> tuple[float, float]:
    """The range within three times the way from the best to the third quartile, from there."""
    costs = sorted(sign * value for value in figures)
    third = costs[3 * len(costs) // 4]
    kept = [sign * cost for cost in costs if cost <= third + 3 * (third - costs[0])]
    return min(kept), max(kept)


def test_the_range_is_that_of_the_figures_near_the_best() -> None:
    rng = np.random.default_rng(1)
    for merit, sign in ((LOSS, 1), (ACCURACY, -1)):
        figures = (1.0 + 0.1 * sign * abs(rng.standard_t(1.5, 200))).tolist()
        scale = Scale.of(figures, merit)
        assert (scale.low, scale.high) == reference(figures, sign) != (min(figures), max(figures))
        assert scale.rising is (sign == 1) and not scale.log


@pytest.mark.parametrize(
    ("figures", "merit", "wanted"),
    [
        ([0.5, 1e30], LOSS, (0.5, 1e30, True)),  # few: all of them
        ([1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 9.0], LOSS, (1.0, 9.0, False)),
        ([1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.5, 9.0], LOSS, (1.0, 1.5, False)),
        ([0.5, 1e3], ACCURACY, (0.5, 1e3, False)),
        ([0.001 * 2**k for k in range(14)], LOSS, (0.001, 8.192, True)),
        ([0.001 * 2**k for k in range(14)], ACCURACY, (0.001, 8.192, False)),
        ([-1.0, 100.0], LOSS, (-1.0, 100.0, False)),
        ([0.0, 100.0], LOSS, (0.0, 100.0, False)),
        ([1.0] * 20 + [5.0], LOSS, (1.0, 5.0, False)),
        ([0.5], LOSS, (0.25, 0.75, False)),
        ([0.0, 0.0], LOSS, (-0.5, 0.5, False)),
        ([], LOSS, (0.0, 1.0, False)),
    ],
)
def test_ranges(figures: list[float], merit: FigureOfMerit, wanted: tuple[float, float, bool]) -> None:
    assert Scale.of(figures, merit)[:3] == wanted


def test_places_on_a_scale() -> None:
    log, even = Scale(0.01, 100.0, True, True), Scale(1.0, 3.0, False, False)
    assert [log.place(value) for value in (0.01, 0.1, 1.0, 100.0, 1e9)] == pytest.approx([0, 0.25, 0.5, 1, 1])
    assert [even.place(value) for value in (0.0, 1.0, 1.5, 3.0)] == [0, 0, 0.25, 1]
    assert [log.at(place) for place in (0, 0.5, 1.5)] == pytest.approx([0.01, 1.0, 1e4])
    assert [even.at(place) for place in (-0.5, 0.25)] == [0.0, 1.5]


# Values on an axis.


def test_ticks_of_a_logarithmic_range_are_round() -> None:
    assert log_ticks(1e-5, 0.1) == [1e-5, 1e-4, 1e-3, 1e-2, 1e-1]
    assert log_ticks(16, 512) == [20, 50, 100, 200, 500]
    found = ticks_of(dimension_of("lr", LR), 9)
    assert found == [(pytest.approx(k / 4), text) for k, text in enumerate(["1e-05", "0.0001", "0.001", "0.01", "0.1"])]
    assert len(ticks_of(dimension_of("x", {**LR, "low": 1e-30}), 9)) <= 9
    for high in (0.019, 0.021):
        narrow = ticks_of(dimension_of("x", {**LR, "low": 0.011, "high": high}), 9)
        assert len(narrow) > 3 and all(0 <= place <= 1 for place, _ in narrow)


def test_ticks_of_choices_and_of_whole_numbers_are_in_the_middle_of_what_they_own() -> None:
    choices = ticks_of(dimension_of("x", CHOICE), 9)
    assert choices == [(0.125, "sgd"), (0.375, "adam"), (0.625, "None"), (0.875, "True")]
    assert ticks_of(dimension_of("x", {"type": "integer", "low": 1, "high": 4}), 9) == [
        (0.125, "1"), (0.375, "2"), (0.625, "3"), (0.875, "4"),
    ]  # fmt: skip
    many = ticks_of(dimension_of("x", {"type": "categorical", "choices": list(range(30))}), 12)
    assert [text for _, text in many] == [str(value) for value in range(0, 30, 3)]


def test_both_ends_of_a_range_are_named_and_clear_of_others() -> None:
    found = with_ends(dimension_of("x", {"type": "real", "low": 0.0, "high": 0.99}), 9)
    assert (found[0], found[-1]) == ((0.0, "0"), (1.0, "0.99"))
    assert all(right - left > 0.05 for (left, _), (right, _) in itertools.pairwise(found))


@pytest.mark.parametrize(
    ("value", "low", "high", "text"),
    [
        (0.97001, 0.97, 0.97002, "0.97001"),
        (1 / 3, 0.0, 1.0, "0.3333"),
        (20000.0, 0.0, 1e5, "20000"),
        (10**9, 1, 10**9, "1e+09"),
        (1e-5, 1e-5, 0.1, "1e-05"),
        (-2.5, -3.0, 0.0, "-2.5"),
    ],
)
def test_numbers_have_the_digits_that_tell_them_apart(value: float, low: float, high: float, text: str) -> None:
    assert written(value, low, high) == text


def test_of_a_long_name_both_ends_are_shown() -> None:
    assert [shortened(text, 7) for text in ("abcdefg", "abcdefgh", "$a")] == ["abcdefg", "abc…fgh", r"\$a"]


# Parallel coordinates.


def collections(panel: Any) -> dict[str, list[np.ndarray]]:
    return {one.get_label(): one.get_segments() for one in panel.collections if hasattr(one, "get_segments")}


def test_a_line_goes_through_the_values_of_each_trial_to_its_figure() -> None:
    view = view_of((DONE, 1.0), (DONE, 3.0), (PRUNED, 2.0))
    (panel,) = figure_of("parallel.png", view).axes
    lines = [np.array(lines_of(panel)["best 1.0000 (trial 0)"]), *collections(panel)["_others"]]
    for number, place, line in zip((0, 1, 2), (0.0, 1.0, 0.5), lines, strict=True):
        values = view.trials[number].parameters
        assert [x for x, _ in line] == [0, 1, 2, 3, 4]
        assert line[0][1] == pytest.approx((math.log10(values["lr"]) + 5) / 4)
        assert line[1][1] == pytest.approx((values["momentum"] - 0.5) / 0.5)
        assert abs(line[2][1] - (CHOICE["choices"].index(values["optimizer"]) + 0.5) / 4) <= 0.0625  # type: ignore[attr-defined]
        assert abs(line[3][1] - (values["layers"] - 0.5) / 4) <= 0.0625
        assert line[4][1] == place


def test_worse_lines_are_drawn_first_and_lighter() -> None:
    for merit, order in ((LOSS, [4.0, 3.0, 2.0]), (ACCURACY, [1.0, 2.0, 3.0])):
        view = view_of((DONE, 1.0), (DONE, 2.0), (DONE, 3.0), (DONE, 4.0), merit=merit)
        (panel,) = figure_of("parallel.png", view).axes
        (others,) = (one for one in panel.collections if one.get_label() == "_others")
        assert [segment[-1][1] for segment in others.get_segments()] == [pytest.approx((y - 1) / 3) for y in order]
        light = [sum(color[:3]) for color in others.get_colors()]
        assert light == sorted(light, reverse=True) and light[0] - light[-1] > 0.5


def test_lines_without_a_figure_end_before_it() -> None:
    figure = figure_of("parallel.png", MIXED)
    (panel,) = figure.axes
    assert [len(segment) for segment in collections(panel)["_failed"]] == [4, 4]
    assert [x for x, _ in lines_of(panel)["no finite figure (2)"]] == [3, 3]
    assert len(collections(panel)["_others"]) == 4 and set(legend_of(figure)) == {
        "no finite figure (2)", "best 0.2500 (trial 3)",
    }  # fmt: skip


def test_axes_are_named_and_their_values_too() -> None:
    (panel,) = figure_of("parallel.png", MIXED).axes
    assert [text.get_text() for text in panel.get_xticklabels()] == [*SPACE, "val_loss"]
    texts = {text.get_text(): text.get_position() for text in panel.texts}
    assert {"1e-05", "0.001", "0.1", "sgd", "adam", "None", "True", "4", "0.125"} <= set(texts)
    assert texts["0.001"][1] == pytest.approx(0.5) and texts["adam"][1] == 0.375 and texts["1"][1] in (0.125, 1.0)
    sides = {text.get_ha() for text in panel.texts if text.get_position()[0] > 4}
    assert sides == {"left"} != {text.get_ha() for text in panel.texts if text.get_position()[0] < 4} == {"right"}
    (left, right), (low, high) = panel.get_xlim(), panel.get_ylim()
    assert left < 0 and right > 4 and low < 0 and high > 1


def test_long_names_are_shortened_and_slanted() -> None:
    (panel,) = figure_of("parallel.png", many(5, space=LONG)).axes
    names = panel.get_xticklabels()
    assert names[0].get_text() == "a_rather_long_n…yperparameter_0" and {name.get_rotation() for name in names} == {20}
    (panel,) = figure_of("parallel.png", MIXED).axes
    assert {name.get_rotation() for name in panel.get_xticklabels()} == {0}


def test_the_last_axis_says_that_there_are_worse_ones() -> None:
    near, far = [0.5, 0.6, 0.7, 0.8, 0.9, 0.55, 0.65, 0.75], 1e30
    (panel,) = figure_of("parallel.png", view_of(*((DONE, value) for value in (*near, far)))).axes
    assert "0.9 or worse" in [text.get_text() for text in panel.texts]
    (panel,) = figure_of("parallel.png", view_of(*((DONE, value) for value in near))).axes
    assert not [text for text in panel.texts if "worse" in text.get_text()]


# Blocks.


def test_each_stretch_is_a_bar_in_the_row_of_its_block() -> None:
    stretches = [
        Stretch(1, 0, 0.0, 30.0, RESTING),
        Stretch(3, 1, 5.0, 25.0, FAILED),
        Stretch(3, 0, 30.0, 50.0, DONE),
        Stretch(1, 2, 49.9, 50.0, PRUNED),
    ]
    view = replace(view_of((DONE, 0.5), (FAILED, None), (PRUNED, 1.0)), stretches=stretches)
    figure = figure_of("blocks.png", view)
    (panel,) = figure.axes
    bars = {
        label: [(one.get_x(), one.get_y() + one.get_height() / 2, one.get_width()) for one in container]
        for container, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    assert bars == {
        "resting (1)": [(0, 0, 30)],
        "failed (1)": [(5, 1, 20)],
        "done (1)": [(30, 1, 20)],
        "pruned (1)": [(pytest.approx(49.9), 0, pytest.approx(0.1))],
    }
    assert [text.get_text() for text in panel.get_yticklabels()] == ["block 1", "block 3"]
    assert {(text.get_text(), *text.get_position()) for text in panel.texts} == {
        ("0", 15, 0),
        ("1", 15, 1),
        ("0", 40, 1),
    }
    assert panel.get_xlim() == (0, 50) and panel.get_ylim()[0] > 1 and panel.get_ylim()[1] < 0
    assert PICTURES["blocks.png"].title(view) == "trials, by number, on 2 blocks (70 % busy)"  # 70.1 of 100 s


def test_a_search_that_went_on_is_busy_from_its_first_stretch_on() -> None:
    view = replace(view_of((DONE, 0.5)), stretches=[Stretch(1, 0, 900.0, 1000.0, DONE)])
    assert PICTURES["blocks.png"].title(view) == "trials, by number, on 1 block (100 % busy)"


def test_many_blocks_have_a_row_each() -> None:
    view = view_of(*((DONE, 0.5) for _ in range(128)), blocks=64)
    (panel,) = figure_of("blocks.png", view).axes
    assert len(panel.get_yticks()) == 64 and len(panel.patches) == 128
    assert 8 < PICTURES["blocks.png"].inches(view)[1] < 20 > PICTURES["blocks.png"].inches(MIXED)[1]


# Dependence.


def test_each_hyperparameter_has_a_panel_with_all_trials() -> None:
    figure = figure_of("dependence.png", MIXED)
    assert [panel.get_title() for panel in figure.axes] == list(SPACE)
    places = [(math.log10(MIXED.trials[number].parameters["lr"]) + 5) / 4 for number in (0, 3, 6)]
    assert lines_of(figure.axes[0])["done (3)"] == [
        (pytest.approx(x), y) for x, y in zip(places, (0.5, 0.25, 1.0), strict=True)
    ]
    for panel in figure.axes:
        found = lines_of(panel)
        assert sum(len(dots) for label, dots in found.items() if not label.startswith("best")) == 7
        assert found["best 0.2500 (trial 3)"][0] in found["done (3)"]
        assert panel.get_xlim()[0] < 0 and panel.get_xlim()[1] > 1
    assert [text.get_text() for text in figure.axes[2].get_xticklabels()] == ["sgd", "adam", "None", "True"]
    assert figure.axes[0].get_ylabel() == "val_loss"


def test_a_dozen_hyperparameters_are_in_rows_of_four() -> None:
    figure = figure_of("dependence.png", view_of((DONE, 0.5), space={f"x{at}": LR for at in range(9)}))
    assert [panel.get_visible() for panel in figure.axes] == [True] * 9 + [False] * 3
    assert [panel.get_ylabel() for panel in figure.axes[::4]] == ["val_loss"] * 3


def stepped(count: int) -> View:
    """The figure is 1 or 3, by the learning rate alone; random points."""
    view = view_of(*((DONE, None) for _ in range(count)))
    return replace(
        view, trials=[replace(one, figure=1.0 if one.parameters["lr"] < 1e-3 else 3.0) for one in view.trials]
    )


def test_what_the_figure_depends_on_is_seen_and_what_it_does_not_is_flat() -> None:
    lr, *others = dependences(stepped(200))
    left = [figure for place, figure in zip(*lr, strict=True) if place < 0.45]
    right = [figure for place, figure in zip(*lr, strict=True) if place > 0.55]
    assert max(left) < 1.05 and min(right) > 2.95 and len(left) > 10 < len(right)
    for one in others:
        assert max(one.figures) - min(one.figures) < 0.1 and 1.5 < one.figures[0] < 2.5
    assert others[1].places == [0.125, 0.375, 0.625, 0.875]


def test_a_model_takes_ten_trials_that_differ() -> None:
    label, view = "partial dependence, by a model of all trials", stepped(10)
    for panel, one in zip(figure_of("dependence.png", view).axes, dependences(view), strict=True):
        assert lines_of(panel)[label] == list(zip(*one, strict=True))
    assert label not in lines_of(figure_of("dependence.png", stepped(9)).axes[0])
    assert dependences(view_of(*((DONE, 0.5) for _ in range(20)))) == []


# All of them.


def many(count: int, **options: Any) -> View:
    rng = np.random.default_rng(3)
    chances = rng.random(count)
    ended = [
        (FAILED, None) if chance > 0.9 else (PRUNED if chance > 0.7 else DONE, float(10 ** rng.normal(-1, 0.5)))
        for chance in chances
    ]
    return view_of(*ended, **options)


CASES: dict[str, Callable[[], View]] = {
    "one": lambda: view_of((DONE, 0.5), blocks=1),
    "two": lambda: view_of((DONE, 0.5), (FAILED, None)),
    "mixed": lambda: MIXED,
    "200 trials": lambda: many(200, blocks=8),
    "all failed": lambda: view_of(*((FAILED, None) for _ in range(5))),
    "64 blocks": lambda: many(200, blocks=64),
    "long names": lambda: many(30, space=LONG),
    "one parameter": lambda: many(30, space={"lr": LR}),
    "all equal": lambda: view_of(*((DONE, 0.5) for _ in range(12))),
    "hardly different": lambda: view_of(*((DONE, 0.97 + 1e-6 * at) for at in range(12)), merit=ACCURACY),
    "wide": lambda: view_of(*((DONE, 10.0**-at) for at in range(12))),
    "at once": lambda: View([Trial(0, point(0, SPACE), FAILED)], [Stretch(0, 0, 0.0, 0.0, FAILED)], SPACE, LOSS, "m"),
    "a text like mathematics": lambda: many(
        12, space={"x": {"type": "categorical", "choices": ["$a$", "a_b^c", "\\frac $", "%s"]}}
    ),
}


@pytest.mark.parametrize("case", ["one", "mixed", "all failed"])
def test_pictures_are_drawn(case: str, tmp_path: Path) -> None:
    paths = draw(tmp_path / "new", CASES[case]())
    assert paths == [tmp_path / "new" / name for name in ("best.png", "parallel.png", "dependence.png", "blocks.png")]
    assert sorted(paths) == sorted((tmp_path / "new").iterdir())
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)


def named(axis: Any) -> list[Any]:
    """The names of the ticks that are on an axis; one that is shared names none."""
    low, high = sorted(axis.get_view_interval())
    return [text for at, text in zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=False) if low <= at <= high]


def texts_of(figure: Any) -> Iterator[list[Any]]:
    """The texts that have to be clear of one another: of an axis, within a panel, all titles, head and legend."""
    panels = [panel for panel in figure.axes if panel.get_visible()]
    for panel in panels:
        yield from (named(panel.xaxis), named(panel.yaxis), list(panel.texts))
    yield [
        one for panel in panels for one in panel.get_children() if hasattr(one, "get_text") and one not in panel.texts
    ]
    yield [*figure.texts, *(text for legend in figure.legends for text in legend.get_texts())]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", PICTURES)
def test_nothing_is_cut_off_and_labels_are_clear_of_one_another(
    case: str, name: str, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    view, picture = CASES[case](), PICTURES[name]
    with sheet(tmp_path / "x.png", picture.inches(view)) as figure:
        picture.draw(figure, view)
        head_lines(figure, f"{view.name}: {picture.title(view)}", view.summary())
    assert [str(warning.message) for warning in recwarn] == []
    renderer = figure.canvas.get_renderer()
    width, height = figure.get_size_inches() * figure.dpi
    for texts in texts_of(figure):
        shown = [one for one in texts if one.get_text() and one.get_visible()]
        boxes = [one.get_window_extent(renderer) for one in shown]
        for one, box in zip(shown, boxes, strict=True):
            assert box.x0 >= -1 and box.y0 >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1, one.get_text()
        for (one, box), (other, beside) in itertools.combinations(zip(shown, boxes, strict=True), 2):
            if not one.get_rotation():
                assert not box.overlaps(beside), (one.get_text(), other.get_text())


def test_the_head_says_what_it_is_and_how_the_search_went() -> None:
    titles = [picture.title(MIXED) for picture in PICTURES.values()]
    assert titles == [
        "val_loss of each trial, and the best so far",
        "hyperparameters of each trial, and the val_loss that it came to",
        "val_loss by each hyperparameter",
        "trials, by number, on 2 blocks (88 % busy)",
    ]
    assert MIXED.summary() == (
        "7 trials: 4 done, 1 pruned, 1 failed, 1 resting   ·   val_loss: best 0.2500 (trial 3)   ·   40.0 s"
    )
    assert "val_loss: no trial has a finite figure" in CASES["all failed"]().summary()


def test_what_cannot_be_drawn_is_not_there(tmp_path: Path) -> None:
    for name in PICTURES:
        (tmp_path / name).write_bytes(b"an earlier search's")
    paths = draw(tmp_path, replace(MIXED, stretches=[]))
    assert [path.name for path in paths] == ["best.png", "parallel.png", "dependence.png"]
    assert sorted(tmp_path.iterdir()) == sorted(paths)
    assert draw(tmp_path, view_of()) == [] and list(tmp_path.iterdir()) == []
    assert draw(tmp_path, view_of((Status.RUNNING, 0.5))) == []


def test_without_matplotlib_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"] + ["matplotlib"]:
        monkeypatch.setitem(sys.modules, name, None)
    (tmp_path / "best.png").write_bytes(b"an earlier search's")
    assert draw(tmp_path, MIXED) == [] and list(tmp_path.iterdir()) == []


def test_the_other_way_of_drawing_is_left_alone(tmp_path: Path) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    before = dict(matplotlib.rcParams)
    draw(tmp_path, MIXED)
    assert dict(matplotlib.rcParams) == before
