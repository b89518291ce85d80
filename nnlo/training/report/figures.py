"""The charts of a report: what was learned, how fast, and on how old weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

from nnlo.training.plots.series import (
    Curve,
    History,
    curve,
    figure,
    measured,
    metric_names,
    pair,
    title_of,
    total_delays,
    worker_rates,
)
from nnlo.training.report import charts

FEW_WORKERS = 8
"""More than so many are no lines in a chart."""

Legend = Sequence[tuple[str, str]]

PLAIN = {"training": "training", "validation": "validation"}
MEASURED = {
    "training": "training, mean over the epoch",
    "whole": "training set, measured at the epoch's end",
    "validation": "validation",
}
"""What the lines of a loss or metric are called, by their classes."""


class Chart(NamedTuple):
    """A picture with its title, and CSS class and name of its lines."""

    title: str
    picture: Markup
    legend: Legend = ()


def learning(history: History) -> list[Chart]:
    """Loss and metrics, each in a chart of its own, and the learning rate where it changed."""
    found = [figure_chart(history, name) for name in ("loss", *metric_names(history))]
    rate = figure(history, "lr")
    if len(set(rate.known)) > 1:
        drawn = charts.lines([(rate, "training")], "Learning rate over epochs", zero=True)
        found.append(Chart("Learning rate", drawn))
    return [one for one in found if one.picture]


def figure_chart(history: History, name: str) -> Chart:
    """A loss or metric in training, in validation, and on the whole training set where that was measured."""
    trained, validated = pair(history, name)
    whole = measured(history, name)
    curves: list[tuple[Curve, str]] = [(trained, "training"), (whole, "whole"), (validated, "validation")]
    known = [one for one in curves if one[0].known]
    names = MEASURED if whole.known else PLAIN
    legend = [(kind, names[kind]) for _, kind in known] if len(known) > 1 else ()
    return Chart(title_of(name), charts.lines(known, f"{title_of(name)} over epochs"), legend)


def speed(history: History) -> Chart:
    total = curve(history, "all workers", lambda entry: entry["samples_per_second"])
    workers = [one._replace(name=f"worker {one.name}") for one in worker_rates(history)]
    few = workers if 1 < len(workers) <= FEW_WORKERS else []
    drawn = charts.lines([*((one, "thin") for one in few), (total, "total")], "Samples per second over epochs", True)
    return Chart("Samples per second", drawn, [("total", "all workers"), ("thin", "each worker")] if few else ())


def staleness(history: History) -> list[Chart]:
    """How often each came, and its mean and largest by epoch; nothing where it was always 0."""
    counts = total_delays(history["epochs"])
    if len(counts) < 2:
        return []
    mean = curve(history, "mean", lambda entry: entry["staleness"]["mean"])
    largest = curve(history, "largest", lambda entry: entry["staleness"]["max"])
    drawn = charts.lines([(largest, "thin"), (mean, "training")], "Staleness over epochs", True)
    return [
        Chart("Share of the updates by staleness", charts.bars(counts, "Updates by staleness", "staleness")),
        Chart("Staleness by epoch", drawn, [("training", "mean"), ("thin", "largest")]),
    ]
