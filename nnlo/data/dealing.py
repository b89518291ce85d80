"""Who trains on which batches: interval arithmetic on batch numbers, done by the master.

A pool is a run of batches 0..K-1 an epoch. Usually there is one, which all workers are dealt ranges of;
where data belong to workers, each has a pool of its own. A range is granted, then done batch by batch
as updates name what they cover; what a lost worker had not done goes back to its pool.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Collection, Sequence
from dataclasses import astuple, dataclass, field
from typing import Any

#: The length of a pool whose worker's own generator alone knows where it ends.
UNBOUNDED = 1 << 62

#: What is left of an epoch is dealt as if each worker came so often again. Long ranges read neighbours once;
#: in an epoch that nobody runs on from, short ones let fast workers wait less for slow ones.
TURNS, TURNS_AT_THE_END = 2, 8


@dataclass(frozen=True, order=True)
class Range:
    """The batches `first` to `first + count - 1` of an epoch."""

    epoch: int
    first: int
    count: int

    @property
    def stop(self) -> int:
        return self.first + self.count


def even_share(batches: int, place: int, workers: int) -> tuple[int, int]:
    """The part of an epoch's batches that is number `place` of `workers` equal ones, as its first and its stop."""
    if batches == UNBOUNDED:
        return 0, UNBOUNDED
    size, longer = divmod(batches, workers)
    first = place * size + min(place, longer)
    return first, first + size + (place < longer)


@dataclass(eq=False)
class Pool:
    """What is still to be granted of `batches` an epoch: `returned` ranges first, then the next epoch's.

    `served` are the workers that had their share of this epoch, where it is shared evenly.
    """

    batches: int
    epoch: int = 0
    next: int = 0
    returned: list[Range] = field(default_factory=list)
    workers: set[int] = field(default_factory=set)
    served: set[int] = field(default_factory=set)

    @property
    def oldest(self) -> int:
        """The first epoch of which there is something to grant."""
        return self.returned[0].epoch if self.returned else self.epoch

    def turn(self) -> None:
        """Go on to the next epoch."""
        self.epoch, self.next = self.epoch + 1, 0
        self.served.clear()


