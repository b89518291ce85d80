"""Batches as tensors, ready to train on: by number from files, or in turn from a user's generator.

What takes long to read is read by a thread, ahead of training.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain, islice
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from nnlo.data.base import Arrays, Data, rows
from nnlo.data.blocks import Blocks, Tensors, each, stored_type
from nnlo.data.dealing import UNBOUNDED, Range
from nnlo.data.index import Index
from nnlo.data.shuffle import Order, Piece

__all__ = ["Ahead", "Batch", "Feed", "GeneratorFeed", "SampleFeed", "Tensors", "as_batch"]


@dataclass(frozen=True)
class Batch:
    """Samples along axis 0 of every tensor; where they could not be read, there are none, and the `fault` says why."""

    x: Tensors
    y: Tensors
    samples: int
    fault: str | None = None


#: Does work on a thread, one piece after another, and gives what tells when it is `ready` and its `result()`.
Aside: TypeAlias = "Callable[[Callable[[], Any]], Any]"


class Ahead:
    """A batch that is to come; all that it is made of is there once its `sources` are ready."""

    def __init__(self, sources: Sequence[Any], make: Callable[[], Batch | None]) -> None:
        self.sources, self._make = sources, make

    @cached_property
    def batch(self) -> Batch | None:
        """None past the epoch's end."""
        return self._make()


class Feed(ABC):
    @abstractmethod
    def read(self, epoch: int, k: int) -> Batch | None:
        """Batch k of an epoch, in memory of its own; None past the epoch's end."""

    def ahead(self, epoch: int, k: int, coming: Sequence[Range], aside: Aside) -> Ahead | None:
        """Batch k of an epoch, for which reading begins, all of it `aside`; `coming` follows.

        None where there is no room until one that was asked for before is taken, or all are forgotten.
        """
        task = aside(partial(self._read_on, epoch, k, coming))
        return Ahead([task], task.result)

    def _read_on(self, epoch: int, k: int, coming: Sequence[Range]) -> Batch | None:
        batch = self.read(epoch, k)
        self.expect(coming)
        return batch

    def unread(self, epoch: int, k: int, fault: str) -> Batch | None:
        """What stands for batch k, which could not be read; None where it is not known what it would have held."""
        return None

    def forget(self) -> None:  # noqa: B027
        """What was asked for ahead is not taken."""

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
    """Any batch by its number, read block by block; floats are given as `dtype`, integers as they are.

    Of what is asked for ahead, blocks alone are read aside. A thread that puts batches together takes half as much
    again of a core (`python benchmarks/batches.py`), and ranks have time for it while they wait for an answer.
    """

    def __init__(self, data: Data, index: Index, order: Order, dtype: torch.dtype) -> None:
        self._order, self._dtype = order, dtype
        self._blocks = Blocks(data, index, order, dtype)
        self._preloads = data.preloading > 0
        self._wanted: dict[tuple[int, int], list[int]] = {}

    def read(self, epoch: int, k: int) -> Batch | None:
        return self._together(self._order.batch_pieces(epoch, k)) if k < self._order.batches else None

    def _together(self, pieces: Sequence[Piece]) -> Batch:
        parts = [self._gather(piece) for piece in pieces]
        x, y = parts[0] if len(parts) == 1 else (joined([x for x, _ in parts]), joined([y for _, y in parts]))
        return Batch(x, y, sum(len(piece.rows) for piece in pieces))

    def ahead(self, epoch: int, k: int, coming: Sequence[Range], aside: Aside) -> Ahead | None:
        if self._order.shortest < self._order.batch:  # it may lie in more blocks than there is room for
            return super().ahead(epoch, k, coming, aside)
        self._blocks.aside = aside
        pieces = self._order.batch_pieces(epoch, k)
        blocks = [piece.block for piece in pieces]
        keep = {*blocks, *chain.from_iterable(self._wanted.values())}
        readings = [self._blocks.begin(block, keep) for block in blocks]
        begun = [reading for reading in readings if reading is not None]
        if len(begun) < len(blocks):
            return None
        self._wanted[epoch, k] = blocks
        self.expect(coming, keep)
        return Ahead(begun, partial(self._taken, (epoch, k), pieces))

    def _taken(self, place: tuple[int, int], pieces: Sequence[Piece]) -> Batch:
        self._wanted.pop(place, None)
        return self._together(pieces)

    def unread(self, epoch: int, k: int, fault: str) -> Batch:
        return Batch([], [], min(self._order.batch, self._order.samples - k * self._order.batch), fault)

    def forget(self) -> None:
        self._wanted.clear()

    def expect(self, coming: Sequence[Range], keep: Collection[int] = ()) -> None:
        if self._preloads:
            self._blocks.expect((block for dealt in coming for block in self._order.blocks_of(dealt)), keep)

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
            self._epoch, self._batches = epoch, filter(lambda batch: rows(batch[1]) > 0, self._turns())
            deque(islice(self._batches, k), maxlen=0)  # where training goes on within an epoch
        for x, y in self._batches:
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
