"""What became of a run, as its file keeps it: plain JSON, with a point for each validation."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nnlo.errors import DataError
from nnlo.training.atomic import replacing

Point = dict[str, Any]

AXES = {"samples": "epochs", "updates": "rounds", "seconds": "seconds", "bytes": "bytes"}
"""What curves run along, by the name in a point, and how an axis is called."""


@dataclass(frozen=True)
class Result:
    """One run: its options, how it ended, and `points`; `nodes` in a point are the figures of each worker."""

    name: str
    options: Mapping[str, Any]
    outcome: str
    seconds: float
    workers: int
    points: Sequence[Point]
    epochs: Sequence[Point]
    virtual: bool = False

    @property
    def done(self) -> bool:
        return self.outcome == "done"

    @property
    def last(self) -> Point:
        return self.points[-1] if self.points else {}

    def metrics(self) -> list[str]:
        """Those that it has at its points."""
        names = dict.fromkeys(name for point in self.points for name, value in point.items() if is_number(value))
        return [name for name in names if name not in (*AXES, "epoch")]

    def best(self, metric: str) -> float:
        """The best value: of a loss or a distance the least."""
        values = [point[metric] for point in self.points if metric in point and math.isfinite(point[metric])]
        if not values:
            return math.nan
        return float(max(values) if rises(metric) else min(values))

    def write(self, path: Path) -> None:
        with replacing(path) as scratch:
            scratch.write_text(json.dumps(finite(vars(self)), indent=1) + "\n", encoding="utf-8")


def read_result(path: Path) -> Result:
    """Raises DataError for a file that is none."""
    try:
        return Result(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path}: is no result of a run: {str(error).splitlines()[0]}") from None


def result_of(name: str, options: Mapping[str, Any], history: Mapping[str, Any], virtual: bool) -> Result:
    """From the history that a training leaves."""
    epochs = [{key: value for key, value in entry.items() if key != "ranks"} for entry in history["epochs"]]
    points = history["validations"] or [
        {name: entry[name] for name in ("epoch", "samples", "seconds", "loss")} for entry in epochs
    ]
    return Result(
        name,
        json.loads(json.dumps(dict(options), default=str)),
        history["outcome"],
        history["seconds"],
        history["ranks"] - 1,
        [placed(point, epochs) for point in points],
        epochs,
        virtual,
    )


def placed(point: Mapping[str, Any], epochs: Sequence[Mapping[str, Any]]) -> Point:
    """With the updates and the bytes up to there, which lie evenly between the ends of epochs."""
    ends = [0.0, *(float(entry["samples"]) for entry in epochs)]
    found: Point = {}
    for name, of_entry in (("updates", updates), ("bytes", travelled)):
        totals = np.concatenate(([0.0], np.cumsum([of_entry(entry) for entry in epochs])))
        found[name] = float(np.interp(point["samples"], ends, totals))
    return {**point, **found}


def updates(entry: Mapping[str, Any]) -> float:
    return float(entry["updates"])


def travelled(entry: Mapping[str, Any]) -> float:
    return float(entry["bytes_up"] + entry["bytes_down"])


def rises(metric: str) -> bool:
    """Whether more of it is better."""
    return not any(word in metric for word in ("loss", "consensus", "mse", "mae", "error"))


def spread(result: Result, metric: str) -> Iterator[tuple[float, float]]:
    """At each point the least and the greatest value over the workers; nothing where they have none."""
    for point in result.points:
        values = [node[metric] for node in point.get("nodes", {}).values() if node.get(metric) is not None]
        if values:
            yield min(values), max(values)


def typical(point: Mapping[str, Any], metric: str) -> float:
    """The mean over the workers where each has a value of its own, else that of the one model that there is."""
    values = [node[metric] for node in point.get("nodes", {}).values() if node.get(metric) is not None]
    return sum(values) / len(values) if values else float(point.get(metric, math.nan))


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def finite(value: Any) -> Any:
    """As JSON has it: null for inf and nan."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(name): finite(one) for name, one in value.items()}
    return [finite(one) for one in value] if isinstance(value, (list, tuple)) else value
