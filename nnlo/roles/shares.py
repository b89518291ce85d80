"""Which batches of an epoch each worker of a collective has: equal parts, or what was dealt after a loss."""

from __future__ import annotations

from collections.abc import Sequence

from nnlo.data.dealing import UNBOUNDED, even_share

Ranges = list[list[int]]
"""Batches as [epoch, first, count] each, in order."""


class Shares:
    """Of a common pool of batches, or of one pool for each worker, this one's number `place` from 0."""

    def __init__(self, pools: Sequence[int], place: int) -> None:
        self.apart = len(pools) > 1
        self._batches = pools[place if self.apart else 0]

    def among(self, place: int, workers: int) -> None:
        """So many workers share from now on, and this one is number `place` of them, from 0."""
        self._place, self._workers = place, workers
        self.begin()

    @property
    def own(self) -> tuple[int, int]:
        """The first of this worker's batches in a whole epoch, and where they stop."""
        return (0, self._batches) if self.apart else self._share(self._place)

    def _share(self, place: int) -> tuple[int, int]:
        return even_share(self._batches, place, self._workers)

    def begin(self, dealt: Sequence[Ranges] | None = None) -> None:
        """Of the epoch that goes on now each has this; None for equal parts of all of it."""
        self._dealt, self._taken = dealt, [0] * self._workers

    def took(self, counts: Sequence[int]) -> None:
        """So many batches of each worker's are done."""
        self._taken = [before + count for before, count in zip(self._taken, counts, strict=True)]

    def left(self, epoch: int) -> Ranges:
        """What nobody has done of this epoch; only of a common pool."""
        return sorted(
            one
            for place, taken in enumerate(self._taken)
            for one in part_of(self._dealt[place] if self._dealt else self._whole(epoch, place), taken, UNBOUNDED)
        )

    def _whole(self, epoch: int, place: int) -> Ranges:
        first, stop = self._share(place)
        return [[epoch, first, stop - first]]


def part_of(ranges: Sequence[Sequence[int]], start: int, stop: int) -> Ranges:
    """Of the batches in these ranges, numbered through, those from `start` to `stop`."""
    found, before = [], 0
    for epoch, first, count in ranges:
        low, high = max(start, before), min(stop, before + count)
        if low < high:
            found.append([epoch, first + low - before, high - low])
        before += count
    return found


def in_parts(ranges: Sequence[Sequence[int]], workers: int) -> list[Ranges]:
    """The batches in these ranges, in equal parts."""
    total = sum(one[2] for one in ranges)
    return [part_of(ranges, *even_share(total, place, workers)) for place in range(workers)]
