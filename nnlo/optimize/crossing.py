"""Trials that are cross-validated: the ranks of a block train its folds, side by side where there are ranks enough."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nnlo.comm.agree import share
from nnlo.comm.base import Transport
from nnlo.data.fold import Fold
from nnlo.errors import Finished, NnloError, PeerLost, Preempted
from nnlo.optimize.block import Talk, Trainer, Weights
from nnlo.optimize.figure import FigureOfMerit
from nnlo.optimize.files import folder_of
from nnlo.optimize.folds import FoldGroup, fold_groups, scored
from nnlo.optimize.search import Outcome, Work
from nnlo.optimize.training import Build, Group
from nnlo.optimize.trial import Status
from nnlo.training.checkpoint.contents import RECORD
from nnlo.training.checkpoint.store import newest
from nnlo.training.signals import Signals

#: What became of a fold: its figure at each epoch's end, why it failed, or None where it was left.
Found = list[float] | str | None


class FoldTrainer(Trainer):
    """`comm` has the ranks of a block, which train so many `folds` of each trial. No weights are kept of them."""

    def __init__(
        self, comm: Any, folds: int, build: Build, figure: FigureOfMerit, folder: Path | None, signals: Signals
    ) -> None:
        mine = group_of(comm.rank, comm.size, folds)
        self._folds, self._mine, self._figure, self._folder = folds, mine.folds, figure, folder
        self._group = Group(comm.Split(mine.ranks[0], comm.rank), build, signals)

    async def train(self, group: Transport, work: Work, talk: Talk | None) -> tuple[Outcome | None, Weights | None]:
        """Folds need all ranks: raises PeerLost on all that are left where one of them has died."""
        found, lost = dict[int, Found](), False
        try:
            found = {fold: self._trained(work, fold) for fold in self._mine}
        except PeerLost:
            lost = True
        told = await share(group, [found if self._group.comm.rank == 0 else {}, lost or self._group.lost])
        if len(told) < group.size or any(lost for _, lost in told):
            raise PeerLost(group.peers[0], "folds need all ranks of a block, and one has died")
        known = {int(fold): what for some, _ in told for fold, what in some.items()}
        return (outcome_of([known[fold] for fold in range(self._folds)]) if talk else None), None

    def _trained(self, work: Work, fold: int) -> Found:
        checkpoints = self._folder and folder_of(self._folder, work.number) / f"fold-{fold}"
        try:
            manager = self._group.manager(work.parameters, checkpoints, train_split=Fold(fold, self._folds))
            history = self._group.train(manager)
        except Finished:
            history = kept_history(checkpoints)
        except PeerLost:
            raise
        except Preempted:
            return None
        except NnloError as error:
            return f"fold {fold}: {error}"
        return [self._figure.value_of(entry) for entry in history["epochs"]] if history else []


def kept_history(checkpoints: Path | None) -> Mapping[str, Any] | None:
    """That of a fold which was trained to its end before."""
    saved = newest(checkpoints) if checkpoints is not None else None
    found: dict[str, Any] | None = saved.tree(RECORD)["history"] if saved else None
    return found


def group_of(rank: int, ranks: int, folds: int) -> FoldGroup:
    """The one that this rank belongs to."""
    return next(group for group in fold_groups(range(ranks), folds) if rank in group.ranks)


def outcome_of(found: Sequence[Found]) -> Outcome:
    """What all folds together make of a trial: the mean of their figures."""
    if None in found:
        return Outcome(Status.RUNNING, reason="a signal")
    curves = [one for one in found if isinstance(one, list)]
    if reasons := [one for one in found if isinstance(one, str)]:
        return Outcome(Status.FAILED, reason="; ".join(reasons))
    last = [curve[-1] if curve else math.nan for curve in curves]
    mean, spread = scored(last)
    means = [scored(figures)[0] for figures in zip(*curves, strict=False)]
    return Outcome(Status.DONE, mean, spread, tuple(last), figures=tuple(means))
