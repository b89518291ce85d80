"""The order of an epoch's samples: a pure function of seed and epoch.

Samples are numbered through the file list. They are cut into blocks of `buffer` neighbours; an epoch
takes the blocks in random order and the samples of each block in random order. Batch k is the k-th
slice of that order, and the last batch may be short.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from nnlo.data.dealing import Range


@dataclass(frozen=True)
class Piece:
    """Samples of one block: the positions `rows` (relative to the block's start), in order."""

    block: int
    rows: NDArray[np.int64]


class Order(ABC):
    """`samples` in blocks of `buffer` and in batches of `batch`."""

    samples: int
    batch: int
    buffer: int

    @property
    def batches(self) -> int:
        """Batches in an epoch."""
        return -(-self.samples // self.batch)

    @property
    def blocks(self) -> int:
        return -(-self.samples // self.buffer)

    @property
    def shortest(self) -> int:
        """The samples of the shortest block."""
        return self.samples % self.buffer or self.buffer

    def bounds(self, block: int) -> tuple[int, int]:
        """The samples [start, stop) of a block, in the order of the file list."""
        return block * self.buffer, min((block + 1) * self.buffer, self.samples)

    @abstractmethod
    def batch_pieces(self, epoch: int, k: int) -> list[Piece]:
        """Where the samples of batch k lie, in order."""

    def blocks_of(self, dealt: Range) -> Iterable[int]:
        """The blocks that a range of batches reads, in order, each once."""
        start, stop = dealt.first * self.batch, min(dealt.stop * self.batch, self.samples)
        return self._blocks_between(dealt.epoch, start, stop) if start < stop else ()

    @abstractmethod
    def _blocks_between(self, epoch: int, start: int, stop: int) -> Iterable[int]:
        """The blocks that hold the places [start, stop), at least one, of an epoch's order."""


@dataclass(frozen=True)
class InOrder(Order):
    """Every epoch in the order of the file list: what a validation reads. A block is a whole number of batches."""

    samples: int
    batch: int
    buffer: int

    @classmethod
    def of(cls, samples: int, batch: int, buffer: int) -> InOrder:
        """In blocks of about `buffer` samples."""
        return cls(samples, batch, max(1, buffer // batch) * batch)

    def batch_pieces(self, epoch: int, k: int) -> list[Piece]:
        start, stop = k * self.batch, min((k + 1) * self.batch, self.samples)
        block = start // self.buffer
        begin = block * self.buffer
        return [Piece(block, np.arange(start - begin, stop - begin))]

    def _blocks_between(self, epoch: int, start: int, stop: int) -> Iterable[int]:
        return range(start // self.buffer, -(-stop // self.buffer))


class Shuffle(Order):
    """`samples` in batches of `batch`, shuffled in blocks of `buffer`."""

    def __init__(self, samples: int, batch: int, buffer: int, seed: int) -> None:
        self.samples, self.batch, self.buffer, self.seed = samples, batch, buffer, seed
        self._block_order = lru_cache(maxsize=2)(self._permute_blocks)
        self._sample_order = lru_cache(maxsize=4)(self._permute_samples)

    def batch_pieces(self, epoch: int, k: int) -> list[Piece]:
        order, ends = self._block_order(epoch)
        start, stop = k * self.batch, min((k + 1) * self.batch, self.samples)
        pieces = []
        at = bisect_right(ends, start)
        while start < stop:
            block, end = order[at], ends[at]
            low, high = self.bounds(block)
            begin = end - (high - low)
            until = min(stop, end)
            pieces.append(Piece(block, self._sample_order(epoch, block)[start - begin : until - begin]))
            start, at = until, at + 1
        return pieces

    def _blocks_between(self, epoch: int, start: int, stop: int) -> Iterable[int]:
        order, ends = self._block_order(epoch)
        return order[bisect_right(ends, start) : bisect_right(ends, stop - 1) + 1]

    def _permute_blocks(self, epoch: int) -> tuple[list[int], list[int]]:
        """The blocks in the epoch's order, and where each ends in it."""
        order = np.random.default_rng([self.seed, epoch]).permutation(self.blocks).tolist()
        sizes = (high - low for low, high in map(self.bounds, order))
        return order, list(accumulate(sizes))

    def _permute_samples(self, epoch: int, block: int) -> NDArray[np.int64]:
        low, high = self.bounds(block)
        return np.random.default_rng([self.seed, epoch, block + 1]).permutation(high - low)
