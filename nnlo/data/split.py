"""A file list in two: samples to train on, and samples to validate on.

Each file is cut into up to RUNS stretches, and in each stretch a run of neighbours at a random place
validates. So both sides hold samples from all over every file, also where a file is sorted, and both
are read in few pieces. Who is on which side is a pure function of the seed, the files' counts and the share.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain, pairwise
from math import floor

import numpy as np

from nnlo.data.base import Span
from nnlo.data.index import Index

#: Runs of a file that validate, where it has as many samples to validate on.
RUNS = 16


@dataclass(frozen=True)
class Share(Index):
    """The samples of one side, numbered from 0; `sizes` holds each file's samples (trained on, validated on)."""

    sizes: tuple[tuple[int, int], ...]
    seed: int
    validates: bool

    def spans(self, at: int) -> list[Span]:
        runs = self.held_out(at, np.random.default_rng([self.seed, at]))
        if self.validates:
            return runs
        borders = [0, *chain.from_iterable(runs), sum(self.sizes[at])]
        return [(low, high) for low, high in zip(borders[::2], borders[1::2], strict=True) if low < high]

    def held_out(self, at: int, rng: np.random.Generator) -> list[Span]:
        """The rows of file number `at` to validate on, in order."""
        return held_out(*self.sizes[at], rng)


def split(index: Index, fraction: float, seed: int) -> tuple[Share, Share]:
    """What is trained on, `fraction` of all samples rounded to whole ones, and the rest, to validate on."""
    ends = (0, *index.ends)
    trained = [floor(fraction * end + 0.5) for end in ends]
    held = [end - some for end, some in zip(ends, trained, strict=True)]
    sizes = tuple((b - a, d - c) for (a, b), (c, d) in zip(pairwise(trained), pairwise(held), strict=True))
    return (
        Share(index.files, tuple(trained[1:]), sizes, seed, validates=False),
        Share(index.files, tuple(held[1:]), sizes, seed, validates=True),
    )


def held_out(trained: int, held: int, rng: np.random.Generator) -> list[Span]:
    """The runs, in order, of a file of `trained + held` samples that hold the samples to validate on."""
    count = min(RUNS, held)
    borders = [(i * trained // count, i * held // count) for i in range(count + 1)] if count else []
    runs = []
    for (a, c), (b, d) in pairwise(borders):
        begin = a + c + int(rng.integers(0, b - a, endpoint=True))
        runs.append((begin, begin + d - c))
    return runs
