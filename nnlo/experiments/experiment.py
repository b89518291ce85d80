"""An experiment as its file describes it: what all runs have in common, and the runs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nnlo.comm.costs import Costs
from nnlo.errors import OptionsError
from nnlo.experiments.delays import Delay, delay_of, drawn
from nnlo.experiments.document import Document, Place
from nnlo.experiments.sweep import grid, slug
from nnlo.options import Options, fields_of, option

EVALUATE_ON, FIGURES = ("validation", "train"), ("together", "separate")
OTHERS = ("delays", "costs")
COSTS = ("compute", "jitter", "latency", "bandwidth")


@dataclass(frozen=True, kw_only=True)
class ExperimentOptions(Options):
    """What an experiment has beside options of training."""

    name: str | None = option(None, help="its name, in that of its folder (default that of the file)")
    folder: Path = option(Path("experiments"), help="where its folder is made")
    workers: int | None = option(
        None, help="how many each run has; over MPI one less than the ranks", at_least=1, metavar="N"
    )
    solo: bool = option(False, help="also train each worker alone on its own samples, and one process on all of them")
    evaluate_on: str = option("validation", help="which samples are validated on", choices=lambda: EVALUATE_ON)
    evaluate_every: int | None = option(None, help="batches between two validations (default an epoch)", at_least=1)
    figures: str = option("together", help="one picture a metric, or one for each axis too", choices=lambda: FIGURES)


@dataclass(frozen=True)
class Run:
    """One training: `options` are those of TrainingDriver that it is given, `place` where the file says so."""

    name: str
    options: Mapping[str, Any]
    place: Place

    @property
    def file(self) -> str:
        return f"{slug(self.name)}.json"


class Trains(ABC):
    """What the options of a training are: whoever trains says."""

    @abstractmethod
    def check(self, name: str, value: Any) -> Any:
        """The value as the option wants it. Raises OptionsError."""

    @abstractmethod
    def sweeps(self, name: str) -> bool:
        """Whether a list stands for several values, since one value of it is no list."""


@dataclass(frozen=True)
class Experiment:
    options: ExperimentOptions
    runs: tuple[Run, ...]
    delay: Delay = field(default_factory=Delay)
    costs: Costs = field(default_factory=Costs)

    @classmethod
    def read(cls, document: Document, trains: Trains) -> Experiment:
        """Raises OptionsError, which names the file and the line, for what is unknown, wrong or there twice."""
        content = document.content
        if not isinstance(content, Mapping) or not {"experiment", "runs"} >= content.keys() or "runs" not in content:
            document.fail((), "expected 'experiment:' and 'runs:', and nothing else beside them")
        given = content.get("experiment") or {}
        if not isinstance(given, Mapping):
            document.fail(("experiment",), "expected lines of the form 'option: value'")
        own, common, others = divided(document, given, trains)
        options = made(document, ExperimentOptions, own)
        if options.name is None:
            options = ExperimentOptions(**{**own, "name": document.path.stem})
        runs = tuple(runs_of(document, content["runs"], common, trains))
        check_names(document, runs)
        return cls(options, runs, delay_in(document, others), costs_in(document, others))

    def in_folder(self, folder: Path) -> Experiment:
        """The same, whose folder is made there."""
        return replace(self, options=replace(self.options, folder=folder))

    def delayed(self, seed: int) -> Callable[[int], float] | None:
        """The seconds of the next batch of a rank; None where nobody is delayed."""
        return None if type(self.delay) is Delay else drawn(self.delay, seed)


def divided(
    document: Document, given: Mapping[str, Any], trains: Trains
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """What is the experiment's own, what are options of all runs, and what is neither a number nor a text."""
    names = [one.name for one in fields_of(ExperimentOptions)]
    own: dict[str, Any] = {}
    common: dict[str, Any] = {}
    others: dict[str, Any] = {}
    for key, value in given.items():
        name = str(key).replace("-", "_")
        if name in names:
            own[name] = value
        elif name in OTHERS:
            others[name] = value
        else:
            common[name] = checked(document, trains, name, value, ("experiment", str(key)))
    return own, common, others


def made(document: Document, section: type[ExperimentOptions], own: Mapping[str, Any]) -> ExperimentOptions:
    """Each option by itself, so that a complaint has a line."""
    for name, value in own.items():
        try:
            section(**{name: value})
        except OptionsError as error:
            document.fail(("experiment", name), str(error).removeprefix("--").replace("-", "_", 1))
    return section(**own)


def checked(document: Document, trains: Trains, name: str, value: Any, place: Place) -> Any:
    """An option of training; of a list that stands for several, each."""
    try:
        if isinstance(value, list) and trains.sweeps(name):
            if not value:
                raise OptionsError(f"{name}: an empty list stands for no run: name a value")
            return [trains.check(name, one) for one in value]
        return trains.check(name, value)
    except OptionsError as error:
        document.fail(place, str(error))


def runs_of(document: Document, given: Any, common: Mapping[str, Any], trains: Trains) -> list[Run]:
    if not isinstance(given, list) or not given:
        document.fail(("runs",), "expected a list of runs, each with a name")
    found: list[Run] = []
    for number, one in enumerate(given):
        place: Place = ("runs", number)
        if not isinstance(one, Mapping) or not isinstance(one.get("name"), str) or not one["name"].strip():
            document.fail(place, "a run needs a name: give 'name: ...' and options of training")
        options = {
            str(key).replace("-", "_"): checked(document, trains, str(key).replace("-", "_"), value, (*place, str(key)))
            for key, value in one.items()
            if key != "name"
        }
        found += [Run(name, told, place) for name, told in grid(one["name"], {**common, **options}, trains.sweeps)]
    return found


def check_names(document: Document, runs: tuple[Run, ...]) -> None:
    """Names of files are what tells runs apart."""
    seen: dict[str, Run] = {}
    for run in runs:
        if run.file in seen:
            document.fail(run.place, f"the run '{run.name}' has the name of another one: name it otherwise")
        seen[run.file] = run


def delay_in(document: Document, others: Mapping[str, Any]) -> Delay:
    try:
        return delay_of(others.get("delays", "none"))
    except OptionsError as error:
        document.fail(("experiment", "delays"), f"delays: {error}")


def costs_in(document: Document, others: Mapping[str, Any]) -> Costs:
    """Those of the virtual clock."""
    given = others.get("costs", {})
    if not isinstance(given, Mapping):
        document.fail(("experiment", "costs"), f"costs: expected settings such as {{compute: 1e-4}}, not {given!r}")
    for name, value in given.items():
        place = ("experiment", "costs", str(name))
        if name not in COSTS:
            document.fail(place, f"costs: unknown setting '{name}': it has {', '.join(COSTS)}")
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
            document.fail(place, f"costs: {name} must be a number, at least 0, not {value!r}")
    return Costs(**{name: float(value) for name, value in given.items()})
