"""What a search leaves in its folder, and keeps up to date while it runs."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from nnlo.errors import DataError
from nnlo.logs import LOG
from nnlo.optimize.plots import View, draw
from nnlo.optimize.results import write_results
from nnlo.optimize.search import Search
from nnlo.optimize.trial import Status, Trial
from nnlo.optimize.weights import write_packed
from nnlo.training.atomic import discard, replacing
from nnlo.training.weight_files import WeightFiles

COMMAND = "best_command.sh"
CHECKPOINTS = "trial-[0-9][0-9][0-9][0-9]*"


def folder_of(folder: Path, number: int) -> Path:
    """That of a trial's checkpoints."""
    return folder / f"trial-{number:04d}"


class SearchFiles:
    """Those of the search called `name`: the table, the pictures, and the best trial's weights and command.

    command: makes the command that trains a trial again; None where there is no such. A file that cannot be written is
    told, and the search goes on.
    """

    def __init__(self, folder: Path, name: str, command: Callable[[Trial], str] | None = None) -> None:
        self.folder, self._name, self._command = folder, name, command
        self.weights = WeightFiles(folder / "best_weights.safetensors", folder / "best_weights.pt")
        self.left: list[Path] = []

    def clear(self) -> None:
        """Another search takes the place of the one that was here: nothing stays that might be taken for its own."""
        for folder in self.folder.glob(CHECKPOINTS):
            shutil.rmtree(folder, ignore_errors=True)
        for path in (*self.weights, self.folder / COMMAND):
            discard(path)

    def told(self, search: Search, trial: Trial, weights: bytes | None) -> None:
        """A trial has ended or rests; its weights are here where it is the best so far."""
        if trial.status is not Status.RESTING:
            shutil.rmtree(folder_of(self.folder, trial.number), ignore_errors=True)
        if weights is not None:
            self._try([partial(write_packed, self.weights, weights)])
        self._try([partial(self._table, search)])

    def finish(self, search: Search) -> None:
        """The search is over. The checkpoints of trials that would go on stay."""
        for number in search.ended:
            shutil.rmtree(folder_of(self.folder, number), ignore_errors=True)
        self._try([partial(self._table, search), partial(self._best, search), partial(self._pictures, search)])
        self.left += [path for path in self.weights if path.is_file()]

    def _table(self, search: Search) -> None:
        path = write_results(self.folder, search.trials.values(), search.searcher.space.names, search.figure)
        self.left = list(dict.fromkeys([*self.left, path]))

    def _best(self, search: Search) -> None:
        if search.best is None or self._command is None:
            return
        path = self.folder / COMMAND
        with replacing(path) as scratch:
            scratch.write_text(self._command(search.best) + "\n", encoding="utf-8")
        self.left.append(path)

    def _pictures(self, search: Search) -> None:
        space = {one.pop("name"): one for one in search.searcher.space.recorded()}
        view = View(list(search.trials.values()), search.stretches, space, search.figure, self._name)
        self.left += draw(self.folder, view)

    def _try(self, parts: Sequence[Callable[[], None]]) -> None:
        for part in parts:
            try:
                part()
            except DataError as error:
                LOG.warning("%s", error)
