"""Histories that runs have left, read back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nnlo.errors import DataError

ENDING = "_history.json"

NUMBER = (int, float)
RANK = dict.fromkeys(("samples", "updates", "refused", "late", "skipped", "busy_seconds", "samples_per_second"), NUMBER)
STALENESS = {"mean": NUMBER, "max": NUMBER, "histogram": [int]}
POINT = {"epoch": NUMBER, "seconds": NUMBER, "samples": NUMBER}
SHAPE: dict[str, Any] = {
    **dict.fromkeys(("model", "trial", "outcome", "stop_reason"), str),
    **dict.fromkeys(("ranks", "parameters", "train_samples", "seconds"), NUMBER),
    "arguments": {"mode": str, "batch": NUMBER, "optimizer": {"name": str, "lr": NUMBER}},
    "versions": {},
    "hosts": [str],
    "peak_memory_bytes": {"*": NUMBER},
    "seeds": {"ranks": {}},
    "workers": {"*": {"*": NUMBER}},
    "monitor": {"*": {"*": [NUMBER]}},
    "epochs": [
        {**POINT, "staleness": STALENESS, "training_set": {"*": NUMBER}, "usages": {"*": NUMBER}, "ranks": {"*": RANK}}
    ],
    "validations": [POINT],
    "restored": [{"checkpoint": str, "samples": NUMBER, "seconds": NUMBER, "ranks": NUMBER}],
    "lost": [{"rank": NUMBER, "host": str, "seconds": NUMBER, "samples": NUMBER}],
}
"""What readers of a history count on: of these kinds, or null, or not there. "*" stands for every key."""


def read_history(path: Path) -> dict[str, Any]:
    """The history in a file that a run wrote, with one epoch at least. Raises DataError, which names the file."""
    history = read_json(path)
    if not is_history(history):
        raise DataError(f"{path}: not the history of a run: name a file ...{ENDING}")
    if not history["epochs"]:
        raise DataError(f"{path}: the run ended before its first epoch did ({history.get('outcome', 'no outcome')})")
    return dict(history)


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot read ({error.strerror}): name a file ...{ENDING}") from None
    except (ValueError, RecursionError):
        raise DataError(f"{path}: not a JSON file: name a file ...{ENDING}") from None


def is_history(document: Any) -> bool:
    if not isinstance(document, Mapping) or not isinstance(document.get("epochs"), list) or not fits(document, SHAPE):
        return False
    points = [*document["epochs"], *(document.get("validations") or ())]
    return all(point and point.get("epoch") is not None for point in points)


def fits(value: Any, shape: Any) -> bool:
    """Whether all that `shape` names is of its kinds."""
    if value is None:
        return True
    if isinstance(shape, list):
        return isinstance(value, list) and all(fits(one, shape[0]) for one in value)
    if isinstance(shape, Mapping):
        return isinstance(value, Mapping) and all(
            fits(one, shape.get(key, shape.get("*"))) for key, one in value.items()
        )
    return shape is None or (isinstance(value, shape) and not isinstance(value, bool))


def labels(histories: Mapping[Path, Mapping[str, Any]]) -> list[str]:
    """A name for each: the trial where all differ, else the file, else its path."""
    trials = [str(history.get("trial") or path.name.removesuffix(ENDING)) for path, history in histories.items()]
    names = [path.name.removesuffix(ENDING) for path in histories]
    paths = [str(path) for path in histories]
    return next((some for some in (trials, names) if len(set(some)) == len(paths)), paths)
