"""The table of a search: a row a trial, the best one first."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from nnlo.optimize.figure import FigureOfMerit
from nnlo.optimize.trial import Status, Trial
from nnlo.training.atomic import replacing
from nnlo.training.loggers.csv_logger import cell

NAME = "results.csv"
COLUMNS = ("trial", "status", "figure", "spread", "epochs", "seconds")


def cost_of(trial: Trial, merit: FigureOfMerit) -> float:
    """Less is better; NaN where the trial failed, or its figure is not finite."""
    if trial.status is Status.FAILED or trial.figure is None:
        return math.nan
    return merit.cost(trial.figure)


def ranked(trials: Iterable[Trial], merit: FigureOfMerit) -> list[Trial]:
    """The best one first: by figure, those that were trained to their ends before the others; ties by number.

    At last those without a finite figure, and then those that failed.
    """

    def key(trial: Trial) -> tuple[bool, bool, bool, float, int]:
        cost = cost_of(trial, merit)
        unknown = math.isnan(cost)
        cut = trial.status is not Status.DONE
        return trial.status is Status.FAILED, unknown, cut, 0.0 if unknown else cost, trial.number

    return sorted(trials, key=key)


def write_results(folder: Path, trials: Iterable[Trial], names: Sequence[str], merit: FigureOfMerit) -> Path:
    """results.csv: COLUMNS, and one for each of the `names` of parameters; what is not known is empty.

    Parameters are written as Python does: 1, 1.0, True, None, and texts as they are. Returns the path. Raises DataError
    where the file cannot be written.
    """
    path = folder / NAME
    with replacing(path) as scratch, open(scratch, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*COLUMNS, *map(column, names)])
        writer.writerows(row(trial, names) for trial in ranked(trials, merit))
    return path


def column(name: str) -> str:
    """A parameter that is called as a column is told apart from it."""
    return f"parameter_{name}" if name in COLUMNS else name


def row(trial: Trial, names: Sequence[str]) -> list[Any]:
    own = (trial.number, trial.status, trial.figure, trial.spread, trial.epochs, trial.seconds)
    return [*map(cell, own), *(str(trial.parameters[name]) for name in names)]
