"""Blocks of samples in memory that is used again: fresh pages cost more than reading into old ones."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor

from nnlo.data.base import Array, Arrays, Data, part, put
from nnlo.data.index import Index
from nnlo.data.shuffle import Order
from nnlo.errors import DataError

Tensors: TypeAlias = "Tensor | list[Tensor]"

#: Blocks kept in memory by one feed, beside those that are read ahead.
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


class Reading(Protocol):
    """A block that is being read, or has been."""

    def result(self) -> Slot: ...


class Blocks:
    """The blocks of `order` that were asked for last, floats as the model's `dtype` (or float32 for narrow ones).

    Blocks are read when they are asked for; where `data` asks for preloading, a thread of its own does all the reading,
    and reads what is expected ahead of use. `aside` is what does it in their stead. Only who reads writes into a
    block, and only while nobody has been given it.
    """

    aside: Callable[[Callable[[], Slot]], Reading]

    def __init__(self, data: Data, index: Index, order: Order, dtype: torch.dtype) -> None:
        self._data, self._index, self._order, self._dtype = data, index, order, dtype
        self._kept: OrderedDict[int, Reading] = OrderedDict()
        self._room = KEPT_BLOCKS + data.preloading
        thread = ThreadPoolExecutor(1, "preloading") if data.preloading else None
        self.aside = thread.submit if thread else settled
        self._expected: list[int] = []

    def __getitem__(self, block: int) -> tuple[Tensors, Tensors]:
        """(x, y) of a block, in the order of the file list; rows beyond the last block's end mean nothing."""
        reading = self.begin(block, ())
        assert reading is not None
        try:
            return reading.result().tensors
        except Exception:
            del self._kept[block]
            raise

    def begin(self, block: int, keep: Collection[int | None]) -> Reading | None:
        """A block, which begins to be read where it is not there; None where there is no room beside those to `keep`.

        It is read into the memory of the one that was not used for longest and, if possible, is not expected.
        """
        if block not in self._kept:
            victim = None
            if len(self._kept) >= self._room:
                free = [one for one in self._kept if one not in keep]
                if not free:
                    return None
                victim = self._kept.pop(next((one for one in free if one not in self._expected), free[0]))
            self._kept[block] = self.aside(partial(self._read_into, block, victim))
        self._kept.move_to_end(block)
        return self._kept[block]

    def expect(self, coming: Iterable[int], keep: Collection[int] = ()) -> None:
        """Begin to read the first blocks of `coming`, as many as are to be preloaded beside those in use.

        Those are the last one that was begun, and those to `keep`.
        """
        last = next(reversed(self._kept), None)
        used = {last, *keep}
        ahead = (block for block in coming if block not in used)
        self._expected = [block for block, _ in zip(ahead, range(self._data.preloading), strict=False)]
        for block in self._expected:
            if block not in self._kept:
                self.begin(block, {*used, *self._expected})
        if last is not None:
            self._kept.move_to_end(last)

    def _read_into(self, block: int, victim: Reading | None) -> Slot:
        return self._read(block, memory_of(victim))

    def _read(self, block: int, slot: Slot | None) -> Slot:
        begin, end = self._order.bounds(block)
        at = 0
        for file, spans in self._index.by_file(begin, end):
            until = at + sum(stop - start for start, stop in spans)
            if slot is None:
                samples = self._data.read_spans(file, spans)
                slot = Slot.like(samples, min(self._order.buffer, self._order.samples), self._dtype)
                for arrays, into in zip(samples, slot.part(at, until), strict=True):
                    put(file, arrays, into)
            else:
                self._data.fill_spans(file, spans, *slot.part(at, until))
            at = until
        if slot is None:
            raise DataError(f"block {block} of the training data holds no sample")
        return slot


def memory_of(victim: Reading | None) -> Slot | None:
    """Where another block was, if it could be read."""
    try:
        return victim.result() if victim else None
    except Exception:
        return None


def settled(work: Callable[[], Slot]) -> Future[Slot]:
    """What `work` gives, done here and now."""
    future: Future[Slot] = Future()
    try:
        future.set_result(work())
    except Exception as error:
        future.set_exception(error)
    return future


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
