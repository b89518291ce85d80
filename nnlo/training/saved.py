"""Histories that runs have left, read back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nnlo.errors import DataError

ENDING = "_history.json"


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
    """Whether all is of the kinds that readers of a history count on."""
    if not isinstance(document, Mapping) or not isinstance(document.get("epochs"), list):
        return False
    settings = all(isinstance(document.get(key, {}), Mapping) for key in ("arguments", "versions"))
    points = document.get("validations", [])
    return (
        settings and all(map(is_entry, document["epochs"])) and isinstance(points, list) and all(map(is_point, points))
    )


def is_point(entry: Any) -> bool:
    return isinstance(entry, Mapping) and isinstance(entry.get("epoch"), (int, float))


def is_entry(entry: Any) -> bool:
    """Whether this is the record of an epoch; what it lacks is no harm, what is of another kind is."""
    if not is_point(entry) or not isinstance(entry.get("staleness", {}), Mapping):
        return False
    ranks = entry.get("ranks", {})
    return isinstance(ranks, Mapping) and all(isinstance(rank, Mapping) for rank in ranks.values())


def labels(histories: Mapping[Path, Mapping[str, Any]]) -> list[str]:
    """A name for each: the trial where all differ, else the file, else its path."""
    trials = [str(history.get("trial") or path.name.removesuffix(ENDING)) for path, history in histories.items()]
    names = [path.name.removesuffix(ENDING) for path in histories]
    paths = [str(path) for path in histories]
    return next((some for some in (trials, names) if len(set(some)) == len(paths)), paths)
