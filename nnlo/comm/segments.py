"""Memory that ranks of one host share: files without a name, which whoever is handed their descriptor maps.

Nothing is left of them when the last process that maps them is gone, however it ends.
"""

from __future__ import annotations

import mmap
import os
import weakref
from collections import deque
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

#: Memory as numpy has it: what is small is copied sooner than by torch.
Bytes: TypeAlias = "npt.NDArray[np.uint8]"

PAGE = mmap.PAGESIZE


class Segment:
    """One piece of this rank's memory; its number tells it from the others of this rank."""

    def __init__(self, number: int, nbytes: int) -> None:
        self.number, self.nbytes = number, nbytes
        self.descriptor = os.memfd_create(f"nnlo-{number}", os.MFD_CLOEXEC)
        weakref.finalize(self, os.close, self.descriptor)
        os.ftruncate(self.descriptor, nbytes)
        self.map = mmap.mmap(self.descriptor, nbytes)


class Segments:
    """This rank's memory. A tensor's segment is used again once nothing refers to the tensor's memory."""

    def __init__(self) -> None:
        self._made = 0
        self._free: dict[int, deque[Segment]] = {}
        self._at: dict[int, Segment] = {}

    def storage(self, nbytes: int) -> Tensor:
        """Zeroed uint8, shape (nbytes,), at least one, at the start of a segment."""
        whole = -(-nbytes // PAGE) * PAGE
        free = self._free.setdefault(whole, deque())
        segment = free.popleft() if free else self._make(whole)
        view = memoryview(segment.map)
        weakref.finalize(view, free.append, segment).atexit = False
        memory = torch.frombuffer(view, dtype=torch.uint8)
        self._at[memory.data_ptr()] = segment
        return memory[:nbytes].zero_()

    def _make(self, nbytes: int) -> Segment:
        self._made += 1
        return Segment(self._made, nbytes)

    def find(self, memory: Tensor) -> tuple[Segment, int] | None:
        """The segment that `memory` lies in, and where; None for memory from elsewhere."""
        segment = self._at.get(memory.data_ptr())
        if segment is not None:
            return segment, 0
        segment = self._at.get(memory.untyped_storage().data_ptr())
        return None if segment is None else (segment, int(memory.storage_offset()) * memory.element_size())


def mapped(descriptor: int) -> Bytes:
    """Another rank's segment, whole; the descriptor is closed."""
    try:
        return np.frombuffer(mmap.mmap(descriptor, os.fstat(descriptor).st_size), dtype=np.uint8)
    finally:
        os.close(descriptor)
