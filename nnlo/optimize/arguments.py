"""The options of a search."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from nnlo.errors import OptionsError
from nnlo.optimize.figure import DEFAULT, FigureOfMerit
from nnlo.optimize.pruners import PRUNERS
from nnlo.optimize.search import MAX_FAILURES
from nnlo.optimize.searchers import SEARCHERS, Searcher
from nnlo.optimize.space import Space
from nnlo.options import Options, flag_of, option
from nnlo.training.durations import seconds_of

POPULATION, POINTS = 10, 5
SAMPLERS = ("tpe", "cmaes", "nsga2")
FOLDS = ("samples", "files")


@dataclass(frozen=True, kw_only=True)
class SearchArguments(Options):
    """Search"""

    block_size: int = option(
        2, help="ranks that train a trial together, a master and its workers; rank 0 is of no block", metavar="N",
        at_least=2,
    )  # fmt: skip
    num_iterations: int = option(
        10, help="trials to make; with --hyper-opt genetic generations", metavar="N", at_least=1
    )
    hyper_opt: str = option("bayesian", help="what chooses the points to try", choices=lambda: SEARCHERS)
    search_space: Path | None = option(
        None,
        help="YAML file of what is searched, parameters of the model and options of training by their names (default "
        "what get_model.parameter_range of the model says)",
        metavar="FILE.yaml",
    )
    figure_of_merit: str = option(
        DEFAULT, help="what is looked for: a figure of the history and min or max", metavar="METRIC[,min|max]"
    )
    n_fold: int = option(
        1,
        help="cross-validation: train each trial so many times, on all data but another of so many parts, and take the "
        "mean of the figures; the ranks of a block share the trainings",
        metavar="K",
        at_least=1,
    )
    fold_by: str = option(
        "samples",
        help="what the parts of --n-fold are made of: samples of all files, or whole files",
        choices=lambda: FOLDS,
    )
    target_objective: float | None = option(
        None, help="end the search as soon as the figure of merit is as good as this", metavar="FIGURE"
    )
    pruner: str = option(
        "none",
        help=f"what ends trials early that promise little: {', '.join(PRUNERS)}, with settings as in "
        "asha:reduction=3,grace=2",
        metavar="NAME[:K=V,...]",
    )
    timeout: str | None = option(
        None, help="begin no trial after this time, as 90s, 10m or 2h; those that run go on to their ends",
        metavar="TIME",
    )  # fmt: skip
    max_failures: int = option(
        MAX_FAILURES, help="trials that may fail one after another; one more ends the search", metavar="N", at_least=0
    )
    random_state: int = option(0, help="seed of what chooses the points", metavar="N", at_least=0)
    ga_populations: int = option(
        POPULATION, help="trials of a generation of --hyper-opt genetic", metavar="N", at_least=2
    )
    grid_points: int = option(
        POINTS, help="values of a real parameter, or an integer one, in --hyper-opt grid", metavar="N", at_least=2
    )
    optuna_sampler: str = option("tpe", help="the sampler of --hyper-opt optuna", choices=lambda: SAMPLERS)
    opt_restore: bool = option(
        False, help="go on with the search that --checkpoint, or else --output, holds; where there is none one begins"
    )

    def check(self) -> None:
        FigureOfMerit.of(self.figure_of_merit)
        if PRUNERS.canonical(self.pruner.partition(":")[0]) != "none" and self.n_fold > 1:
            raise OptionsError(f"--pruner {self.pruner} looks at one training a trial: drop it, or --n-fold")
        _ = self.seconds

    @property
    def seconds(self) -> float | None:
        """After which no trial begins; None: no limit. Raises OptionsError."""
        return None if self.timeout is None else seconds_of("--timeout", self.timeout)

    def searcher(self, space: Space) -> Searcher:
        """What chooses the points. Raises OptionsError."""
        kind = SEARCHERS[self.hyper_opt]
        settings = {keyword: getattr(self, name) for name, keyword in kind.settings.items()}
        return kind(space, self.random_state, self.num_iterations, **settings)


@dataclass(frozen=True, kw_only=True)
class ExampleArguments(Options):
    """Model"""

    example: str | None = option(None, help="an old name of --model", metavar="NAME")

    def as_model(self, given: Collection[str]) -> dict[str, str]:
        """The option that it stands for. Raises OptionsError where that is given as well."""
        if self.example is not None and "model" in given:
            raise OptionsError("--example is an old name of --model: drop one of them")
        return {} if self.example is None else {"model": self.example}


def check_read_by(searcher: str, given: Collection[str]) -> None:
    """Raises OptionsError for a given option of other searchers."""
    for name in SEARCHERS:
        for option_name in SEARCHERS[name].settings.keys() - SEARCHERS[searcher].settings.keys():
            if option_name in given:
                raise OptionsError(f"{flag_of(option_name)} is read by --hyper-opt {name} alone: drop it")
