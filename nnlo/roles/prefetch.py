"""A worker's next batches, read aside while it computes."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from typing import Any

from nnlo.comm.base import Task, Transport
from nnlo.data.dealing import Range
from nnlo.data.feed import Ahead, Batch, Feed
from nnlo.errors import DataError
from nnlo.logs import LOG

#: Batches begun ahead of use; those of a user's own generator are in memory.
DEPTH = 4


class Prefetch:
    """The ranges that a worker was dealt, oldest first, and the batches of them that are being read.

    skips: whether one that cannot be read is passed over.
    """

    def __init__(self, transport: Transport, feed: Feed, skips: bool = False) -> None:
        self._transport, self._feed, self._skips = transport, feed, skips
        self._aside: Callable[[Callable[[], Any]], Task[Any]] = partial(transport.offload, name="reading")
        self.ranges: list[Range] = []
        self._ahead: dict[tuple[int, int], Ahead] = {}

    def add(self, dealt: Range) -> None:
        insort(self.ranges, dealt)
        self._fill()

    def restart(self, ranges: Iterable[Range]) -> None:
        """These and no others are to come."""
        self._ahead.clear()
        self._feed.forget()
        self.ranges = sorted(ranges)
        self._fill()

    def _upcoming(self) -> Iterator[tuple[int, int]]:
        for dealt in self.ranges:
            for k in range(dealt.first, dealt.stop):
                yield dealt.epoch, k

    def _fill(self) -> None:
        """Begin with what comes next, in order, as far as there is room; what comes first can always be begun."""
        upcoming = list(islice(self._upcoming(), DEPTH))
        for place in upcoming:
            if place in self._ahead or self._begin(place):
                continue
            if place != upcoming[0]:
                return
            self._ahead.clear()
            self._feed.forget()
            self._begin(place)

    def _begin(self, place: tuple[int, int]) -> bool:
        begun = self._feed.ahead(*place, self._after(place), self._aside)
        if begun is not None:
            self._ahead[place] = begun
        return begun is not None

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
        dealt, batch = self.ranges[0], await self.peek()
        del self._ahead[dealt.epoch, dealt.first]
        if batch is None:
            self._end(dealt.epoch)
        else:
            rest = Range(dealt.epoch, dealt.first + 1, dealt.count - 1)
            self.ranges[0:1] = [rest] if rest.count else []
        self._fill()
        return batch

    async def peek(self) -> Batch | None:
        """The same batch, which stays the next one."""
        dealt = self.ranges[0]
        ahead = self._ahead[dealt.epoch, dealt.first]
        for source in ahead.sources:
            if not source.ready:
                began = self._transport.trace.now()
                await self._transport.wait([source])
                self._transport.trace.add("batch wait", began)
        return self._made(dealt.epoch, dealt.first, ahead)

    def _made(self, epoch: int, k: int, ahead: Ahead) -> Batch | None:
        """The batch, put together, or what stands for one that cannot be read. Raises DataError and OSError."""
        try:
            return ahead.batch
        except (DataError, OSError) as error:
            unread = self._feed.unread(epoch, k, str(error)) if self._skips else None
            if unread is None:
                raise
            LOG.warning("%s: a batch of %d samples is skipped", error, unread.samples)
            self._ahead[epoch, k] = Ahead([], lambda: unread)
            return unread

    def prepare(self) -> None:
        """Put the next batch together, if all that it takes is there: for who has to wait for something else."""
        if self.ranges:
            epoch, first = self.ranges[0].epoch, self.ranges[0].first
            ahead = self._ahead[epoch, first]
            if all(source.ready for source in ahead.sources):
                self._made(epoch, first, ahead)

    def _end(self, epoch: int) -> None:
        """Forget what is left of an epoch."""
        self.ranges = [dealt for dealt in self.ranges if dealt.epoch != epoch]
        self._ahead = {place: task for place, task in self._ahead.items() if place[0] != epoch}