class Dealer:
    """Deals `epochs` of batches to workers.

    `batches` has one entry, the common pool, or one for each of `workers`. `grain` is the largest range
    granted at a time and `unit` the number of batches behind one update. With `synchronous`, an epoch is
    shared evenly (without `evenly` as workers come), and no worker gets a batch of the next epoch before all
    batches of this one are done. `most_ahead` batches are what a worker would like to hold beforehand.
    """

    def __init__(
        self, batches: Sequence[int], workers: Sequence[int], epochs: int, *, grain: int, unit: int, synchronous: bool,
        evenly: bool = True, most_ahead: int = 0,
    ) -> None:  # fmt: skip
        self.epochs, self.grain, self.unit, self.synchronous = epochs, grain, unit, synchronous
        self.evenly, self.most_ahead = synchronous and evenly, most_ahead
        self.pools = [Pool(count, epoch=0 if count else epochs) for count in batches]
        self._pool_of = {worker: self.pools[i if len(batches) > 1 else 0] for i, worker in enumerate(workers)}
        for worker, pool in self._pool_of.items():
            pool.workers.add(worker)
        self.granted: dict[int, list[Range]] = {worker: [] for worker in workers}
        self._numbers = {worker: number for number, worker in enumerate(workers, 1)}
        self._epoch: int | None = None

    @property
    def epoch(self) -> int:
        """The first epoch of which a batch is not done."""
        if self._epoch is None:
            under_way = (ranges[0].epoch for ranges in self.granted.values() if ranges)
            self._epoch = min((*under_way, *(pool.oldest for pool in self.pools)))
        return self._epoch

    @property
    def finished(self) -> bool:
        """Whether every batch of every epoch is done, but for those that no worker is left to make."""
        return self.epoch >= self.epochs

    @property
    def busy(self) -> bool:
        """Whether any worker has batches to do."""
        return any(self.granted.values())

    def outstanding(self, worker: int) -> int:
        """Batches that this worker was granted and has not done."""
        return sum(granted.count for granted in self.granted[worker])

    def ahead(self, worker: int) -> int:
        """The batches that a worker may hold beforehand: few at an epoch's end, so that no other has to wait for it."""
        pool = self._pool_of[worker]
        return min(self.most_ahead, (pool.batches - pool.next) // (TURNS * len(pool.workers)))

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
            pool.turn()
        return self._record(worker, taken)

    def _record(self, worker: int, taken: Range) -> Range:
        insort(self.granted[worker], taken)
        return taken

    def _share(self, worker: int, pool: Pool) -> int:
        """How many batches to grant at once: a whole number of updates, unless the epoch is shared evenly."""
        left = pool.batches - pool.next
        if self.evenly:
            others = len(pool.workers) - len(pool.served | {worker})
            pool.served.add(worker)
            return -(-left // (others + 1))
        if len(pool.workers) == 1:
            return left if pool.batches == UNBOUNDED else self._whole(min(left, self.grain))
        turns = TURNS_AT_THE_END if self.synchronous or pool.epoch == self.epochs - 1 else TURNS
        return self._whole(min(self.grain, -(-left // (turns * len(pool.workers)))))

    def _whole(self, count: int) -> int:
        return -(-count // self.unit) * self.unit

    def _take_returned(self, worker: int, pool: Pool) -> Range:
        """A part of what a lost worker left, so that all others can help."""
        oldest = pool.returned.pop(0)
        share = -(-oldest.count // len(pool.workers))
        share = min(oldest.count, self._whole(share if self.evenly else min(share, self.grain)))
        if share < oldest.count:
            pool.returned.insert(0, Range(oldest.epoch, oldest.first + share, oldest.count - share))
        return self._record(worker, Range(oldest.epoch, oldest.first, share))

    def done(self, worker: int, covered: Range) -> None:
        """Batches that an update of this worker's covers: they open one of its ranges."""
        for index, granted in enumerate(self.granted[worker]):
            if (granted.epoch, granted.first) == (covered.epoch, covered.first) and covered.count <= granted.count:
                rest = Range(granted.epoch, covered.stop, granted.count - covered.count)
                self.granted[worker][index : index + 1] = [rest] if rest.count else []
                self._epoch = self._epoch if rest.count else None
                return
        raise ValueError(f"worker {worker} was not dealt {covered}")

    def exhaust(self, worker: int, epoch: int) -> None:
        """This worker's own generator has no more batches in that epoch."""
        self.granted[worker] = [granted for granted in self.granted[worker] if granted.epoch != epoch]
        pool = self._pool_of[worker]
        if pool.epoch == epoch:
            pool.turn()
        self._epoch = None

    def state_dict(self) -> dict[str, Any]:
        """What is granted and what is not, by the numbers of workers, from 1 in the order in which they were given."""
        numbers = self._numbers
        return {
            "workers": len(numbers),
            "pools": [
                {
                    "epoch": pool.epoch, "next": pool.next, "returned": [astuple(one) for one in pool.returned],
                    "workers": sorted(map(numbers.get, pool.workers)), "served": sorted(map(numbers.get, pool.served)),
                }
                for pool in self.pools
            ],
            "granted": {numbers[worker]: [astuple(one) for one in ranges] for worker, ranges in self.granted.items()},
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Any], kept: Collection[int]) -> bool:
        """Go on from there; whether that is the beginning of an epoch. `kept`: workers, by number, who still have what
        was granted; what others had is dealt anew.

        Where each worker has a pool of its own, and there are others than there were, the epoch is begun anew.
        """
        anew = len(self.pools) > 1 and len(self._numbers) != state["workers"]
        first = min(pool["epoch"] for pool in state["pools"])
        for pool in self.pools if len(self.pools) > 1 else ():
            pool.epoch = max(pool.epoch, first)
        if not anew:
            for saved in state["pools"]:
                self._load_pool(self._own_pool(saved["workers"][0]), saved, kept)
            for number, ranges in state["granted"].items():
                self._load_granted(number, [Range(*one) for one in ranges], number in kept)
        self._epoch = None
        return anew

    def _own_pool(self, number: int) -> Pool:
        return self.pools[number - 1 if len(self.pools) > 1 else 0]

    def _load_pool(self, pool: Pool, saved: dict[str, Any], kept: Collection[int]) -> None:
        pool.epoch, pool.next = saved["epoch"], saved["next"]
        pool.served = {
            worker for worker, number in self._numbers.items() if number in kept and number in saved["served"]
        }
        pool.returned = [Range(*one) for one in saved["returned"]]

    def _load_granted(self, number: int, ranges: list[Range], kept: bool) -> None:
        if kept:
            self.granted[list(self._numbers)[number - 1]] = ranges
            return
        for one in ranges:
            insort(self._own_pool(number).returned, one)

    def lose(self, worker: int) -> None:
        """Take a worker out; what it had not done goes to the others that share its pool.

        A pool without workers is given up, unless no worker is left at all: then nobody is finished.
        """
        pool, ranges = self._pool_of.pop(worker), self.granted.pop(worker)
        pool.workers.discard(worker)
        pool.served.discard(worker)
        if pool.workers or not self.granted:
            for granted in ranges:
                insort(pool.returned, granted)
        else:
            self.pools.remove(pool)
        self._epoch = None
