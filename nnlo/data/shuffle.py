"""The order of an epoch's samples: a pure function of seed and epoch.

Samples are numbered through the file list. They are cut into blocks of `buffer` neighbours; an epoch
takes the blocks in random order and the samples of each block in random order. Batch k is the k-th
slice of that order, and the last batch may be short.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


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

    def bounds(self, block: int) -> tuple[int, int]:
        """The samples [start, stop) of a block, in the order of the file list."""
        return block * self.buffer, min((block + 1) * self.buffer, self.samples)

    @abstractmethod
    def batch_pieces(self, epoch: int, k: int) -> list[Piece]:
        """Where the samples of batch k lie, in order."""


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


@dataclass(frozen=True)
class Shuffle(Order):
    """`samples` in batches of `batch`, shuffled in blocks of `buffer`."""

    samples: int
    batch: int
    buffer: int
    seed: int

    def batch_pieces(self, epoch: int, k: int) -> list[Piece]:
        order, ends = block_order(self, epoch)
        start, stop = k * self.batch, min((k + 1) * self.batch, self.samples)
        pieces = []
        at = int(np.searchsorted(ends, start, side="right"))
        while start < stop:
            block, end = int(order[at]), int(ends[at])
            low, high = self.bounds(block)
            begin = end - (high - low)
            until = min(stop, end)
            pieces.append(Piece(block, sample_order(self, epoch, block)[start - begin : until - begin]))
            start, at = until, at + 1
        return pieces


@lru_cache(maxsize=8)
def block_order(shuffle: Shuffle, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The blocks in the epoch's order, and where each ends in it."""
    order = np.random.default_rng([shuffle.seed, epoch]).permutation(shuffle.blocks)
    sizes = [high - low for low, high in map(shuffle.bounds, map(int, order))]
    return order, np.cumsum(sizes)


@lru_cache(maxsize=4)
def sample_order(shuffle: Shuffle, epoch: int, block: int) -> NDArray[np.int64]:
    low, high = shuffle.bounds(block)
    return np.random.default_rng([shuffle.seed, epoch, block + 1]).permutation(high - low)
