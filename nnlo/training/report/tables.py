"""The tables of a report: workers, traffic, epochs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce
from operator import getitem
from typing import NamedTuple

from nnlo.training.plots.series import (
    Entry,
    History,
    figure,
    measured,
    metric_names,
    natural,
    number,
    seconds_of,
)
from nnlo.training.report import text

LONG = 20
"""A table of more rows is folded."""

REFUSED = ("refused", "late", "skipped")
"""Updates that were not applied: such columns are there where there were any."""

SUMS = ("samples", "updates", *REFUSED, "busy_seconds", "bytes_up", "bytes_down")
"""What an entry tells of each rank, and what adds up over epochs."""

Column = tuple[str, Callable[[Entry], str]]
"""Its title, and its text for an entry."""

BAR = "\0"
"""The cell that shows a row's share as a bar."""


class Table(NamedTuple):
    """Column titles and rows of cells; a title that begins with "-" is that of a column of texts.

    shares: of each row, in percent, for the cell that is BAR.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    shares: Sequence[float] = ()

    @property
    def long(self) -> bool:
        return len(self.rows) > LONG


class Worker(NamedTuple):
    """What one worker did in all: what it computed (seconds), and its share of the time (percent)."""

    name: str
    host: str
    sums: dict[str, float]
    elapsed: float
    memory: float

    @property
    def busy(self) -> float:
        return self.sums["busy_seconds"]

    @property
    def share(self) -> float:
        return min(100.0, 100 * self.busy / self.elapsed) if self.busy >= 0 and self.elapsed > 0 else 0.0


def workers(history: History) -> list[Worker]:
    names = {name for entry in history["epochs"] for name in (entry.get("ranks") or ())}
    return [worker(history, name) for name in sorted(names, key=natural)]


def worker(history: History, name: str) -> Worker:
    entries = [entry["ranks"][name] for entry in history["epochs"] if name in (entry.get("ranks") or ())]
    sums = {key: total(entries, key) for key in SUMS}
    return Worker(name, host_of(history, name), sums, seconds_of(history), peak_memory(history, name))


def host_of(history: History, rank: str) -> str:
    hosts = history.get("hosts") or ()
    return str(hosts[int(rank)]) if rank.isdecimal() and int(rank) < len(hosts) else text.DASH


def peak_memory(history: History, rank: str) -> float:
    return number(history, lambda history: history["peak_memory_bytes"][rank])


def worker_table(history: History) -> Table:
    """A row for every worker. The column without a title is for a bar of the share that it computed."""
    some = workers(history)
    refused = [name for name in REFUSED if any(one.sums[name] > 0 for one in some)]
    columns = ["rank", "-host", "samples", "samples/s", "updates", *refused, "-computing", ""]
    rows = [[*begin_of(one, refused), text.percent(one.busy, one.elapsed), *end_of(one)] for one in some]
    return Table([*columns, "", "not computing", "up", "down", "peak memory"], rows, [one.share for one in some])


def begin_of(one: Worker, refused: Sequence[str]) -> list[str]:
    speed = text.rate(one.sums["samples"] / one.elapsed if one.elapsed > 0 else math.nan)
    counts = [text.count(one.sums[key]) for key in ("updates", *refused)]
    return [one.name, one.host, text.count(one.sums["samples"]), speed, *counts, BAR]


def end_of(one: Worker) -> list[str]:
    busy = [text.seconds(one.busy), text.seconds(one.elapsed - one.busy)]
    return [*busy, text.size(one.sums["bytes_up"]), text.size(one.sums["bytes_down"]), text.size(one.memory)]


def total(entries: Sequence[Entry], key: str) -> float:
    """The sum over those that have it, NaN where none has."""
    known = [value for entry in entries if (value := number(entry, lambda entry: entry[key])) == value]
    return sum(known) if known else math.nan


def shares(history: History) -> Table:
    """How good each worker's last weights are on its share of the training samples; no rows where nobody measured."""
    found = history.get("workers") or {}
    figures = list(dict.fromkeys(name for one in found.values() for name in one if name != "samples"))
    cells = [cell(text.count, "samples"), *(cell(text.figure, name) for name in figures)]
    rows = [[rank, *(show(found[rank]) for show in cells)] for rank in sorted(found, key=natural)]
    return Table(["rank", "samples", *figures], rows)


def traffic(history: History) -> Table:
    """Bytes between the workers and the master, in all, by update and by second."""
    elapsed, updates = seconds_of(history), sum(one.sums["updates"] for one in workers(history))
    rows = []
    for name, key in (("Up, to the master", "bytes_up"), ("Down, to the workers", "bytes_down")):
        amount = total(history["epochs"], key)
        each, speed = (amount / whole if whole > 0 else math.nan for whole in (updates, elapsed))
        rows.append(
            [name, text.size(amount), text.size(each), f"{text.size(speed)}/s" if text.known(speed) else text.DASH]
        )
    return Table(["-", "in all", "for an update", "rate"], rows)


def epochs(history: History) -> Table:
    """A row for every epoch, with columns for what any of them knows."""
    columns = [*count_columns(history), *figure_columns(history), *speed_columns()]
    return Table([title for title, _ in columns], [[cell(entry) for _, cell in columns] for entry in history["epochs"]])


def count_columns(history: History) -> list[Column]:
    refused = [name for name in REFUSED if total(history["epochs"], name) > 0]
    counts = [(name, cell(text.count, name)) for name in ("samples", "updates", *refused)]
    return [("epoch", cell(text.count, "epoch")), ("ends after", cell(text.seconds, "seconds")), *counts]


def figure_columns(history: History) -> list[Column]:
    """Training, validation, the whole training set, and the learning rate where it changed."""
    trained = ["loss", *metric_names(history)]
    changed = ["lr"] if len(set(figure(history, "lr").known)) > 1 else []
    figures = [name for name in (*trained, *(f"val_{name}" for name in trained)) if figure(history, name).known]
    whole = [name for name in trained if measured(history, name).known]
    return [
        *((name, cell(text.figure, name)) for name in figures),
        *((f"training set {name}", cell(text.figure, "training_set", name)) for name in whole),
        *((name, cell(text.figure, name)) for name in changed),
    ]


def speed_columns() -> list[Column]:
    return [
        ("staleness, mean (largest)", staleness_text), ("samples/s", cell(text.rate, "samples_per_second")),
        ("up", cell(text.size, "bytes_up")), ("down", cell(text.size, "bytes_down")),
    ]  # fmt: skip


def cell(show: Callable[[float], str], *keys: str) -> Callable[[Entry], str]:
    """How a number that these keys lead to is shown."""
    return lambda entry: show(number(entry, lambda entry: reduce(getitem, keys, entry)))


def staleness_text(entry: Entry) -> str:
    mean, largest = (number(entry, lambda entry, key=key: entry["staleness"][key]) for key in ("mean", "max"))  # type: ignore[misc]
    return f"{mean:.2f} ({largest:.0f})" if text.known(mean) and text.known(largest) else text.DASH
