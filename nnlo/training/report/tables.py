"""The tables of a report: workers, traffic, epochs, configuration."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from nnlo.options import flag_of
from nnlo.training.plots.series import Entry, History, curve, metric_names, natural, number
from nnlo.training.report import text
from nnlo.training.report.content import seconds_of

LONG = 20
"""A table of more rows is folded."""

SHOWN = (
    "model", "trial", "outcome", "started", "arguments", "epochs", "validations", "nnlo", "versions", "hosts",
    "peak_memory_bytes", "workers", "monitor",
)  # fmt: skip
"""What has a place of its own in the report, or, as the samples of `monitor`, would fill pages."""

NAMES = {"seconds": "time in all", "train_data": "training data", "val_data": "validation data",
         "train_samples": "training samples", "val_samples": "validation samples"}  # fmt: skip


SUMS = ("samples", "updates", "refused", "busy_seconds", "bytes_up", "bytes_down")
"""What an entry tells of each rank, and what adds up over epochs."""

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
    hosts = history.get("hosts") or ()
    host = str(hosts[int(name)]) if name.isdecimal() and int(name) < len(hosts) else text.DASH
    sums = {key: total(entries, key) for key in SUMS}
    return Worker(name, host, sums, seconds_of(history), peak_memory(history, name))


def peak_memory(history: History, rank: str) -> float:
    return number(history, lambda history: history["peak_memory_bytes"][rank])


def worker_table(history: History) -> Table:
    """A row for every worker. The column without a title is for a bar of the share that it computed."""
    some = workers(history)
    refused = any(one.sums["refused"] > 0 for one in some)
    columns = ["rank", "-host", "samples", "samples/s", "updates", *(["refused"] if refused else []), "-computing", ""]
    own = [name for name in ("loss", *metric_names(history)) if any(own_figure(history, one, name) for one in some)]
    rows = [
        [
            *begin_of(one, refused), text.percent(one.busy, one.elapsed), *end_of(one),
            *(own_figure(history, one, name) for name in own),
        ]
        for one in some
    ]  # fmt: skip
    columns += ["", "not computing", "up", "down", "peak memory", *(f"{name} on its share" for name in own)]
    return Table(columns, rows, [one.share for one in some])


def own_figure(history: History, one: Worker, name: str) -> str:
    """What the worker's last weights gave on its share of the training samples; empty where that is not known."""
    value = number(history, lambda history: history["workers"][one.name][name])
    return text.figure(value) if text.known(value) else ""


def begin_of(one: Worker, refused: bool) -> list[str]:
    speed = text.rate(one.sums["samples"] / one.elapsed if one.elapsed > 0 else math.nan)
    counts = [text.count(one.sums[key]) for key in ("updates", *(["refused"] if refused else []))]
    return [one.name, one.host, text.count(one.sums["samples"]), speed, *counts, BAR]


def end_of(one: Worker) -> list[str]:
    busy = [text.seconds(one.busy), text.seconds(one.elapsed - one.busy)]
    return [*busy, text.size(one.sums["bytes_up"]), text.size(one.sums["bytes_down"]), text.size(one.memory)]


def total(entries: Sequence[Entry], key: str) -> float:
    """The sum over those that have it, NaN where none has."""
    known = [value for entry in entries if (value := number(entry, lambda entry: entry[key])) == value]
    return sum(known) if known else math.nan


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
    trained = ["loss", *metric_names(history)]
    figures = [name for name in (*trained, *(f"val_{name}" for name in trained)) if curve_of(history, name)]
    again = [name for name in trained if any(text.known(set_figure(entry, name)) for entry in history["epochs"])]
    refused = ["refused"] if total(history["epochs"], "refused") > 0 else []
    rates = curve(history, "lr", lambda entry: entry["lr"]).known
    rate = ["lr"] if len(set(rates)) > 1 else []
    columns = ["epoch", "ends after", "samples", "updates", *refused, *figures, *rate]
    columns += [f"{name} on the training set" for name in again]
    rows = [
        [
            text.count(value_of(entry, "epoch")), text.seconds(value_of(entry, "seconds")),
            *(text.count(value_of(entry, key)) for key in ("samples", "updates", *refused)),
            *(text.figure(value_of(entry, key)) for key in (*figures, *rate)),
            *(text.figure(set_figure(entry, name)) for name in again),
            staleness_text(entry), text.rate(value_of(entry, "samples_per_second")),
            text.size(value_of(entry, "bytes_up")), text.size(value_of(entry, "bytes_down")),
        ]
        for entry in history["epochs"]
    ]  # fmt: skip
    return Table([*columns, "staleness, mean (largest)", "samples/s", "up", "down"], rows)


def curve_of(history: History, name: str) -> list[float]:
    return curve(history, name, lambda entry: entry[name]).known


def value_of(entry: Entry, key: str) -> float:
    return number(entry, lambda entry: entry[key])


def set_figure(entry: Entry, name: str) -> float:
    """What the centre's weights gave on all training samples at the epoch's end."""
    return number(entry, lambda entry: entry["training_set"][name])


def staleness_text(entry: Entry) -> str:
    mean, largest = (number(entry, lambda entry, key=key: entry["staleness"][key]) for key in ("mean", "max"))  # type: ignore[misc]
    return f"{mean:.2f} ({largest:.0f})" if text.known(mean) and text.known(largest) else text.DASH


def arguments(history: History) -> list[tuple[str, str]]:
    """The options, by their flags; what has no value is left out."""
    given = history.get("arguments") or {}
    return [(flag_of(str(name)), value_text(value)) for name, value in given.items() if value not in (None, {}, [], "")]


def circumstances(history: History) -> list[tuple[str, str]]:
    """Data, machine and versions, and all else that the history tells."""
    hosts, versions = history.get("hosts") or (), (history.get("versions") or {})
    rest = [(str(key), value) for key, value in history.items() if key not in SHOWN]
    return [
        *([("hosts", text.times(hosts))] if hosts else []),
        *(
            (NAMES.get(key, key.replace("_", " ")), value_text(value, key))
            for key, value in rest
            if value not in (None, {}, [])
        ),
        ("peak memory, rank 0", text.size(peak_memory(history, "0"))),
        ("nnlo", str(history.get("nnlo", text.DASH))),
        *((str(name), str(version)) for name, version in versions.items()),
    ]


def value_text(value: Any, key: str = "") -> str:
    """Numbers with their separators and units, lists and dictionaries without brackets."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {value_text(one)}".removeprefix("name ") for name, one in value.items())
    if isinstance(value, list):
        return text.times(value_text(one) for one in value)
    if key == "seconds":
        return text.seconds(value)
    return f"{value:,}" if isinstance(value, int) and key != "seed" else str(value)
