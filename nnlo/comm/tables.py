"""Messages that speak for several workers: one header for all, then a row for each of them.

A row is a worker's own header and its sums of loss and metrics; it lies where an arena has its sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from nnlo.comm.messages import Header
from nnlo.flat import HEADER_BYTES, Arena

NUMBER = torch.float64.itemsize
NO_HEADER = bytes(HEADER_BYTES)


@dataclass(frozen=True)
class Rows:
    """Where rows lie in an arena: `count` of them, with so many `sums` each."""

    count: int
    sums: int

    @property
    def numbers(self) -> int:
        """What the arena has to have for sums."""
        return self.count * self.size // NUMBER

    @property
    def size(self) -> int:
        """Bytes of a row."""
        return HEADER_BYTES + self.sums * NUMBER

    @property
    def end(self) -> int:
        """Bytes up to the end of the last row, which can be sent alone."""
        return Arena.sums_end(self.numbers)

    def sums_of(self, arena: Arena, place: int) -> Tensor:
        """The sums in one row, float64 of shape (sums,)."""
        return arena.sums.view(self.count, -1)[place, HEADER_BYTES // NUMBER :]

    def read(self, arena: Arena) -> list[Header | None]:
        """The rows' headers; None for workers whom the message does not concern."""
        parts = [arena.memory[start : start + HEADER_BYTES] for start in self.starts()]
        return [None if bytes(part) == NO_HEADER else Header.read(part) for part in parts]

    def starts(self) -> range:
        return range(HEADER_BYTES, HEADER_BYTES + self.count * self.size, self.size)


@dataclass(frozen=True)
class Table:
    """What a message says about itself and to whom."""

    header: Header
    headers: Sequence[Header | None]
    rows: Rows

    @property
    def nbytes(self) -> int:
        return self.header.nbytes

    def write(self, memory: memoryview) -> None:
        self.header.write(memory)
        for start, header in zip(self.rows.starts(), self.headers, strict=True):
            part = memory[start : start + HEADER_BYTES]
            if header is None:
                part[:] = NO_HEADER
            else:
                header.write(part)


#: What opens a message.
Opening: TypeAlias = Header | Table
