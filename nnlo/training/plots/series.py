"""Numbers out of a history, as curves over epochs, seconds or samples."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from nnlo.training.measured import MORE_IS_BETTER
from nnlo.training.record import figures_of

History = Mapping[str, Any]
Entry = Mapping[str, Any]
Read = Callable[[Entry], Any]

ALONG = ("epochs", "seconds", "samples")
"""What a curve may run along."""

TIMES = ((7200.0, 3600.0, "hours"), (300.0, 60.0, "minutes"), (0.0, 1.0, "seconds"))
"""From so many seconds on, they are shown in units of so many seconds, of this name."""

TITLES = {
    "loss": "Loss",
    "acc": "Accuracy",
    "binary_acc": "Binary accuracy",
    "top5": "Top-5 accuracy",
    "mae": "Mean absolute error",
    "mse": "Mean squared error",
}


MANY_COLUMNS = 75
"""More epochs than that share the columns of a map."""


class Axis(NamedTuple):
    """A horizontal axis: the key of an entry, how much of it makes one unit, and the title."""

    key: str
    unit: float
    title: str


EPOCHS = Axis("epoch", 1.0, "epoch")


class Usages(NamedTuple):
    """The part that each level had of an epoch's votes: a row of `shares` for each of `levels`, a column a place."""

    levels: list[int]
    places: list[float]
    shares: list[list[float]]


class Curve(NamedTuple):
    """Values over places on the horizontal axis; NaN is a gap."""

    name: str
    places: list[float]
    values: list[float]

    @property
    def known(self) -> list[float]:
        """The values that are finite."""
        return [value for value in self.values if math.isfinite(value)]


def title_of(name: str) -> str:
    """A figure in words, as far as they are known."""
    return TITLES.get(name, name)


def number(entry: Entry, read: Read) -> float:
    """What `read` finds in an entry, NaN where that is no finite number."""
    try:
        value = read(entry)
    except (KeyError, TypeError, AttributeError):
        return math.nan
    usable = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if usable else math.nan


def axis_of(histories: Sequence[History], along: str) -> Axis:
    """The axis that suits all of these histories; `along` is one of ALONG."""
    if along == "epochs":
        return EPOCHS
    if along == "samples":
        return Axis("samples", 1.0, "samples trained")
    entries = [entry for history in histories for entry in (*history["epochs"], *(history.get("validations") or ()))]
    longest = max((value for entry in entries if (value := place(entry, Axis(along, 1.0, ""))) == value), default=0.0)
    unit, name = time_unit(longest)
    return Axis(along, unit, f"{name} of training")


def time_unit(longest: float) -> tuple[float, str]:
    """The unit that suits times of up to `longest` seconds: its seconds, and its name."""
    return next((unit, name) for least, unit, name in TIMES if longest >= least)


def place(entry: Entry, axis: Axis) -> float:
    """Where on the horizontal axis an epoch's entry or a validation is."""
    return number(entry, lambda entry: entry[axis.key]) / axis.unit


def curve(history: History, name: str, read: Read, axis: Axis = EPOCHS) -> Curve:
    """What `read` finds in each epoch's entry."""
    epochs = history["epochs"]
    return Curve(name, [place(entry, axis) for entry in epochs], [number(entry, read) for entry in epochs])


def figure(history: History, name: str, axis: Axis = EPOCHS) -> Curve:
    """A loss or metric by its name in the entries."""
    return curve(history, name, lambda entry: entry[name], axis)


def pair(history: History, name: str, axis: Axis = EPOCHS) -> tuple[Curve, Curve]:
    """A figure in training and in validation: at every validation, where the history has more of them than epochs."""
    trained, key = figure(history, name, axis), f"val_{name}"
    points = history.get("validations") or ()
    if len(points) <= len(history["epochs"]):
        return trained, figure(history, key, axis)
    values = [number(point, lambda point: point[key]) for point in points]
    return trained, Curve(key, [place(point, axis) for point in points], values)


def measured(history: History, name: str, axis: Axis = EPOCHS) -> Curve:
    """A figure of the weights at each epoch's end on all training samples."""
    return curve(history, f"training set {name}", lambda entry: entry["training_set"][name], axis)


