"""Blocks of samples in memory that is used again: fresh pages cost more than reading into old ones."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from nnlo.data.base import Array, Arrays, Data, part, put
from nnlo.data.index import Index
from nnlo.data.shuffle import Order
from nnlo.errors import DataError

Tensors: TypeAlias = "Tensor | list[Tensor]"

#: Blocks kept in memory by one feed.
KEPT_BLOCKS = 2


@dataclass(frozen=True)
class Slot:
    """Room for the samples of a block: arrays to read into, and tensors over the same memory."""

    arrays: tuple[Arrays, Arrays]
    tensors: tuple[Tensors, Tensors]

    @classmethod
    def like(cls, samples: tuple[Arrays, Arrays], size: int, dtype: torch.dtype) -> Slot:
        """Room for `size` samples like these, for a model of type `dtype`."""

        def room(array: Array) -> Array:
            return np.empty((size, *np.shape(array)[1:]), stored_type(np.asarray(array).dtype, dtype))

        arrays = each(samples[0], room), each(samples[1], room)
        return cls(arrays, (each(arrays[0], torch.from_numpy), each(arrays[1], torch.from_numpy)))

    def part(self, start: int, stop: int) -> tuple[Arrays, Arrays]:
        return part(self.arrays[0], start, stop), part(self.arrays[1], start, stop)


class Blocks:
    """The blocks of `order` that were asked for last, floats as the model's `dtype` (or float32 for narrow ones)."""

    def __init__(self, data: Data, index: Index, order: Order, dtype: torch.dtype) -> None:
        self._data, self._index, self._order, self._dtype = data, index, order, dtype
        self._kept: OrderedDict[int, Slot] = OrderedDict()

    def __getitem__(self, block: int) -> tuple[Tensors, Tensors]:
        """(x, y) of a block, in the order of the file list; rows beyond the last block's end mean nothing."""
        if block in self._kept:
            self._kept.move_to_end(block)
        else:
            full = len(self._kept) >= KEPT_BLOCKS
            self._kept[block] = self._read(block, self._kept.popitem(last=False)[1] if full else None)
        return self._kept[block].tensors

    def _read(self, block: int, slot: Slot | None) -> Slot:
        begin, end = self._order.bounds(block)
        at = 0
        for file, start, stop in self._index.parts(begin, end):
            until = at + stop - start
            if slot is None:
                samples = self._data.read_rows(file, start, stop)
                slot = Slot.like(samples, min(self._order.buffer, self._order.samples), self._dtype)
                for arrays, into in zip(samples, slot.part(at, until), strict=True):
                    put(file, arrays, into)
            else:
                self._data.fill_rows(file, start, stop, *slot.part(at, until))
            at = until
        if slot is None:
            raise DataError(f"block {block} of the training data holds no sample")
        return slot


def stored_type(given: np.dtype[Any], model: torch.dtype) -> np.dtype[Any]:
    """The type in memory for data of type `given`: floats as the model's, integers as torch has them.

    Raises DataError for what is no number.
    """
    if given.kind not in "biufc":
        raise DataError(f"arrays of type {given} cannot be trained on: turn them into numbers")
    if given.kind == "f":
        return np.dtype(np.float64 if model == torch.float64 else np.float32)
    if given.kind == "u" and given.itemsize > 1:
        return np.dtype(np.int32 if given.itemsize == 2 else np.int64)
    return given.newbyteorder("=")


def each(value: Any, change: Callable[[Any], Any]) -> Any:
    """`change` of one array or tensor, or of each in a list."""
    return [change(one) for one in value] if isinstance(value, (list, tuple)) else change(value)
