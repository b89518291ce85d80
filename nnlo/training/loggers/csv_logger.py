"""A table of the epochs that grows as they end."""

from __future__ import annotations

import csv
import math
from typing import Any

from nnlo.training.callbacks import Logs
from nnlo.training.outputs import LineFile
from nnlo.training.record import figures_of

PLAIN = ("epoch", "seconds", "samples", "updates", "lr", "samples_per_second")
"""What a history entry and a row both have."""


class CSVLogger(LineFile):
    """One row an epoch: its number and seconds, counts, rate, staleness, bytes, loss, metrics and val_ figures.

    The first row fixes the columns. What is not known (NaN) is an empty cell. filename: default
    `<output>/<model>_<trial>_metrics.csv`.
    """

    ending = "metrics.csv"

    def on_train_begin(self, logs: Logs) -> None:
        super().on_train_begin(logs)
        self._columns: tuple[str, ...] = ()

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        writer, row = csv.writer(self, lineterminator="\n"), flat(logs)
        if not self._columns:
            self._columns = tuple(row)
            writer.writerow(self._columns)
        writer.writerow([cell(row.get(name)) for name in self._columns])


def flat(entry: Logs) -> dict[str, Any]:
    """A history entry without its dictionaries."""
    trained, validated = figures_of(entry)
    return {
        **{name: entry[name] for name in PLAIN},
        "staleness_mean": entry["staleness"]["mean"],
        "staleness_max": entry["staleness"]["max"],
        "bytes_up": entry["bytes_up"],
        "bytes_down": entry["bytes_down"],
        **trained,
        **validated,
    }


def cell(value: Any) -> Any:
    """Empty for NaN; None is empty anyway."""
    return "" if isinstance(value, float) and math.isnan(value) else value
