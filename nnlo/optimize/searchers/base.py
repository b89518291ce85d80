"""What a searcher is: it asks for the next point of a space, given all that is known so far."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from nnlo.optimize.space import Space
from nnlo.optimize.trial import Parameters, Trial
from nnlo.registry import Registry


@dataclass(frozen=True)
class Asked:
    """A point that was asked for: the trial's number, and how many trials had ended by then."""

    number: int
    parameters: Parameters
    after: int


@dataclass(frozen=True)
class Told(Asked):
    """A point that was tried. cost: less is better; None where the trial failed."""

    cost: float | None


class Searcher(ABC):
    """Chooses the points of a search over `space`.

    What it asks for is a function of its settings and of what it is given alone, so that a search which goes on from
    its record asks for what it would have asked for. What it keeps between two calls is for speed, and nothing else.
    iterations: what `--num-iterations` says. `settings`: {option: the constructor's keyword} of what is its own.
    """

    settings: ClassVar[Mapping[str, str]] = {}

    def __init__(self, space: Space, seed: int, iterations: int) -> None:
        self.space, self.seed, self.iterations = space, seed, iterations

    @property
    def trials(self) -> int:
        """How many trials the search makes."""
        return self.iterations

    def journal(self, folder: Path, less_is_better: bool) -> Callable[[Trial], None] | None:
        """What is told of each trial that has ended, and keeps it in `folder` for another program; None: nothing is."""
        return None

    @abstractmethod
    def ask(self, number: int, ended: Sequence[Told], running: Sequence[Asked]) -> Parameters:
        """The point of trial `number`. `ended` are in the order in which they ended, `running` in that of asking."""


SEARCHERS: Registry[type[Searcher]] = Registry("searcher", "--hyper-opt")
