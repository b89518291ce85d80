"""Batches as tensors, ready to train on: by number from files, or in turn from a user's generator.

A feed's `read` runs on a reading thread, ahead of training.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from nnlo.data.base import Arrays, Data, rows
from nnlo.data.index import Index
from nnlo.data.shuffle import Order, Piece

Tensors: TypeAlias = "Tensor | list[Tensor]"

#: Blocks of the shuffle buffer kept in memory by one rank.
KEPT_BLOCKS = 2


@dataclass(frozen=True)
class Batch:
    """Samples along axis 0 of every tensor."""

    x: Tensors
    y: Tensors
    samples: int


class Feed(ABC):
    @abstractmethod
    def read(self, epoch: int, k: int) -> Batch | None:
        """Batch k of an epoch; None past its end."""


class SampleFeed(Feed):
    """Any batch by its number, read block by block; floats are given as `dtype`."""

    def __init__(self, data: Data, index: Index, order: Order, dtype: torch.dtype) -> None:
        self._data, self._index, self._order, self._dtype = data, index, order, dtype
        self._blocks: OrderedDict[int, tuple[Tensors, Tensors]] = OrderedDict()

    def read(self, epoch: int, k: int) -> Batch | None:
        if k >= self._order.batches:
            return None
        pieces = self._order.batch_pieces(epoch, k)
        parts = [self._gather(piece) for piece in pieces]
        x, y = (
            parts[0] if len(parts) == 1 else (concatenated([p[0] for p in parts]), concatenated([p[1] for p in parts]))
        )
        return Batch(x, y, sum(len(piece.rows) for piece in pieces))

    def _gather(self, piece: Piece) -> tuple[Tensors, Tensors]:
        x, y = self._block(piece.block)
        index = torch.from_numpy(piece.rows)
        return self._chosen(x, index), self._chosen(y, index)

    def _chosen(self, value: Tensors, index: Tensor) -> Tensors:
        return each(value, lambda t: cast(t.index_select(0, index), self._dtype))

    def _block(self, block: int) -> tuple[Tensors, Tensors]:
        if block not in self._blocks:
            while len(self._blocks) >= KEPT_BLOCKS:
                self._blocks.popitem(last=False)
            x, y = self._index.read(self._data, *self._order.bounds(block))
            self._blocks[block] = tensors(x), tensors(y)
        self._blocks.move_to_end(block)
        return self._blocks[block]


class GeneratorFeed(Feed):
    """The batches of `generate_data`, from its beginning each epoch; `turn` (i, n) takes batches i, i + n, ..."""

    def __init__(self, data: Data, dtype: torch.dtype, turn: tuple[int, int] = (0, 1)) -> None:
        self._data, self._dtype, self._turn = data, dtype, turn
        self._epoch: int | None = None
        self._batches: Iterator[tuple[Arrays, Arrays]] = iter(())

    def read(self, epoch: int, k: int) -> Batch | None:
        if epoch != self._epoch:
            self._epoch, self._batches = epoch, self._turns()
        for x, y in self._batches:
            return as_batch(x, y, self._dtype)
        return None

    def _turns(self) -> Iterator[tuple[Arrays, Arrays]]:
        return islice(self._data.generate_data(), self._turn[0], None, self._turn[1])


def as_batch(x: Arrays, y: Arrays, dtype: torch.dtype) -> Batch:
    return Batch(each(tensors(x), lambda t: cast(t, dtype)), each(tensors(y), lambda t: cast(t, dtype)), rows(y))


def cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Floats in the model's type; integers as they are."""
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def tensors(arrays: Arrays) -> Tensors:
    """Arrays as tensors, over the same memory where it can be shared."""
    return [tensor(a) for a in arrays] if isinstance(arrays, list) else tensor(arrays)


def tensor(array: np.ndarray) -> Tensor:
    array = np.asarray(array)
    if array.dtype in (np.uint16, np.uint32, np.uint64):
        array = array.astype(np.int64)
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    return torch.from_numpy(np.ascontiguousarray(native) if native.flags.writeable else native.copy())


def each(value: Tensors, change: Callable[[Tensor], Tensor]) -> Tensors:
    return [change(t) for t in value] if isinstance(value, list) else change(value)


def concatenated(parts: list[Tensors]) -> Tensors:
    first = parts[0]
    if isinstance(first, list):
        return [torch.cat([part[i] for part in parts]) for i in range(len(first))]
    return torch.cat([part for part in parts if isinstance(part, Tensor)])
