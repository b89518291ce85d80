"""Training samples in parts, one for each worker, that stay where they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from nnlo.data.base import Span
from nnlo.data.fold import Fold
from nnlo.data.index import Index, within


@dataclass(frozen=True)
class Part(Index):
    """Some samples of `whole`, numbered from 0: of each file those at the places `chosen` among its own there."""

    whole: Index
    chosen: tuple[tuple[Span, ...], ...]

    @classmethod
    def within(cls, whole: Index, chosen: Sequence[Sequence[Span]]) -> Part:
        """`chosen`: of each file, in order."""
        counts = (sum(high - low for low, high in spans) for spans in chosen)
        return cls(whole.files, tuple(accumulate(counts)), whole, tuple(tuple(spans) for spans in chosen))

    def spans(self, at: int) -> list[Span]:
        whole = self.whole.spans(at)
        return [span for low, high in self.chosen[at] for span in within(whole, low, high)]


def evenly(index: Index, workers: int, seed: int) -> list[Index]:
    """As many parts, whose sizes differ by one sample at most, each from all over every file (see `nnlo.data.fold`)."""
    if workers == 1:
        return [index]
    folds = (Fold(number, workers).split(index, seed)[1] for number in range(workers))
    return [Part.within(index, [fold.spans(at) for at in range(len(index.files))]) for fold in folds]
