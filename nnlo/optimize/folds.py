"""Cross-validation of a trial: K trainings, each of which validates on another of K parts of all data.

The parts are of samples, `nnlo.data.fold.Fold`, or of whole files, for data that make their own batches.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev

import numpy as np

from nnlo.data.lists import FileList, file_list
from nnlo.errors import OptionsError
from nnlo.topology.blocks import LEAST


@dataclass(frozen=True)
class FileFold:
    """The files of one fold's training, in the order in which they are listed."""

    trains: tuple[str, ...]
    validates: tuple[str, ...]


@dataclass(frozen=True)
class FoldGroup:
    """Ranks of a block that train together, and the folds that they train one after another."""

    ranks: tuple[int, ...]
    folds: tuple[int, ...]


def pooled(train_list: FileList, val_list: FileList) -> list[str]:
    """The files of both lists, each once: one of them alone validates in its fold."""
    both = file_list(train_list, "--train-data") + file_list(val_list, "--val-data")
    return list(dict.fromkeys(both))


def file_folds(files: Sequence[str], folds: int, seed: int) -> list[FileFold]:
    """Parts of the files that differ by one file at most, drawn at random by the seed. Raises OptionsError."""
    if folds > len(files):
        raise OptionsError(
            f"--n-fold {folds}: there are {len(files)} files in all, and each fold needs one: list more "
            "files, or give --fold-by samples"
        )
    order = np.random.default_rng(seed).permutation(len(files))
    held = [set(order[fold::folds]) for fold in range(folds)]
    return [
        FileFold(
            tuple(file for place, file in enumerate(files) if place not in part),
            tuple(file for place, file in enumerate(files) if place in part),
        )
        for part in held
    ]


def fold_groups(ranks: Sequence[int], folds: int) -> list[FoldGroup]:
    """As many groups of neighbours as there are folds, or as have a master and a worker; at least one, of all ranks.

    Spare ranks, and folds that are left over, go to the first groups.
    """
    groups = max(1, min(folds, len(ranks) // LEAST))
    return [
        FoldGroup(tuple(some), tuple(parts))
        for some, parts in zip(even_parts(ranks, groups), even_parts(range(folds), groups), strict=True)
    ]


def even_parts(items: Sequence[int], parts: int) -> list[Sequence[int]]:
    """Runs of neighbours; the first ones have one more where it does not come out even."""
    size, longer = divmod(len(items), parts)
    ends = [(place + 1) * size + min(place + 1, longer) for place in range(parts)]
    return [items[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]


def scored(figures: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation of the folds' figures, dividing by their number.

    A fold that failed, or whose figure is not finite, is NaN; then both are, and the trial has failed.
    """
    if not all(map(math.isfinite, figures)):
        return math.nan, math.nan
    return fmean(figures), pstdev(figures)
