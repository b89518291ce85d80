"""A whole search, on all ranks of a communicator: the first one coordinates, the others train in blocks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from nnlo.comm.agree import agree, everywhere
from nnlo.comm.base import Transport
from nnlo.errors import NnloError, OptionsError, Preempted, TrainingError
from nnlo.logs import LOG
from nnlo.optimize.block import Block, Trainer
from nnlo.optimize.coordinator import Coordinator, Watcher
from nnlo.optimize.figure import FigureOfMerit
from nnlo.optimize.files import SearchFiles
from nnlo.optimize.progress import Counts, SearchProgress
from nnlo.optimize.pruners import Pruner
from nnlo.optimize.record import Record, Recorded, read_record
from nnlo.optimize.search import Limits, Say, Search
from nnlo.optimize.searchers import Searcher
from nnlo.optimize.trial import Status, Trial
from nnlo.topology import Blocks
from nnlo.training.signals import Signals

MakeSearch = Callable[[Callable[[], float]], tuple[Search, Watcher]]


async def searched(
    transport: Transport, blocks: Blocks, make: MakeSearch, trainer: Trainer, signals: Signals
) -> Search | None:
    """The search, on the coordinator; None elsewhere. `make` is called there alone, with the clock.

    Raises, on all ranks alike, what `make` raises, TrainingError where too many trials failed, and Preempted where a
    signal told to leave.
    """
    number = blocks.block(transport.rank)
    made = await everywhere(transport, (lambda: None) if number else partial(make, transport.clock))
    group = await transport.split(number or None)
    if made is None:
        assert group is not None
        await Block(transport, trainer).run(group)
        await agree(transport, None)
        return None
    coordinator = Coordinator(transport, blocks, *made, signals)
    try:
        await coordinator.run()
    finally:
        coordinator.search.close()
    await agree(transport, failure(coordinator))
    return coordinator.search


def failure(coordinator: Coordinator) -> NnloError | None:
    """Why the job does not end with 0."""
    search = coordinator.search
    if search.gave_up is not None:
        return TrainingError(search.gave_up)
    if coordinator.halted is Say.LEAVE:
        return Preempted(f"stopped by {coordinator.signalled}: --opt-restore goes on from there")
    if search.best is None:
        reasons = [search.trials[number].reason for number in search.ended]
        return TrainingError(f"no trial ended well, the last one: {reasons[-1] if reasons else 'none began'}")
    return None


class Plan:
    """What a search is to be: makes it on the coordinator, anew or from the record of `folder` where that is wanted.

    settings: what the record keeps of it, for a search that goes on to be the same; `files`: what it leaves; `folds`:
    above 1, each trial is trained so many times, and validates on another part of the data each time.
    """

    def __init__(
        self,
        searcher: Searcher,
        pruner: Pruner[Any],
        figure: FigureOfMerit,
        *,
        limits: Limits | None = None,
        folder: Path | None = None,
        restore: bool = False,
        overwrite: bool = False,
        settings: Mapping[str, Any] | None = None,
        files: SearchFiles | None = None,
        shows: bool = False,
        folds: int = 1,
    ) -> None:
        self.folds = folds
        self._searcher, self._pruner, self.figure, self._limits = searcher, pruner, figure, limits
        self._folder, self._restore, self._overwrite, self.files = folder, restore, overwrite, files
        self._settings = {"space": searcher.space.recorded(), "figure_of_merit": str(figure), **(settings or {})}
        self._shows = shows

    @property
    def trials(self) -> int:
        """How many the search makes."""
        return self._searcher.trials

    def folder_of_checkpoints(self, wanted: bool) -> Path | None:
        """That of the trials, where they are `wanted`, or needed since trials rest. Raises OptionsError."""
        rests = self._pruner.first_leg(0).until < self._pruner.epochs
        if (wanted or rests) and self._folder is None:
            raise OptionsError("trials that rest, or are to be gone on with, need a folder: name one")
        return self._folder if wanted or rests else None

    def make(self, clock: Callable[[], float]) -> tuple[Search, Watcher]:
        """Raises OptionsError for a folder that holds another search, and DataError for a record that is damaged."""
        before = read_record(self._folder) if self._folder else None
        trials: list[Trial] = []
        record = None
        if self._folder is not None and (before is None or not self._restore):
            if before is not None and not self._overwrite:
                raise OptionsError(f"{before.path}: there is a search: give --opt-restore to go on, or --overwrite")
            if before is not None and self.files is not None:
                self.files.clear()
            record = Record.begin(self._folder, self._settings)
        elif before is not None:
            self._check(before)
            record, trials = Record.go_on(before), before.trials
        behind = max((trial.began + trial.seconds for trial in trials), default=0.0)
        search = Search(
            self._searcher, self._pruner, self.figure, lambda: behind + clock(), record=record, limits=self._limits
        )
        search.go_on(trials)
        if self._restore:
            LOG.info("%s: %s", self._folder, f"goes on after {len(search.ended)} trials" if trials else "begins anew")
        journal = self._searcher.journal(self._folder, self.figure.mode == "min") if self._folder else None
        return search, Reports(search, self.files, self._shows, journal)

    def _check(self, before: Recorded) -> None:
        """Raises OptionsError, with what is other, where the record is that of another search."""
        was = dict(before.search)
        found = self._searcher.space.differences(was.pop("space", []))
        found += changes({name: now for name, now in self._settings.items() if name != "space"}, was)
        if found:
            raise OptionsError(f"--opt-restore: {before.path} is of another search: {'; '.join(found)}")


def changes(now: Mapping[str, Any], was: Mapping[str, Any]) -> list[str]:
    """What is other, in words; of settings within a setting each by itself."""
    found: list[str] = []
    for name in dict.fromkeys([*now, *was]):
        new, old = now.get(name), was.get(name)
        if isinstance(new, Mapping) and isinstance(old, Mapping):
            found += changes(new, old)
        elif new != old:
            found.append(f"{name} is {new} (was {old})")
    return found


class Reports(Watcher):
    """Shows how far the search is, and keeps its files up to date."""

    def __init__(
        self,
        search: Search,
        files: SearchFiles | None,
        shows: bool,
        journal: Callable[[Trial], None] | None = None,
    ) -> None:
        self._search, self._files, self._journal = search, files, journal
        self.keeps = files is not None
        self._written = 0  # how many of those that have ended are in the journal
        self._progress = SearchProgress(search.searcher.trials, len(search.ended)) if shows else None

    def ended(self, trial: Trial, weights: bytes | None) -> None:
        if trial.status is Status.FAILED:
            LOG.warning("trial %d failed: %s", trial.number, trial.reason)
        if self._files is not None:
            self._files.told(self._search, trial, weights)

    def _keep_journal(self) -> None:
        if self._journal is None:
            return
        for number in self._search.ended[self._written :]:
            try:
                self._journal(self._search.trials[number])
            except OSError as error:
                LOG.warning("the journal of trial %d cannot be written (%s): make room there", number, error.strerror)
        self._written = len(self._search.ended)

    def changed(self) -> None:
        self._keep_journal()
        if self._progress is not None and (self._search.running or self._search.ended):
            self._progress.show(counts(self._search))

    def over(self) -> None:
        self._keep_journal()
        if self._progress is not None:
            self._progress.show(counts(self._search))
            self._progress.close()
        if self._files is not None:
            self._files.finish(self._search)


def counts(search: Search) -> Counts:
    how = [search.trials[number].status for number in search.ended]
    best = search.best
    shown = (best.number, best.figure) if best and best.figure is not None else None
    return Counts(len(how), len(search.running), how.count(Status.PRUNED), how.count(Status.FAILED), shown)
