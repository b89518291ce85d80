"""What a report says of a run: its headline, its key figures and its charts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from markupsafe import Markup

from nnlo.training.plots.curves import mode_text
from nnlo.training.plots.series import (
    Curve,
    History,
    best,
    curve,
    figure,
    metric_names,
    number,
    pair,
    title_of,
    total_delays,
    worker_rates,
)
from nnlo.training.report import charts, text

FEW_WORKERS = 8
"""More than so many are no lines in a chart."""


class Tile(NamedTuple):
    """A key figure: what it is, its value, and what to know beside it."""

    name: str
    value: str
    beside: str = ""


class Chart(NamedTuple):
    """A picture with its title, and CSS class and name of its lines."""

    title: str
    picture: Markup
    legend: Sequence[tuple[str, str]] = ()


def headline(history: History) -> dict[str, str]:
    """Model, trial, how it ended, and one line of circumstances."""
    parts = [mode_text(history.get("arguments") or {}), workers_text(history), started(history)]
    outcome = str(history.get("outcome") or "unknown")
    kind = {"done": "good", "stopped": "plain"}.get(outcome, "bad")
    trial = str(history.get("trial") or "")
    details = "   ·   ".join(filter(None, parts))
    return {
        "model": str(history.get("model", "run")), "trial": trial, "outcome": outcome, "kind": kind, "details": details,
    }  # fmt: skip


def workers_text(history: History) -> str:
    ranks = history.get("ranks")
    if not isinstance(ranks, int) or ranks < 2:
        return ""
    hosts = len(set(map(str, history.get("hosts") or ())))
    return f"master and {text.plural(ranks - 1, 'worker')}" + (f" on {text.plural(hosts, 'host')}" if hosts else "")


def started(history: History) -> str:
    try:
        return f"{datetime.fromisoformat(str(history['started'])):%d %B %Y, %H:%M %Z}".lstrip("0").strip()
    except (KeyError, ValueError):
        return ""


def seconds_of(history: History) -> float:
    """The time that the epochs took, from the beginning of training."""
    known = figure(history, "seconds").known
    return known[-1] if known else math.nan


def tiles(history: History) -> list[Tile]:
    names = ["loss", *metric_names(history)]
    figures = [tile for name in names for tile in figure_tiles(history, name)]
    epochs = history["epochs"]
    refused = sum(curve(history, "refused", lambda entry: entry["refused"]).known)
    found = [
        *(tile for tile in figures if tile.name.startswith("Validation")),
        *(tile for tile in figures if not tile.name.startswith("Validation")),
        speed_tile(history),
        Tile("Time", text.seconds(seconds_of(history)), text.plural(len(epochs), "epoch")),
        staleness_tile(history),
    ]
    if refused:
        found.append(Tile("Refused updates", text.count(refused), "they held values that were not finite"))
    return found


def figure_tiles(history: History, name: str) -> list[Tile]:
    """The last value of a figure in validation and in training, and the best beside it."""
    title = title_of(name)[0].lower() + title_of(name)[1:] if title_of(name) != name else name
    found = []
    for one, where in zip(pair(history, name), ("Training", "Validation"), strict=True):
        if one.known:
            found.append(Tile(f"{where} {title}", text.figure(one.known[-1]), best_text(one)))
    return found


def best_text(curve: Curve) -> str:
    found = best(curve)
    if len(curve.known) < 2 or found is None:
        return ""
    return "its best value" if found[1] == curve.known[-1] else f"best {text.figure(found[1])} at epoch {found[0]:.3g}"


def speed_tile(history: History) -> Tile:
    samples = sum(number(entry, trained) for entry in history["epochs"] if number(entry, trained) > 0)
    workers = len(worker_rates(history))
    overall = samples / seconds_of(history) if seconds_of(history) > 0 else math.nan
    each = f"{text.rate(overall / workers)} a worker" if workers > 1 and text.known(overall) else ""
    return Tile("Samples per second", text.rate(overall), each)


def trained(entry: Any) -> float:
    """The samples of an epoch that went into the weights."""
    return float(sum(number(rank, lambda rank: rank["samples"]) for rank in entry["ranks"].values()))


def staleness_tile(history: History) -> Tile:
    counts = total_delays(history["epochs"])
    updates = sum(counts)
    mean = sum(delay * count for delay, count in enumerate(counts)) / updates if updates else math.nan
    largest = f"largest {len(counts) - 1}" if counts else ""
    return Tile("Mean staleness", f"{mean:.3g}" if updates else text.DASH, largest)


def learning(history: History) -> list[Chart]:
    """Loss and metrics, each in a chart of its own, and the learning rate where it changed."""
    found = []
    for name in ("loss", *metric_names(history)):
        curves = list(zip(pair(history, name), ("training", "validation"), strict=True))
        found.append(chart(title_of(name), curves))
    rate = figure(history, "lr")
    if len(set(rate.known)) > 1:
        found.append(chart("Learning rate", [(rate, "training")], zero=True))
    return [one for one in found if one.picture]


def chart(title: str, curves: Sequence[tuple[Curve, str]], zero: bool = False) -> Chart:
    """One whose lines are called as their classes are."""
    known = [one for one in curves if one[0].known]
    legend = [(kind, kind) for _, kind in known] if len(known) > 1 else ()
    return Chart(title, charts.lines(known, f"{title} over epochs", zero), legend)


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