def metric_names(history: History) -> list[str]:
    """In the order in which they first come, with those that only validations know."""
    both = [figures_of(entry) for entry in history["epochs"]]
    names = [name.removeprefix("val_") for trained, validated in both for name in (*trained, *validated)]
    return [name for name in dict.fromkeys(names) if name != "loss"]


def best(curve: Curve) -> tuple[float, float] | None:
    """The place and the value where a figure was best, None where nothing is known; of an unknown figure, the least."""
    sign = -1 if curve.name.removeprefix("val_") in MORE_IS_BETTER else 1
    known = [(sign * value, at, value) for at, value in zip(curve.places, curve.values, strict=True) if value == value]
    return min(known)[1:] if known else None


def worker_rates(history: History, axis: Axis = EPOCHS) -> list[Curve]:
    """Samples per second of each worker, by its number."""
    ranks = {rank for entry in history["epochs"] for rank in (entry.get("ranks") or ())}
    return [curve(history, rank, rate_of(rank), axis) for rank in sorted(ranks, key=natural)]


def seconds_of(history: History) -> float:
    """The time from the beginning of training to the end of its last epoch, NaN where that is not known."""
    return next(iter(figure(history, "seconds").known[-1:]), math.nan)


def overall_rate(history: History) -> float:
    """Samples per second that went into the weights, over the whole of that time."""
    ranks = [rank for entry in history["epochs"] for rank in (entry.get("ranks") or {}).values()]
    samples = [number(rank, lambda rank: rank["samples"]) for rank in ranks]
    known = [some for some in samples if math.isfinite(some)]
    return sum(known) / seconds_of(history) if known and seconds_of(history) > 0 else math.nan


def rate_of(rank: str) -> Read:
    return lambda entry: entry["ranks"][rank]["samples_per_second"]


def natural(name: str) -> tuple[int, str]:
    """So that rank 10 comes after rank 9."""
    return (int(name) if name.isdecimal() else 0, name)


def delays(entry: Entry) -> Sequence[int]:
    """The histogram of an entry's staleness: the number of updates by delay, from 0."""
    return [count or 0 for count in (entry.get("staleness") or {}).get("histogram") or ()]


def delay_map(history: History, axis: Axis = EPOCHS) -> tuple[list[float], list[list[float]]]:
    """The share of updates by delay: places, and a row for every delay from 0 with a column for each place.

    Of many epochs several make one column.
    """
    entries = [entry for entry in history["epochs"] if math.isfinite(place(entry, axis))]
    width = math.ceil(len(entries) / MANY_COLUMNS) or 1
    groups = [entries[first : first + width] for first in range(0, len(entries), width)]
    columns = [total_delays(group) for group in groups]
    places = [sum(place(entry, axis) for entry in group) / len(group) for group in groups]
    totals = [max(1, sum(column)) for column in columns]
    pairs = list(zip(columns, totals, strict=True))
    rows = range(max(map(len, columns), default=0))
    return places, [[column[row] / total if row < len(column) else 0.0 for column, total in pairs] for row in rows]


def mean_delay(counts: Sequence[int]) -> float:
    """Of a histogram, NaN for that of nothing."""
    updates = sum(counts)
    return sum(delay * count for delay, count in enumerate(counts)) / updates if updates else math.nan


def total_delays(entries: Sequence[Entry]) -> list[int]:
    """The histograms of the entries' staleness added up."""
    return [sum(counts) for counts in itertools.zip_longest(*map(delays, entries), fillvalue=0)]


def usages(history: History, axis: Axis = EPOCHS) -> Usages:
    """Of the epochs whose votes were counted."""
    entries = [entry for entry in history["epochs"] if entry.get("usages") and math.isfinite(place(entry, axis))]
    levels = sorted({int(level) for entry in entries for level in entry["usages"]})
    columns = [[entry["usages"].get(str(level)) or 0 for level in levels] for entry in entries]
    totals = [sum(column) or 1 for column in columns]
    shares = [
        [column[row] / total for column, total in zip(columns, totals, strict=True)] for row in range(len(levels))
    ]
    return Usages(levels, [place(entry, axis) for entry in entries], shares)
