"""Searches for the minima of functions: nnlo's on blocks of the virtual clock, others alone, one point after another.

On the virtual clock an evaluation takes a second, with a jitter of 20 %, and what a searcher thinks takes none.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from typing import Any

from functions import Function
from skopt import Optimizer
from skopt.space import Real

from nnlo.comm.base import Transport
from nnlo.comm.costs import Costs
from nnlo.comm.virtual import VirtualWorld
from nnlo.optimize.arguments import POPULATION
from nnlo.optimize.block import Talk, Trainer, Weights
from nnlo.optimize.coordinator import Watcher
from nnlo.optimize.figure import FigureOfMerit
from nnlo.optimize.plan import searched
from nnlo.optimize.pruners import pruner_of
from nnlo.optimize.search import Limits, Outcome, Search, Stretch, Work
from nnlo.optimize.searchers import SEARCHERS, Asked, Searcher, Told
from nnlo.optimize.trial import Parameters, Status
from nnlo.topology import Blocks
from nnlo.training.signals import Signals

OURS = ("bayesian", "random", "genetic", *(["optuna"] if find_spec("optuna") else []))
COSTS = Costs(compute=1.0, jitter=0.2)
BLOCK_SIZE = 2


@dataclass
class Found:
    """values: of each evaluation, in the order in which they ended, and when; asks: seconds of a core for each point.

    idle: of all blocks' time until the last trial began, the share in which they had none.
    """

    values: list[float] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)
    asks: list[float] = field(default_factory=list)
    idle: float | None = None


def figures(function: Function, found: Found) -> dict[str, Any]:
    """A search as JSON keeps it."""
    gaps = [function.gap(value) for value in found.values]
    count = function.evaluations(found.values)
    seconds = None if count is None else found.ended[count - 1]
    return {"evaluations": count, "seconds": seconds, "gaps": gaps, "asks": found.asks, "idle": found.idle}


# On blocks.


class Evaluation(Trainer):
    """A trial of one epoch, whose figure is the function at its point."""

    def __init__(self, function: Function) -> None:
        self._function = function

    async def train(self, group: Transport, work: Work, talk: Talk | None) -> tuple[Outcome | None, Weights | None]:
        if talk is None:
            return None, None
        value = await group.compute(partial(self._function, work.parameters.values()), 1)
        await talk.epoch(1, value)
        return Outcome(Status.DONE), None


class Timed(Searcher):
    """Another searcher, and the seconds of a core that each of its answers took."""

    def __init__(self, inner: Searcher) -> None:
        super().__init__(inner.space, inner.seed, inner.iterations)
        self._inner, self.asks = inner, list[float]()

    @property
    def trials(self) -> int:
        return self._inner.trials

    def ask(self, number: int, ended: Sequence[Told], running: Sequence[Asked]) -> Parameters:
        began = time.process_time()
        point = self._inner.ask(number, ended, running)
        self.asks.append(time.process_time() - began)
        return point


def on_blocks(name: str, blocks: int, function: Function, seed: int, budget: int) -> Found:
    """Until the minimum is reached, or after `budget` evaluations."""
    iterations = budget // POPULATION if name == "genetic" else budget
    searcher = Timed(SEARCHERS[name](function.space, seed, iterations))
    limits = Limits(target=function.target)

    def make(clock: Callable[[], float]) -> tuple[Search, Watcher]:
        pruner, figure = pruner_of("none", 1, searcher.trials), FigureOfMerit.of("val_loss")
        return Search(searcher, pruner, figure, clock, limits=limits), Watcher()

    world = VirtualWorld(1 + BLOCK_SIZE * blocks, costs=COSTS, seed=seed)
    plan, trainer = Blocks.of(world.size, BLOCK_SIZE), Evaluation(function)
    search = world.run(lambda transport: searched(transport, plan, make, trainer, Signals()))
    assert search is not None
    trials = [search.trials[number] for number in search.ended]
    values, ended = [one.figure for one in trials], [one.ended for one in search.stretches]
    return Found([one for one in values if one is not None], ended, searcher.asks, idle(search.stretches, blocks))


def idle(stretches: Sequence[Stretch], blocks: int) -> float:
    """Of all blocks' time until the last trial began, the share in which they had none."""
    until = max(one.began for one in stretches)
    worked = sum(min(one.ended, until) - one.began for one in stretches)
    return 1.0 - worked / (blocks * until) if until else 0.0


# Alone.


def by_skopt(function: Function, seed: int, budget: int) -> Found:
    """As `skopt.gp_minimize` does with its defaults: 10 random points, then gp_hedge."""
    optimizer = Optimizer([Real(*ends) for ends in function.ranges], random_state=seed)
    return alone(function, budget, optimizer.ask, optimizer.tell)


def by_optuna(function: Function, seed: int, budget: int) -> Found:
    """By TPE with its defaults: 10 random points at first."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    ranges = {str(number): optuna.distributions.FloatDistribution(*ends) for number, ends in enumerate(function.ranges)}
    trials: list[Any] = []

    def ask() -> list[float]:
        trials.append(study.ask(ranges))
        return [*trials[-1].params.values()]

    return alone(function, budget, ask, lambda point, value: study.tell(trials[-1], value))


def alone(function: Function, budget: int, ask: Callable[[], Any], tell: Callable[[Any, float], object]) -> Found:
    """One evaluation after another, of a second each, until the minimum is reached."""
    found = Found()
    while len(found.values) < budget and min(found.values, default=math.inf) > function.target:
        began = time.process_time()
        point = ask()
        value = function(point)
        tell(point, value)
        found.asks.append(time.process_time() - began)
        found.values.append(value)
        found.ended.append(float(len(found.values)))
    return found


ALONE = {"skopt": by_skopt, **({"optuna": by_optuna} if find_spec("optuna") else {})}
