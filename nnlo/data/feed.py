"""Batches as tensors, ready to train on: by number from files, or in turn from a user's generator.

A feed's `read` runs on a reading thread, ahead of training.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nnlo.data.base import Arrays, Data, rows
from nnlo.data.blocks import Blocks, Tensors, each, stored_type
from nnlo.data.dealing import UNBOUNDED, Range
from nnlo.data.index import Index
from nnlo.data.shuffle import Order, Piece

__all__ = ["Batch", "Feed", "GeneratorFeed", "SampleFeed", "Tensors", "as_batch"]


@dataclass(frozen=True)
class Batch:
    """Samples along axis 0 of every tensor."""

    x: Tensors
    y: Tensors
    samples: int


class Feed(ABC):
    @abstractmethod
    def read(self, epoch: int, k: int) -> Batch | None:
        """Batch k of an epoch, in memory of its own; None past the epoch's end."""

    def expect(self, coming: Sequence[Range]) -> None:  # noqa: B027
        """What is going to be read after the last batch; a feed that preloads begins with it."""

    def in_order(self, epoch: int, first: int = 0, stop: int = UNBOUNDED) -> Iterator[Batch]:
        """The batches `first` to `stop` of an epoch, as far as there are any, preloaded where this feed does that."""
        for k in range(first, stop):
            batch = self.read(epoch, k)
            if batch is None:
                return
            self.expect([Range(epoch, k + 1, stop - k - 1)])
            yield batch


class SampleFeed(Feed):
    """Any batch by its number, read block by block; floats are given as `dtype`, integers as they are."""

    def __init__(self, data: Data, index: Index, order: Order, dtype: torch.dtype) -> None:
        self._order, self._dtype = order, dtype
        self._blocks = Blocks(data, index, order, dtype)
        self._preloads = data.preloading > 0

    def read(self, epoch: int, k: int) -> Batch | None:
        if k >= self._order.batches:
            return None
        pieces = self._order.batch_pieces(epoch, k)
        parts = [self._gather(piece) for piece in pieces]
        x, y = parts[0] if len(parts) == 1 else (joined([x for x, _ in parts]), joined([y for _, y in parts]))
        return Batch(x, y, sum(len(piece.rows) for piece in pieces))

    def expect(self, coming: Sequence[Range]) -> None:
        if self._preloads:
            self._blocks.expect(block for dealt in coming for block in self._order.blocks_of(dealt))

    def _gather(self, piece: Piece) -> tuple[Tensors, Tensors]:
        x, y = self._blocks[piece.block]
        index = torch.from_numpy(piece.rows)
        return self._chosen(x, index), self._chosen(y, index)

    def _chosen(self, value: Tensors, index: Tensor) -> Tensors:
        return each(value, lambda t: cast(t.index_select(0, index), self._dtype))  # type: ignore[no-any-return]


class GeneratorFeed(Feed):
    """The batches of `generate_data`, from its beginning each epoch; `turn` (i, n) takes batches i, i + n, ...

    Epochs and their batches are read in order, each once. Batches without a sample are passed over.
    """

    def __init__(self, data: Data, dtype: torch.dtype, turn: tuple[int, int] = (0, 1)) -> None:
        self._data, self._dtype, self._turn = data, dtype, turn
        self._epoch: int | None = None
        self._batches: Iterator[tuple[Arrays, Arrays]] = iter(())

    def read(self, epoch: int, k: int) -> Batch | None:
        if epoch != self._epoch:
            self._epoch, self._batches = epoch, self._turns()
        for x, y in self._batches:
            if rows(y):
                return as_batch(x, y, self._dtype)
        return None

    def _turns(self) -> Iterator[tuple[Arrays, Arrays]]:
        return islice(self._data.checked_batches(), self._turn[0], None, self._turn[1])


def as_batch(x: Arrays, y: Arrays, dtype: torch.dtype) -> Batch:
    """A copy, since a generator may fill the same arrays again while this batch waits."""
    return Batch(each(x, lambda a: copied(a, dtype)), each(y, lambda a: copied(a, dtype)), rows(y))


def copied(array: Any, dtype: torch.dtype) -> Tensor:
    if isinstance(array, Tensor):
        return cast(array.detach().clone(), dtype)
    array = np.asarray(array)
    return cast(torch.from_numpy(np.array(array, stored_type(array.dtype, dtype), order="C")), dtype)


def cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Floats in the model's type; integers as they are."""
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def joined(parts: list[Tensors]) -> Tensors:
    """The samples of all parts, one after the other."""
    if isinstance(parts[0], list):
        return [torch.cat(of_one) for of_one in zip(*parts, strict=True)]
    return torch.cat([part for part in parts if isinstance(part, Tensor)])
