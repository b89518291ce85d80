"""The table of a search: what is in it, and in which order."""

from __future__ import annotations

import csv
import math
import os
from itertools import permutations
from pathlib import Path

import pytest

from nnlo.errors import DataError
from nnlo.optimize.figure import FigureOfMerit
from nnlo.optimize.results import ranked, write_results
from nnlo.optimize.trial import Status, Trial

LOSS, ACCURACY = FigureOfMerit.of("val_loss,min"), FigureOfMerit.of("val_acc,max")
NAMES = ("lr", "name", "flag", "epochs")


def trial(number: int, figure: float | None, status: Status = Status.DONE) -> Trial:
    return Trial(number, {"lr": 0.1, "name": "a,b", "flag": None, "epochs": 3}, status, figure=figure)


def rows(folder: Path, *trials: Trial, merit: FigureOfMerit = LOSS) -> list[list[str]]:
    path = write_results(folder, trials, NAMES, merit)
    assert path == folder / "results.csv" and os.listdir(folder) == ["results.csv"]
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_a_row_has_what_is_known_of_a_trial(tmp_path: Path) -> None:
    parameters = {"flag": True, "epochs": 3, "lr": 1e-5, "name": "a,b"}
    whole = Trial(7, parameters, Status.DONE, 0, 2, 0.1, 1 / 3, (0.5, 0.1), seconds=2.5)
    failed = Trial(8, {**parameters, "name": 'é"\n', "flag": None, "lr": 1.0}, Status.FAILED)
    assert rows(tmp_path / "new", failed, whole) == [
        ["trial", "status", "figure", "spread", "epochs", "seconds", "lr", "name", "flag", "parameter_epochs"],
        ["7", "done", "0.1", repr(1 / 3), "2", "2.5", "1e-05", "a,b", "True", "3"],
        ["8", "failed", "", "", "0", "0.0", "1.0", 'é"\n', "None", "3"],
    ]


@pytest.mark.parametrize(("merit", "wanted"), [(LOSS, [3, 0, 2, 1]), (ACCURACY, [1, 0, 2, 3])])
def test_the_best_comes_first(tmp_path: Path, merit: FigureOfMerit, wanted: list[int]) -> None:
    """Trials 0 and 2 are as good: by number then."""
    trials = [trial(number, figure) for number, figure in enumerate((0.5, 0.75, 0.5, 0.25))]
    for order in permutations(trials):
        assert [one.number for one in ranked(order, merit)] == wanted
    assert [row[0] for row in rows(tmp_path, *trials, merit=merit)[1:]] == list(map(str, wanted))


def test_those_that_were_cut_short_come_after_those_done_and_the_failed_last(tmp_path: Path) -> None:
    trials = [
        trial(0, None, Status.FAILED),
        trial(1, 0.1, Status.FAILED),
        trial(2, math.nan),
        trial(3, -math.inf),
        trial(4, 0.2, Status.PRUNED),
        trial(5, 0.1, Status.RESTING),
        trial(6, 0.9),
        trial(7, None, Status.RUNNING),
    ]
    found = rows(tmp_path, *trials)[1:]
    assert [int(row[0]) for row in found] == [6, 5, 4, 2, 3, 7, 0, 1]
    assert [row[2] for row in found] == ["0.9", "0.1", "0.2", "", "-inf", "", "", "0.1"]


def test_a_table_is_replaced_whole_or_stays(tmp_path: Path) -> None:
    before = rows(tmp_path, trial(0, 0.5))
    with pytest.raises(KeyError):
        write_results(tmp_path, [trial(0, 0.25)], (*NAMES, "other"), LOSS)
    with (tmp_path / "results.csv").open(newline="") as file:
        assert list(csv.reader(file)) == before
    assert os.listdir(tmp_path) == ["results.csv"]
    assert rows(tmp_path, trial(0, 0.25))[1][2] == "0.25"


def test_a_table_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"file/results\.csv: cannot write"):
        write_results(tmp_path / "file", [], NAMES, LOSS)
