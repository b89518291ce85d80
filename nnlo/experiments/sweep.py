"""One description of a run with lists in it stands for many runs: one for each choice of an item of each list."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

Options = dict[str, Any]


def grid(name: str, options: Mapping[str, Any], sweeps: Callable[[str], bool]) -> Iterator[tuple[str, Options]]:
    """(name, options) of each run; `sweeps` tells whether a list stands for several values of that option."""
    lists = {key: value for key, value in options.items() if isinstance(value, list) and sweeps(key)}
    for chosen in itertools.product(*lists.values()):
        picked = dict(zip(lists, chosen, strict=True))
        told = [f"{key}={short(value)}" for key, value in picked.items()]
        yield " ".join([name, *told]), {**options, **picked}


def short(value: Any) -> str:
    """A value in a run's name."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def slug(name: str) -> str:
    """A run's name as that of a file."""
    return re.sub(r"[^\w.=+-]+", "_", name).strip("_.") or "run"
