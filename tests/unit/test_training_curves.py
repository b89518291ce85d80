"""The picture of the curves: there for every kind of history, and left out without matplotlib."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest

from nnlo.training.files import OutputFiles
from nnlo.training.plots.curves import draw
from nnlo.training.plots.series import metric_names, pair


def history(epochs: int, metrics: tuple[str, ...] = ("acc",), validated: bool = True, points: int = 1) -> dict:
    names = ("loss", *metrics)
    entries = [
        {
            "epoch": epoch,
            **dict.fromkeys(names, 1.0 / epoch),
            **({f"val_{name}": 2.0 / epoch for name in names} if validated else {}),
            "staleness": {"mean": 1.0, "max": 2, "histogram": [0, 1]},
            "samples_per_second": 100.0,
            "lr": 0.1,
            "ranks": {"1": {"samples_per_second": 40.0}, "2": {"samples_per_second": 60.0}},
        }
        for epoch in range(1, epochs + 1)
    ]
    validations = [{"epoch": i / points, "val_loss": 3.0, "val_acc": 0.5} for i in range(1, epochs * points + 1)]
    return {"model": "m", "trial": "t", "epochs": entries, "validations": validations if validated else []}


NO_FIGURES = {**history(2), "parameters": 21840, "ranks": 3, "seconds": 1.5}
for number in NO_FIGURES["epochs"]:
    number.update(loss=math.nan, acc=None, lr=None, samples_per_second=math.nan)
    number["ranks"].pop("2")

CASES = {
    "one epoch": history(1),
    "no validation": history(3, validated=False),
    "no metrics": history(3, metrics=()),
    "several metrics": history(3, metrics=("acc", "top5", "mae")),
    "many epochs": history(100),
    "validations inside epochs": history(2, points=4),
    "nothing finite": NO_FIGURES,
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
