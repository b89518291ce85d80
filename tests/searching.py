"""What tests of searchers share: a search on blocks that end out of order, and what was asked of whom and when."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from nnlo.optimize.dimensions import Categorical, Integer, Real
from nnlo.optimize.searchers import SEARCHERS, Asked, Searcher, Told
from nnlo.optimize.space import Space
from nnlo.optimize.trial import Parameters

Cost = Callable[[Parameters], float | None]

MIXED = Space(
    [
        Real("lr", 1e-5, 1e-1, log=True),
        Integer("width", 2, 40),
        Integer("batch", 8, 512, log=True),
        Categorical("optimizer", ("sgd", None, True, 0.5)),
    ]
)
SQUARE = Space([Real("x", -2, 2), Real("y", 0, 10)])


def quadratic(point: Parameters) -> float:
    """At least 0, at (0.7, 3)."""
    return float((point["x"] - 0.7) ** 2 + ((point["y"] - 3) / 2.5) ** 2)


optuna = pytest.mark.skipif(importlib.util.find_spec("optuna") is None, reason="optuna is not installed")
cmaes = pytest.mark.skipif(importlib.util.find_spec("cmaes") is None, reason="cmaes is not installed")
ROWS = (
    pytest.param("random", {}, id="random"),
    pytest.param("grid", {"points": 4}, id="grid"),
    pytest.param("genetic", {"population": 4}, id="genetic"),
    pytest.param("bayesian", {}, id="bayesian"),
    pytest.param("optuna", {"sampler": "tpe"}, id="tpe", marks=optuna),
    pytest.param("optuna", {"sampler": "cmaes"}, id="cmaes", marks=[optuna, cmaes]),
    pytest.param("optuna", {"sampler": "nsga2"}, id="nsga2", marks=optuna),
)
"""The conformance table: every searcher by name, with its settings."""


def searcher_of(name: str, settings: dict[str, Any], space: Space, trials: int, seed: int = 3) -> Searcher:
    """A searcher of about that many trials."""
    iterations = -(-trials // settings["population"]) if "population" in settings else trials
    return SEARCHERS[name](space, seed, iterations, **settings)


@dataclass(frozen=True)
class Asking:
    """One asking: what the searcher was given, and its answer."""

    number: int
    ended: tuple[Told, ...]
    running: tuple[Asked, ...]
    answer: Parameters


def search(searcher: Searcher, cost: Cost, trials: int, blocks: int = 3) -> list[Asking]:
    """The first trials of a search; where all blocks are busy, now one and now another ends."""
    ended: list[Told] = []
    running: list[Asked] = []
    askings = []
    for number in range(trials):
        if len(running) == blocks:
            over = running.pop((number * 7) % blocks)
            ended.append(Told(over.number, over.parameters, over.after, cost(over.parameters)))
        answer = searcher.ask(number, ended, running)
        askings.append(Asking(number, tuple(ended), tuple(running), answer))
        running.append(Asked(number, answer, len(ended)))
    return askings


def points(askings: list[Asking]) -> list[Parameters]:
    return [asking.answer for asking in askings]


def told(costs: list[float | None], space: Space, units: Any) -> list[Told]:
    """Trials that have ended in the order of their numbers, at those places of the unit cube."""
    return [Told(n, space.from_unit(unit), 0, cost) for n, (cost, unit) in enumerate(zip(costs, units, strict=True))]
