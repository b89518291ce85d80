"""The state of a search: its trials as far as they have come, and what a block that is free is to do next."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from nnlo.optimize.figure import FigureOfMerit
from nnlo.optimize.pruners import Pruner
from nnlo.optimize.record import Record
from nnlo.optimize.results import cost_of
from nnlo.optimize.searchers import Asked, Searcher, Told
from nnlo.optimize.trial import Parameters, Status, Trial

LOSSES = 2
"""Times that ranks may die which train a trial, before it is taken for the reason."""
MAX_FAILURES = 5
"""Trials that fail one after another and end a search."""


@dataclass(frozen=True)
class Work:
    """What a block is given: trial `number`, to be trained until the end of epoch `until`.

    known: epochs whose figures are known already, since it goes on with a training.
    """

    number: int
    parameters: Parameters
    until: int
    known: int = 0


class Say(StrEnum):
    """What a block is told that has ended an epoch."""

    ON = "on"  # train on, until the end of another epoch
    REST = "rest"  # leave the training where it is
    STOP = "stop"  # end it for good
    LEAVE = "leave"  # the job ends: leave it so that it can be gone on with


@dataclass(frozen=True)
class Verdict:
    say: Say
    until: int = 0
    reason: str | None = None


@dataclass(frozen=True)
class Outcome:
    """How the work of a block on a trial ended, as its master tells it.

    status: RUNNING where it was left; then `reason` is what told the job to leave, None where its ranks died.
    figure: None where it failed, or was told before; figures: those at the epochs' ends, unless they were told before.
    """

    status: Status
    figure: float | None = None
    spread: float | None = None
    folds: tuple[float, ...] = ()
    figures: tuple[float, ...] = ()
    reason: str | None = None


@dataclass(frozen=True)
class Limits:
    """When a search ends before its last trial: once `target` is reached, after `seconds`, or after so many trials
    that failed one after another.
    """

    target: float | None = None
    seconds: float = math.inf
    failures: int = MAX_FAILURES


@dataclass(frozen=True)
class Stretch:
    """A time that a block worked on a trial, in seconds of the search; `status`: how the trial stood afterwards."""

    block: int
    trial: int
    began: float
    ended: float
    status: Status


class Search:
    """Asks `searcher` for points, and `pruner` which of the trials are worth going on with.

    `trials` by number, as far as each has come; `ended`, those that will not go on, in the order in which they ended.
    `clock`: seconds of the search, which a search that goes on from its record has behind it. `closing`: why no trial
    begins any more; `halts`: whether those that are running are to end too; `gave_up`: that too many trials failed, and
    why the last one did.
    """

    def __init__(
        self,
        searcher: Searcher,
        pruner: Pruner[Any],
        figure: FigureOfMerit,
        clock: Callable[[], float],
        record: Record | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.searcher, self.pruner, self.figure, self.limits = searcher, pruner, figure, limits or Limits()
        self.clock, self._record = clock, record
        self.trials: dict[int, Trial] = {}
        self.curves: dict[int, list[float]] = {}  # the costs of each, epoch by epoch
        self.ended: list[int] = []
        self.stretches: list[Stretch] = []
        self.closing: str | None = None
        self.halts = False
        self.gave_up: str | None = None
        self.failures = 0
        self._given: dict[int, tuple[int, float]] = {}  # the block that has a trial, and since when
        self._resting: dict[int, int] = {}
        self._left: list[int] = []  # begun by a job that ended, and to be gone on with
        self._proposal: Trial | None = None
        self._losses: Counter[int] = Counter()

    # What the searcher is asked.

    @property
    def wanted(self) -> int | None:
        """The number of the trial to ask for next; None where there is one at hand, or no more are wanted."""
        if self._proposal is not None or self.closed or len(self.trials) >= self.searcher.trials:
            return None
        return len(self.trials)

    @property
    def closed(self) -> bool:
        """Whether no trial begins any more."""
        if self.closing is None and self.clock() >= self.limits.seconds:
            self.closing = f"--timeout {self.limits.seconds:g}"
        return self.closing is not None

    def question(self) -> tuple[int, list[Told], list[Asked]]:
        """What `Searcher.ask` is to be given for the trial that is wanted."""
        tried = [self.trials[number] for number in [*self.ended, *self._resting]]
        told = [Told(one.number, one.parameters, one.after, self._cost(one)) for one in tried]
        known = {one.number for one in tried}
        running = [
            Asked(one.number, one.parameters, one.after) for one in self.trials.values() if one.number not in known
        ]
        return len(self.trials), told, running

    def propose(self, number: int, after: int, parameters: Parameters) -> None:
        """What the searcher asked for, when so many had ended."""
        self._proposal = Trial(number, parameters, Status.RUNNING, after)

    def _cost(self, trial: Trial) -> float | None:
        cost = cost_of(trial, self.figure)
        return None if math.isnan(cost) else cost

    # What a block is given.

    def next_work(self, block: int) -> Work | None:
        """What is to be done by a block that is free; None: nothing, as things are."""
        work = self._gone_on() or (None if self.closed else self._promoted() or self._begun())
        if work:
            self._given[work.number] = block, self.clock()
        return work

    def _gone_on(self) -> Work | None:
        """A trial that was running when the job before ended."""
        if self.closed or not self._left:
            return None
        trial = self.trials[self._left.pop(0)]
        leg = self.pruner.first_leg(trial.number, trial.epochs)
        return Work(trial.number, trial.parameters, leg.until, trial.epochs)

    def _promoted(self) -> Work | None:
        leg = self.pruner.next_leg(self._resting, self.curves, set(self.ended))
        if leg is None:
            return None
        del self._resting[leg.number]
        trial = self._put(replace(self.trials[leg.number], status=Status.RUNNING))
        return Work(trial.number, trial.parameters, leg.until, trial.epochs)

    def _begun(self) -> Work | None:
        if self._proposal is None:
            return None
        trial, self._proposal = replace(self._proposal, began=round(self.clock(), 3)), None
        self._put(trial)
        return Work(trial.number, trial.parameters, self.pruner.first_leg(trial.number).until)

    # What a block tells.

    def epoch(self, number: int, epoch: int, until: int, value: float) -> Verdict:
        """A trial has ended an epoch, with this figure, and was to train until the end of epoch `until`."""
        trial = self.trials[number]
        figures = (*trial.figures[: epoch - 1], value)
        self.trials[number] = replace(trial, figures=figures, figure=value)
        self.curves.setdefault(number, [])[epoch - 1 :] = [self.figure.cost(value)]
        if self._reached(value):
            self._halt(f"--target-objective {self.limits.target:g} is reached by trial {number}")
        if epoch >= self.pruner.epochs:
            return Verdict(Say.ON, until)
        if reason := self.pruner.stops(number, self.curves):
            return Verdict(Say.STOP, reason=reason)
        return Verdict(Say.ON, until) if epoch < until else self._rests(number, epoch)

    def _reached(self, figure: float | None) -> bool:
        """Whether it is what the search is looking for."""
        target = self.limits.target
        return figure is not None and target is not None and self.figure.reaches(figure, target)

    def _rests(self, number: int, epoch: int) -> Verdict:
        """At a rung: it goes on where it is the one that is worth most."""
        resting = {**self._resting, number: epoch}
        leg = None if self.closed else self.pruner.next_leg(resting, self.curves, set(self.ended))
        return Verdict(Say.ON, leg.until) if leg and leg.number == number else Verdict(Say.REST)

    def end(self, number: int, outcome: Outcome) -> Trial:
        """A block is free of a trial, which ended or rests."""
        block, began = self._given.pop(number)
        for epoch, value in enumerate(outcome.figures, 1):
            self.epoch(number, epoch, self.pruner.epochs, value)
        trial, seconds = self._judged(self.trials[number], outcome), self.clock() - began
        self._put(replace(trial, block=block, seconds=round(trial.seconds + seconds, 3)))
        self.stretches.append(Stretch(block, number, began, began + seconds, trial.status))
        if trial.status is Status.RESTING:
            self._resting[number] = trial.epochs
        else:
            self._ended(self.trials[number])
        return self.trials[number]

    def _judged(self, trial: Trial, outcome: Outcome) -> Trial:
        """With how it ended: one without a finite figure has failed, one that has reached the target is done."""
        status, reason = outcome.status, outcome.reason
        figure = trial.figure if outcome.figure is None and status is not Status.FAILED else outcome.figure
        if status is Status.DONE and (figure is None or math.isnan(self.figure.cost(figure))):
            status, reason, figure = Status.FAILED, f"its {self.figure.name} is not finite", None
        elif status is Status.PRUNED and self._reached(figure):
            status = Status.DONE
        return replace(trial, status=status, figure=figure, spread=outcome.spread, folds=outcome.folds, reason=reason)

    def _ended(self, trial: Trial) -> None:
        self.ended.append(trial.number)
        self.failures = self.failures + 1 if trial.status is Status.FAILED else 0
        if self.failures > self.limits.failures:
            self.gave_up = self.gave_up or f"{self.failures} trials in a row failed, the last one: {trial.reason}"
            self._halt(self.gave_up)

    def _halt(self, reason: str) -> None:
        self.closing, self.halts = self.closing or reason, True

    def left(self, number: int, died: bool) -> None:
        """A block is free of a trial, or gone with it, that is to be gone on with; died: its ranks did.

        One whose ranks died LOSSES times has failed.
        """
        if died:
            self._losses[number] += 1
        if self._losses[number] >= LOSSES:
            self.end(number, Outcome(Status.FAILED, reason=f"ranks that trained it died {LOSSES} times"))
        else:
            del self._given[number]
            self._left.append(number)

    def close(self) -> None:
        """The record is as it is to stay."""
        if self._record is not None:
            self._record.close()

    def finish(self) -> None:
        """Those that still rest were not worth going on with, unless the search was cut short."""
        if self.closing is not None and (self.gave_up or not self.halts):
            return
        for number in list(self._resting):
            del self._resting[number]
            self._put(replace(self.trials[number], status=Status.PRUNED, reason="not among the best of its rung"))
            self.ended.append(number)

    # What is known.

    def _put(self, trial: Trial) -> Trial:
        self.trials[trial.number] = trial
        if self._record is not None:
            self._record.add(trial)
        return trial

    @property
    def running(self) -> list[int]:
        """The trials that a block works on."""
        return list(self._given)

    @property
    def best(self) -> Trial | None:
        """The best of those that were trained to their ends; of those that were pruned where there is none."""
        for status in (Status.DONE, Status.PRUNED):
            tried = [one for one in self.trials.values() if one.status is status and self._cost(one) is not None]
            if tried:
                return min(tried, key=lambda one: (self._cost(one), one.number))
        return None

    def go_on(self, trials: list[Trial]) -> None:
        """Be where a job before left it: what had ended has, what rested rests, and what was running runs again."""
        for trial in sorted(trials, key=lambda one: one.number):
            self.trials[trial.number] = trial
            self.curves[trial.number] = [self.figure.cost(value) for value in trial.figures]
        for trial in trials:
            if trial.status is Status.RUNNING:
                self._left.append(trial.number)
            elif trial.status is Status.RESTING:
                self._resting[trial.number] = trial.epochs
            else:
                self.ended.append(trial.number)
