"""Who trains on which batches: interval arithmetic on batch numbers, done by the master.

A pool is a run of batches 0..K-1 an epoch. Usually there is one, which all workers are dealt ranges of;
where data belong to workers, each has a pool of its own. A range is granted, then done batch by batch
as updates name what they cover; what a lost worker had not done goes back to its pool.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass, field

#: The length of a pool whose worker's own generator alone knows where it ends.
UNBOUNDED = 1 << 62


@dataclass(frozen=True, order=True)
class Range:
    """The batches `first` to `first + count - 1` of an epoch."""

    epoch: int
    first: int
    count: int

    @property
    def stop(self) -> int:
        return self.first + self.count


@dataclass
class Pool:
    """What is still to be granted of `batches` an epoch: `returned` ranges first, then the next epoch's."""

    batches: int
    epoch: int = 0
    next: int = 0
    returned: list[Range] = field(default_factory=list)


class Dealer:
    """Deals `epochs` of batches to workers.

    `batches` has one entry, the common pool, or one for each of `workers`. `grain` is the largest range
    granted at a time and `unit` the number of batches behind one update. With `synchronous`, an epoch is
    shared evenly, and no worker gets a batch of the next epoch before all batches of this one are done.
    """

    def __init__(
        self, batches: Sequence[int], workers: Sequence[int], epochs: int, *, grain: int, unit: int, synchronous: bool
    ) -> None:
        self.epochs, self.grain, self.unit, self.synchronous = epochs, grain, unit, synchronous
        self.pools = [Pool(count) for count in batches]
        self._pool_of = {worker: self.pools[i if len(batches) > 1 else 0] for i, worker in enumerate(workers)}
        self.granted: dict[int, list[Range]] = {worker: [] for worker in workers}
        self._served: set[int] = set()
        self._epoch: int | None = None  # reckoned anew after a change, since that takes a look at every worker

    @property
    def workers(self) -> list[int]:
        return list(self.granted)

    @property
    def epoch(self) -> int:
        """The first epoch of which a batch is not done."""
        if self._epoch is None:
            open_ = [ranges[0].epoch for ranges in self.granted.values() if ranges]
            pools = {id(pool): pool for pool in self._pool_of.values()}.values()
            self._epoch = min(
                [*open_, *(pool.returned[0].epoch if pool.returned else pool.epoch for pool in pools)],
                default=self.epochs,
            )
        return self._epoch

    @property
    def finished(self) -> bool:
        """Whether every batch of every epoch is done, or no worker is left."""
        return self.epoch >= self.epochs

    def outstanding(self, worker: int) -> int:
        """Batches that this worker was granted and has not done."""
        return sum(granted.count for granted in self.granted[worker])

    def has_more(self, worker: int) -> bool:
        """Whether this worker may be granted another range, now or later."""
        pool = self._pool_of[worker]
        return bool(pool.returned) or pool.epoch < self.epochs

    def grant(self, worker: int) -> Range | None:
        """The next range for a worker; None where there is none (now, or ever)."""
        pool = self._pool_of[worker]
        if pool.returned:
            return self._take_returned(worker, pool)
        if pool.epoch >= self.epochs or (self.synchronous and pool.epoch > self.epoch):
            return None
        count = min(self._share(worker, pool), pool.batches - pool.next)
        taken = Range(pool.epoch, pool.next, count)
        pool.next += count
        if pool.next >= pool.batches:
            pool.epoch, pool.next = pool.epoch + 1, 0
            self._served.clear()
        return self._record(worker, taken)

    def _record(self, worker: int, taken: Range) -> Range:
        insort(self.granted[worker], taken)
        self._epoch = None
        return taken

    def _sharers(self, pool: Pool) -> list[int]:
        return [worker for worker in self.granted if self._pool_of[worker] is pool]

    def _share(self, worker: int, pool: Pool) -> int:
        """How many batches to grant at once, a whole number of updates."""
        left, sharers = pool.batches - pool.next, self._sharers(pool)
        if len(sharers) == 1:
            return left if self.synchronous or pool.batches == UNBOUNDED else self._whole(min(left, self.grain))
        if self.synchronous:
            waiting = len([other for other in sharers if other not in self._served])
            self._served.add(worker)
            return -(-left // max(1, waiting))
        return self._whole(min(self.grain, -(-left // (2 * len(sharers)))))

    def _whole(self, count: int) -> int:
        return -(-count // self.unit) * self.unit

    def _take_returned(self, worker: int, pool: Pool) -> Range:
        """A part of what a lost worker left, so that all others can help."""
        oldest = pool.returned.pop(0)
        share = min(oldest.count, max(self.unit, -(-oldest.count // len(self._sharers(pool)))))
        if share < oldest.count:
            pool.returned.insert(0, Range(oldest.epoch, oldest.first + share, oldest.count - share))
        return self._record(worker, Range(oldest.epoch, oldest.first, share))

    def done(self, worker: int, covered: Range) -> None:
        """Batches that an update of this worker's covers: they open one of its ranges."""
        for index, granted in enumerate(self.granted[worker]):
            if (granted.epoch, granted.first) == (covered.epoch, covered.first) and covered.count <= granted.count:
                rest = Range(granted.epoch, covered.stop, granted.count - covered.count)
                self.granted[worker][index : index + 1] = [rest] if rest.count else []
                self._epoch = None
                return
        raise ValueError(f"worker {worker} was not dealt {covered}")

    def exhaust(self, worker: int, epoch: int) -> None:
        """This worker's own generator has no more batches in that epoch."""
        self.granted[worker] = [granted for granted in self.granted[worker] if granted.epoch != epoch]
        self._epoch = None

    def lose(self, worker: int) -> None:
        """Take a worker out; what it had not done goes to the others that share its pool."""
        pool, ranges = self._pool_of[worker], self.granted.pop(worker)
        self._served.discard(worker)
        if self._sharers(pool):
            for granted in ranges:
                insort(pool.returned, granted)
        del self._pool_of[worker]
        self._epoch = None
