"""A file list in K equal parts, the folds: one validates, the others are trained on.

Each file is cut into up to STRETCHES stretches, and each one into K runs of neighbours, one of each fold in a random
order. So each fold holds samples from all over every file, also where a file is sorted, and is read in few pieces. Who
is in which fold is a pure function of the seed, the files' counts and K.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice, pairwise

import numpy as np

from nnlo.data.base import Span
from nnlo.data.index import Index
from nnlo.data.split import Share
from nnlo.errors import OptionsError

#: Runs of a file in each fold, where it has as many samples of it: more than those of a split, as folds are small.
STRETCHES = 64


@dataclass(frozen=True)
class FoldShare(Share):
    """The samples of one side; `folds` holds each file's samples in each fold, and fold `number` validates."""

    folds: tuple[tuple[int, ...], ...]
    number: int

    def held_out(self, at: int, rng: np.random.Generator) -> list[Span]:
        return runs_of(self.number, self.folds[at], rng)


@dataclass(frozen=True)
class Fold:
    """Fold `number`, from 0, of `count`; those of one seed belong together, and differ by one sample at most."""

    number: int
    count: int

    def __post_init__(self) -> None:
        if self.count < 2 or not 0 <= self.number < self.count:
            raise OptionsError(f"--n-fold: there is no fold {self.number} of {self.count}: make 2 or more, from 0 on")

    def split(self, index: Index, seed: int) -> tuple[Share, Share]:
        """What is trained on, and the fold, to validate on."""
        folds = tuple(sizes_by_file([b - a for a, b in pairwise((0, *index.ends))], self.count, seed))
        sizes = tuple((sum(one) - one[self.number], one[self.number]) for one in folds)
        trained, held = (tuple(accumulate(one[side] for one in sizes)) for side in (0, 1))
        return (
            FoldShare(index.files, trained, sizes, seed, validates=False, folds=folds, number=self.number),
            FoldShare(index.files, held, sizes, seed, validates=True, folds=folds, number=self.number),
        )


def sizes_by_file(counts: Sequence[int], folds: int, seed: int) -> Iterator[tuple[int, ...]]:
    """How many samples of each file each fold has: a whole part each, and the rest of the file is dealt out."""
    turns = in_turn(folds, np.random.default_rng([seed, len(counts)]))  # the files' own are numbered from 0 to that
    for count in counts:
        rest = Counter(islice(turns, count % folds))
        yield tuple(count // folds + rest[fold] for fold in range(folds))


def in_turn(folds: int, rng: np.random.Generator) -> Iterator[int]:
    """All folds in a random order, and again in another one, without end."""
    while True:
        yield from map(int, rng.permutation(folds))


def runs_of(number: int, sizes: Sequence[int], rng: np.random.Generator) -> list[Span]:
    """The runs, in order, of fold `number` in a file of which the folds have `sizes` samples.

    A row of each array is a stretch; a column of `lengths` a fold, of the others a place in the stretch.
    """
    stretches = max(1, min(STRETCHES, max(sizes)))
    lengths = np.diff(np.arange(stretches + 1)[:, None] * np.array(sizes) // stretches, axis=0)
    orders = rng.permuted(np.tile(np.arange(len(sizes)), (stretches, 1)), axis=1)
    stops = np.take_along_axis(lengths, orders, axis=1).cumsum()[orders.ravel() == number]
    begins = stops - lengths[:, number]
    return list(zip(begins.tolist(), stops.tolist(), strict=True))
