"""A worker's next batches, read aside while it computes."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator
from functools import partial
from itertools import islice

from nnlo.comm.base import Task, Transport
from nnlo.data.dealing import Range
from nnlo.data.feed import Batch, Feed

#: Batches read ahead: what bounds a worker's memory.
DEPTH = 4


class Prefetch:
    """The ranges that a worker was dealt, oldest first, and the batches of them that are being read."""

    def __init__(self, transport: Transport, feed: Feed) -> None:
        self._transport, self._feed = transport, feed
        self.ranges: list[Range] = []
        self._ahead: dict[tuple[int, int], Task[Batch | None]] = {}

    def add(self, dealt: Range) -> None:
        insort(self.ranges, dealt)
        self._fill()

    def _upcoming(self) -> Iterator[tuple[int, int]]:
        for dealt in self.ranges:
            for k in range(dealt.first, dealt.stop):
                yield dealt.epoch, k

    def _fill(self) -> None:
        for place in islice(self._upcoming(), DEPTH):
            if place not in self._ahead:
                self._ahead[place] = self._transport.offload(partial(self._read, place, self._after(place)), "reading")

    def _read(self, place: tuple[int, int], coming: list[Range]) -> Batch | None:
        batch = self._feed.read(*place)
        self._feed.expect(coming)
        return batch

    def _after(self, place: tuple[int, int]) -> list[Range]:
        """What was dealt and comes after that batch."""
        epoch, k = place
        later = [dealt for dealt in self.ranges if (dealt.epoch, dealt.stop) > (epoch, k + 1)]
        return [
            Range(epoch, k + 1, dealt.stop - k - 1) if dealt.first <= k and dealt.epoch == epoch else dealt
            for dealt in later
        ]

    async def next(self) -> Batch | None:
        """The next batch; None where the worker's own generator has ended, and with it its range."""
        dealt = self.ranges[0]
        task = self._ahead[dealt.epoch, dealt.first]
        if not task.ready:
            began = self._transport.trace.now()
            await self._transport.wait([task])
            self._transport.trace.add("batch wait", began)
        del self._ahead[dealt.epoch, dealt.first]
        batch = task.result()
        if batch is None:
            self._end(dealt.epoch)
        else:
            rest = Range(dealt.epoch, dealt.first + 1, dealt.count - 1)
            self.ranges[0:1] = [rest] if rest.count else []
        self._fill()
        return batch

    def _end(self, epoch: int) -> None:
        """Forget what is left of an epoch."""
        self.ranges = [dealt for dealt in self.ranges if dealt.epoch != epoch]
        self._ahead = {place: task for place, task in self._ahead.items() if place[0] != epoch}
