"""World size to blocks: rank 0 coordinates a search, the others are equal blocks that train one trial each at a time.

A block is consecutive ranks, a master and then its workers, so that one that fits into a node stays there. With 7
ranks and blocks of 3:

    0 coordinator   1 master: 2 3   4 master: 5 6
"""

from __future__ import annotations

from dataclasses import dataclass

from nnlo.errors import OptionsError

FLAG = "--block-size"
LEAST = 2
"""Ranks of the smallest block: a master and a worker."""


@dataclass(frozen=True)
class Blocks:
    """`count` blocks, numbered from 1, of `size` ranks each."""

    count: int
    size: int

    @classmethod
    def of(cls, ranks: int, size: int) -> Blocks:
        """Raises OptionsError with the numbers of ranks that divide where this one does not."""
        if size < LEAST:
            raise OptionsError(f"{FLAG} must be at least {LEAST}, a master and a worker, not {size}")
        count, over = divmod(ranks - 1, size)
        if over or not count:
            below = 1 + max(1, count) * size
            what = "1 rank is" if ranks == 1 else f"{ranks} ranks are"
            sizes = f"start {below} or {below + size} (every {size} more will do)"
            raise OptionsError(f"{FLAG} {size}: {what} not a coordinator and blocks of {size}: {sizes}")
        return cls(count, size)

    def block(self, rank: int) -> int:
        """The number of the block that this rank belongs to; 0 for the coordinator."""
        return (rank - 1) // self.size + 1

    def head(self, block: int) -> int:
        """The rank that is the master of that block."""
        return 1 + (block - 1) * self.size

    def __str__(self) -> str:
        return f"a coordinator and {self.count} block{'s' * (self.count != 1)} of {self.size} ranks"
