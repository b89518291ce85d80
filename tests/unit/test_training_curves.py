"""The picture of the curves: there for every kind of history, and left out without matplotlib."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from nnlo.training.files import OutputFiles
from nnlo.training.plots.curves import draw
from nnlo.training.plots.overlay import draw_overlay, figures_to_compare
from nnlo.training.plots.series import (
    EPOCHS,
    axis_of,
    best,
    delay_map,
    figure,
    metric_names,
    overall_rate,
    pair,
    usages,
)
from tests.histories import history

NO_FIGURES = {**history(2), "parameters": 21840, "ranks": 3, "seconds": 1.5}
for number in NO_FIGURES["epochs"]:
    number.update(loss=math.nan, acc=None, lr=None, samples_per_second=math.nan)
    number["ranks"].pop("2")

IN_STEP = history(3)
for number in IN_STEP["epochs"]:
    number["staleness"] = {"mean": 0.0, "max": 0, "histogram": [4]}

MANY_RANKS = history(2)
for number in MANY_RANKS["epochs"]:
    number["ranks"] = {str(rank): {"samples_per_second": 1.0} for rank in range(1, 65)}

MEASURED = history(3, metrics=("acc", "mae"))
for number in MEASURED["epochs"]:
    number["training_set"] = {"loss": 0.25, "acc": 0.5, "mae": 4.0}

COUNTED = history(2)
for number, counts in zip(COUNTED["epochs"], ((30, 0, 10), (0, 0, 0)), strict=True):
    number["usages"] = dict(zip(("-2", "0", "2"), counts, strict=True))

MANY_LEVELS = history(100)
for number in MANY_LEVELS["epochs"]:
    number["usages"] = {str(level): level * level for level in range(-128, 129)}

CASES = {
    "one epoch": history(1),
    "no validation": history(3, validated=False),
    "no metrics": history(3, metrics=()),
    "several metrics": history(3, metrics=("acc", "top5", "mae")),
    "many epochs": history(100),
    "validations inside epochs": history(2, points=4),
    "nothing finite": NO_FIGURES,
    "never stale": IN_STEP,
    "many ranks": MANY_RANKS,
    "training set": MEASURED,
    "counted votes": COUNTED,
    "no staleness": {"epochs": [{"epoch": 1, "loss": 1.0}]},
    "no epochs": {"model": "m", "epochs": []},
}


@pytest.mark.parametrize("case", CASES)
def test_a_picture_is_drawn(case: str, tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "curves.png"
    assert draw(CASES[case], path)
    assert path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 10_000
    assert [str(warning.message) for warning in recwarn] == []


def test_without_matplotlib_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"] + ["matplotlib"]:
        monkeypatch.setitem(sys.modules, name, None)
    outputs = OutputFiles(tmp_path, "m", "t")
    outputs.curves.write_bytes(b"an earlier run's")
    assert outputs.write_curves(history(2)) is None
    assert list(tmp_path.iterdir()) == []


def test_the_other_way_of_drawing_is_left_alone(tmp_path: Path) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    before = dict(matplotlib.rcParams)
    draw(history(2), tmp_path / "curves.pdf")
    assert dict(matplotlib.rcParams) == before
    assert (tmp_path / "curves.pdf").read_bytes().startswith(b"%PDF")


def test_every_validation_is_a_point_where_there_are_more_than_epochs() -> None:
    trained, validated = pair(history(2, points=4), "acc")
    assert trained.places == [1.0, 2.0] and trained.values == [1.0, 0.5]
    assert validated.name == "val_acc" and validated.places == [i / 4 for i in range(1, 9)]
    assert validated.values == [0.5] * 8


def test_metrics_are_what_is_neither_the_loss_nor_a_count() -> None:
    assert metric_names(history(2, metrics=("top5", "acc"))) == ["top5", "acc"]


@pytest.mark.parametrize(("along", "metric"), [("seconds", None), ("samples", "loss"), ("samples", "acc")])
def test_other_axes_and_a_chosen_metric(
    along: str, metric: str | None, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    pytest.importorskip("matplotlib")
    runs = {"one": history(4), "two": history(2, points=3), "a" * 99: history(1, validated=False)}
    draw_overlay(runs, tmp_path / "a.png", along, metric)
    assert draw(history(3, metrics=("acc", "top5")), tmp_path / "b.png", along, metric)
    assert all((tmp_path / name).stat().st_size > 10_000 for name in ("a.png", "b.png"))
    assert [str(warning.message) for warning in recwarn] == []


def svg_of(tmp_path: Path, make: Callable[[Path], object]) -> str:
    pytest.importorskip("matplotlib")
    make(tmp_path / "x.svg")
    return (tmp_path / "x.svg").read_text()


def test_a_picture_says_what_it_shows(tmp_path: Path) -> None:
    run = {**history(3), "arguments": {"mode": "downpour", "batch": 50, "optimizer": {"name": "adam", "lr": 0.5}}}
    text = svg_of(tmp_path, lambda path: draw(run, path))
    for part in ("m  t", "adam lr 0.5", "batch 50", "training  0.3333", "mean 1, largest 2", "all 2 workers: mean 100"):
        assert part in text
    assert "steps of the master while an update was computed" in text
    assert "epoch" in text and "of training" not in text
    assert "another" in svg_of(tmp_path, lambda path: draw(run, path, "seconds", "acc", "another"))


def test_the_training_set_is_a_line_of_its_own(tmp_path: Path) -> None:
    text = svg_of(tmp_path, lambda path: draw(MEASURED, path))
    for part in ("mean while training  0.3333", "training set at epoch's end  0.2500", "0.3333 / 0.6667 / 0.5000"):
        assert part in text
    assert "dotted: whole training set" in text
    plain = svg_of(tmp_path, lambda path: draw(history(3, metrics=("acc", "mae")), path))
    assert "training set" not in plain and "mean while" not in plain
    assert text.count("stroke-dasharray") - plain.count("stroke-dasharray") == 4  # three lines, one of them with a name


def test_speed_is_that_of_the_whole_time(tmp_path: Path) -> None:
    run = history(2)
    run["epochs"][1] |= {"seconds": 8.0, "samples_per_second": 25.0}
    assert overall_rate(run) == 50.0
    assert "all 2 workers: mean 50" in svg_of(tmp_path, lambda path: draw(run, path))


def test_runs_beside_one_another_are_named_with_their_last_figure(tmp_path: Path) -> None:
    runs = {"first": history(4), "other": history(2, validated=False)}
    text = svg_of(tmp_path, lambda path: draw_overlay(runs, path, "seconds"))
    for part in ("first   0.5000", "other   0.5000 (training)", "Accuracy, validation", "seconds of training"):
        assert part in text


def test_what_is_compared_is_what_all_runs_know() -> None:
    one, two = history(1, metrics=("acc", "top5")), history(1, metrics=("top5",))
    assert figures_to_compare([one, two], None) == ["loss", "top5"]
    assert figures_to_compare([one], "top5") == ["loss", "top5"]
    assert figures_to_compare([one], "loss") == figures_to_compare([history(1, metrics=())], None) == ["loss"]


@pytest.mark.parametrize(("epochs", "unit", "title"), [(3, 1, "seconds"), (150, 60, "minutes"), (4000, 3600, "hours")])
def test_long_times_are_shown_in_larger_units(epochs: int, unit: int, title: str) -> None:
    run = history(epochs)
    axis = axis_of([history(1), run], "seconds")
    assert axis.title == f"{title} of training"
    assert figure(run, "loss", axis).places[:2] == [2.0 / unit, 4.0 / unit]


def test_the_best_of_a_loss_is_its_least_and_of_an_accuracy_its_largest() -> None:
    run = history(3)
    run["epochs"][1]["loss"] = None
    assert best(figure(run, "loss")) == (3.0, 1 / 3)
    assert best(figure(run, "acc")) == (1.0, 1.0)
    assert best(figure(run, "gone")) is None
    assert best(figure(history(3, ("binary_acc",)), "binary_acc")) == (1.0, 1.0)


def test_staleness_is_a_map_of_shares() -> None:
    places, shares = delay_map(history(2), EPOCHS)
    assert places == [1.0, 2.0] and shares == [[0.25, 0.25], [0.5, 0.5], [0.25, 0.25]]
    places, shares = delay_map(history(100), EPOCHS)
    assert places[:2] == [1.5, 3.5] and len(places) == 50 and shares[1] == [0.5] * 50
    run = history(2)
    run["epochs"][0]["seconds"] = None
    assert delay_map(run, axis_of([run], "seconds"))[0] == [4.0]


def test_usages_are_shares_of_an_epochs_votes() -> None:
    run = history(3)
    run["epochs"][0]["usages"] = {"1": 6, "-1": 2, "0": 0}
    run["epochs"][2]["usages"] = {"-1": 0, "0": 0, "1": 0}
    assert usages(run) == ([-1, 0, 1], [1.0, 3.0], [[0.25, 0.0], [0.0, 0.0], [0.75, 0.0]])
    assert usages(history(3)) == ([], [], [])


def test_levels_have_a_panel_where_votes_were_counted(tmp_path: Path) -> None:
    counted, plain = (svg_of(tmp_path, lambda path, run=run: draw(run, path)) for run in (COUNTED, history(2)))
    assert "Levels voted" in counted and "+2" in counted and "-2" in counted
    assert "Levels voted" not in plain


def test_of_many_levels_nine_are_named(tmp_path: Path) -> None:
    text = svg_of(tmp_path, lambda path: draw(MANY_LEVELS, path))
    named = [level for level in range(-128, 129) if f">{level:+d}<" in text and level]
    assert named == [-128, -96, -64, -32, 32, 64, 96, 128]
