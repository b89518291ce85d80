"""A trial: one set of hyperparameters, trained and scored; a line of `trials.jsonl` each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

#: Hyperparameters by name; plain numbers, texts and booleans, as JSON keeps them.
Parameters = Mapping[str, Any]


class Status(StrEnum):
    """How a trial stands or ended; one that is resting at a rung of its pruner may go on."""

    RUNNING = "running"
    DONE = "done"
    PRUNED = "pruned"
    FAILED = "failed"
    RESTING = "resting"


@dataclass(frozen=True)
class Trial:
    """A trial as far as it has come.

    number: its place in the order of asking, from 0. after: trials that had ended when it was asked for. block: the
    last one that trained it. figure: the figure of merit, as measured (not a cost), None where it failed; spread: its
    standard deviation over the folds. figures: the figure at each epoch's end, from the first one; folds: the
    figure of each fold. began: seconds from the beginning of the search; seconds: that blocks worked on it. reason: why
    it failed or was pruned.
    """

    number: int
    parameters: Parameters
    status: Status
    after: int = 0
    block: int = 0
    figure: float | None = None
    spread: float | None = None
    figures: tuple[float, ...] = ()
    folds: tuple[float, ...] = ()
    began: float = 0.0
    seconds: float = 0.0
    reason: str | None = None

    @property
    def epochs(self) -> int:
        """Epochs trained."""
        return len(self.figures)
