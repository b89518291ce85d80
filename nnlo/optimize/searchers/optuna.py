"""The samplers of Optuna, an extra package, on our contract.

A study lives in memory alone. It is brought about by doing again what happened in the search, in the same order, with
a sampler of the same seed; for speed it is kept from one asking to the next, as long as what it is given goes on from
what it has seen.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from nnlo.errors import OptionsError
from nnlo.optimize.dimensions import Categorical, Dimension, Integer, Range
from nnlo.optimize.searchers.base import Asked, Searcher, Told
from nnlo.optimize.searchers.draws import Purpose, generator, succeeded, unlike
from nnlo.optimize.space import Space
from nnlo.optimize.trial import Parameters, Trial

#: What Optuna's dashboard reads.
JOURNAL = "optuna_journal.log"
#: Samplers by name, of a module of samplers and a seed.
SAMPLERS: dict[str, Callable[[Any, int], Any]] = {
    "tpe": lambda samplers, seed: samplers.TPESampler(seed=seed, constant_liar=True),
    "cmaes": lambda samplers, seed: samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False),
    "nsga2": lambda samplers, seed: samplers.NSGAIISampler(seed=seed),
}


class Optuna(Searcher):
    """Tree-structured Parzen estimators ("tpe"), CMA-ES ("cmaes", choices at random) or NSGA-II ("nsga2").

    Each as Optuna sets it up: NSGA-II has generations of 50, and TPE begins with 10 random trials. Failed trials are
    told as failed, which all of them pass over.
    """

    settings: ClassVar[Mapping[str, str]] = {"optuna_sampler": "sampler"}

    def __init__(self, space: Space, seed: int, iterations: int, *, sampler: str = "tpe") -> None:
        super().__init__(space, seed, iterations)
        if sampler not in SAMPLERS:
            raise OptionsError(f"--optuna-sampler: unknown sampler '{sampler}': choose one of {', '.join(SAMPLERS)}")
        self.sampler = sampler
        self._optuna = extra("optuna")
        if sampler == "cmaes":
            extra("cmaes")
        self._optuna.logging.set_verbosity(self._optuna.logging.WARNING)
        self._study = self._begun()

    def ask(self, number: int, ended: Sequence[Told], running: Sequence[Asked]) -> Parameters:
        events = history(ended, running)
        if self._study.seen != events[: len(self._study.seen)]:
            self._study = self._begun()
        self._study.follow(events)
        rng = generator(self.seed, Purpose.OPTUNA, number)
        point = unlike(self.space, rng, [*ended, *running], [self._study.draw()])
        self._study.take(Asked(number, point, len(ended)))
        return point

    def journal(self, folder: Path, less_is_better: bool) -> Callable[[Trial], None]:
        """For Optuna's dashboard."""
        from nnlo.optimize.searchers.optuna_journal import OptunaJournal

        return OptunaJournal(folder / JOURNAL, self.space, "search", less_is_better).write

    def _begun(self) -> Study:
        """A study that has seen nothing."""
        seed = int(generator(self.seed, Purpose.SAMPLER, 0).integers(2**32))
        return Study(self._optuna, self.space, SAMPLERS[self.sampler](self._optuna.samplers, seed))


class Study:
    """One of Optuna's that follows a search; `seen` is what it has been told of it, in order."""

    def __init__(self, optuna: Any, space: Space, sampler: Any) -> None:
        self._failed = optuna.trial.TrialState.FAIL
        self._study = optuna.create_study(sampler=sampler)
        self._distributions = {one.name: distribution(optuna, one) for one in space.dimensions}
        self._trials: dict[int, Any] = {}
        self.seen: list[Asked] = []

    def follow(self, events: Sequence[Asked]) -> None:
        """Take in what happened since."""
        for event in events[len(self.seen) :]:
            if isinstance(event, Told):
                self._tell(event)
            else:
                self.draw()
                self.take(event)

    def draw(self) -> Parameters:
        """What the sampler wants to try next."""
        self._drawn = self._study.ask(self._distributions)
        return dict(self._drawn.params)

    def take(self, asked: Asked) -> None:
        """That trial is tried after a draw; where its point is another one, the draw comes to nothing."""
        if self._drawn.params != asked.parameters:
            self._study.tell(self._drawn, state=self._failed)
            self._study.enqueue_trial(dict(asked.parameters))
            self.draw()
        self._trials[asked.number] = self._drawn
        self.seen.append(asked)

    def _tell(self, told: Told) -> None:
        failed = not succeeded([told])
        self._study.tell(self._trials[told.number], None if failed else told.cost, self._failed if failed else None)
        self.seen.append(told)


def history(ended: Sequence[Told], running: Sequence[Asked]) -> list[Asked]:
    """What happened, in order: each trial as `Asked` when it was asked for, and as `Told` when it had ended.

    Those that rest stand behind those that have ended, so that one may stand before others that it came after.
    """
    events = [((one.after, 0, one.number), Asked(one.number, one.parameters, one.after)) for one in (*ended, *running)]
    events += [((max(place, one.after), 1, place), one) for place, one in enumerate(ended)]
    return [event for _, event in sorted(events, key=lambda event: event[0])]


def distribution(optuna: Any, dimension: Dimension) -> Any:
    """The dimension as Optuna knows it."""
    if isinstance(dimension, Categorical):
        return optuna.distributions.CategoricalDistribution(dimension.choices)
    assert isinstance(dimension, Range)
    integer = isinstance(dimension, Integer)
    kind = optuna.distributions.IntDistribution if integer else optuna.distributions.FloatDistribution
    return kind(dimension.low, dimension.high, log=dimension.log)


def extra(package: str) -> Any:
    """A package that does not come with this library. Raises OptionsError where it is not there."""
    try:
        return importlib.import_module(package)
    except ImportError:
        raise OptionsError(f"--hyper-opt optuna needs {package}: pip install 'nnlo[optuna]'") from None
