"""Searches from Python."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nnlo.manager import MPIManager
from nnlo.optimize.figure import DEFAULT, FigureOfMerit
from nnlo.optimize.files import SearchFiles
from nnlo.optimize.plan import Plan
from nnlo.optimize.pruners import pruner_of
from nnlo.optimize.search import Limits, Search
from nnlo.optimize.searchers import SEARCHERS
from nnlo.optimize.space import Space
from nnlo.optimize.space_file import space_of
from nnlo.optimize.space_skopt import space_of_skopt
from nnlo.topology import Blocks


def optimize(
    comm: Any,
    build: Callable[..., MPIManager],
    space: Space | Mapping[str, Any] | Sequence[Any],
    *,
    block_size: int = 2,
    iterations: int = 10,
    searcher: str = "bayesian",
    figure: str = DEFAULT,
    pruner: str = "none",
    epochs: int = 1,
    folds: int = 1,
    limits: Limits | None = None,
    seed: int = 0,
    folder: str | Path | None = None,
    checkpoints: bool = False,
    restore: bool = False,
    overwrite: bool = False,
    verbose: bool = False,
    **settings: Any,
) -> Search | None:
    """Search hyperparameters on the ranks of `comm`, each of which calls this; returns the search on rank 0, None
    elsewhere: `search.best.parameters` are the best ones.

    build: `build(comm, parameters, **options)` makes the `MPIManager` of a trial on the ranks of a block, and passes
    the options on to it. space: as in a file of `--search-space`, a dict; or a list of skopt dimensions with names.
    block_size: ranks of each block, rank 0 is of none. iterations: trials, or generations of the genetic searcher.
    searcher, settings: by name, with what is its own, as population=20. figure: as "val_acc,max". pruner: as
    "asha:reduction=3", with the `epochs` that a trial has. folds: above 1, parts of cross-validation. folder: for what
    the search leaves, None for nothing; checkpoints: whether trials keep checkpoints there, without which those that
    run when a job ends begin anew; restore: go on with the search in the folder; overwrite: replace it.

    Raises the same error on every rank: OptionsError for what cannot work, TrainingError where all trials fail.
    """
    from nnlo.optimize.over_mpi import search_on

    blocks, merit = Blocks.of(comm.size, block_size), FigureOfMerit.of(figure)
    chosen = SEARCHERS[searcher](as_space(space), seed, iterations, **settings)
    place = None if folder is None else Path(folder)
    plan = Plan(
        chosen,
        pruner_of(pruner, epochs, chosen.trials),
        merit,
        limits=limits,
        folder=place,
        restore=restore,
        overwrite=overwrite,
        settings={"searcher": searcher, "pruner": pruner, "seed": seed},
        files=None if place is None else SearchFiles(place, "search"),
        shows=verbose,
        folds=folds,
    )
    return search_on(comm, blocks, plan, build, plan.folder_of_checkpoints(checkpoints))


def as_space(given: Space | Mapping[str, Any] | Sequence[Any]) -> Space:
    """Raises OptionsError."""
    if isinstance(given, Space):
        return given
    return space_of(given) if isinstance(given, Mapping) else space_of_skopt(given, "the space")
