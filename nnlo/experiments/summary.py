"""All runs of an experiment as one table: a CSV file, and text columns for the terminal."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from typing import Any

from nnlo.experiments.results import Result, travelled, updates

FIXED = ("run", "outcome", "workers", "epochs", "updates", "seconds", "bytes")


def rows(results: Sequence[Result]) -> tuple[list[str], list[list[Any]]]:
    """The names of the columns and a row for each run: the last and the best value of each metric."""
    metrics = list(dict.fromkeys(name for one in results for name in one.metrics()))
    head = [*FIXED, *(column for name in metrics for column in (name, f"best {name}"))]
    return head, [[*fixed(one), *measured(one, metrics)] for one in results]


def fixed(result: Result) -> list[Any]:
    last = result.epochs[-1]["epoch"] if result.epochs else 0
    total = int(sum(map(updates, result.epochs))), int(sum(map(travelled, result.epochs)))
    return [result.name, result.outcome, result.workers, last, total[0], round(result.seconds, 3), total[1]]


def measured(result: Result, metrics: Sequence[str]) -> list[Any]:
    return [value for name in metrics for value in (result.last.get(name), result.best(name))]


def as_csv(results: Sequence[Result]) -> str:
    text = io.StringIO()
    head, body = rows(results)
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([name.replace(" ", "_") for name in head])
    writer.writerows([["" if missing(value) else value for value in row] for row in body])
    return text.getvalue()


def as_text(results: Sequence[Result]) -> str:
    """What fits a terminal: no best values."""
    head, body = rows(results)
    kept = [place for place, name in enumerate(head) if not name.startswith("best ") and name != "workers"]
    cells = [[head[place] for place in kept], *([cell(row[place]) for place in kept] for row in body)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(kept))]
    lines = (
        "  ".join(text.ljust(width) if not column else text.rjust(width) for column, (text, width) in enumerate(pairs))
        for pairs in (list(zip(row, widths, strict=True)) for row in cells)
    )
    return "\n".join(line.rstrip() for line in lines)


def cell(value: Any) -> str:
    if missing(value):
        return "-"
    if isinstance(value, int) and value >= 10_000:
        return f"{value:.3g}".replace("e+0", "e").replace("e+", "e")
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
