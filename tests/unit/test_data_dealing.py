"""Dealing: every batch of every epoch to one worker, whoever is slow, unlucky or lost."""

from __future__ import annotations

import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nnlo.data.dealing import UNBOUNDED, Dealer, Range
from nnlo.data.index import Index
from nnlo.data.shuffle import Shuffle


class Simulation:
    """Workers that ask, train and vanish in random order; what was held and what was done, by pool."""

    def __init__(self, pools, workers, *, epochs, grain, unit, synchronous, losses, seed, lengths=None):
        self.dealer = Dealer(pools, workers, epochs, grain=grain, unit=unit, synchronous=synchronous)
        self.pools, self.epochs, self.grain, self.unit, self.synchronous = pools, epochs, grain, unit, synchronous
        self.pool_of = {worker: i if len(pools) > 1 else 0 for i, worker in enumerate(workers)}
        self.alive, self.losses, self.random, self.lengths = list(workers), losses, random.Random(seed), lengths
        self.held = {worker: set() for worker in workers}
        self.done = [set() for _ in pools]

    def total(self, pool, epoch):
        return self.pools[pool] if self.lengths is None else self.lengths[pool][epoch]

    def run(self):
        for _ in range(100_000):
            if self.dealer.finished or not self.alive:
                return self
            self.step()
        raise AssertionError("the loop does not end")

    def step(self):
        worker = self.random.choice(self.alive)
        if self.losses and self.random.random() < 0.1:
            self.losses -= 1
            self.lose(worker)
        elif self.random.random() < 0.5:
            self.grant(worker)
        elif self.dealer.granted[worker]:
            self.train(worker, self.random.choice(self.dealer.granted[worker]))
        elif not any(self.dealer.outstanding(one) for one in self.alive):
            assert any(self.grant(one) for one in self.alive), "nobody has or gets anything to do"

    def grant(self, worker):
        granted, pool = self.dealer.grant(worker), self.pool_of[worker]
        if granted is None:
            return False
        assert granted.count > 0 and 0 <= granted.epoch < self.epochs
        assert granted.stop <= self.pools[pool]
        if self.synchronous:
            assert all(self.complete(epoch) for epoch in range(granted.epoch))
        if self.lengths is None:
            self.take(worker, {(granted.epoch, k) for k in range(granted.first, granted.stop)})
        return True

    def take(self, worker, batches):
        pool = self.pool_of[worker]
        others = [held for one, held in self.held.items() if self.pool_of[one] == pool]
        assert not batches & set().union(self.done[pool], *others), "dealt twice"
        if not self.synchronous:
            assert len(batches) <= max(self.grain + self.unit - 1, self.unit)
        self.held[worker] |= batches

    def complete(self, epoch):
        """Whether all of that epoch is done in the pools that have a worker."""
        done = [len({k for e, k in self.done[pool] if e == epoch}) for pool in range(len(self.pools))]
        return all(done[self.pool_of[one]] == self.total(self.pool_of[one], epoch) for one in self.alive)

    def train(self, worker, granted):
        count = min(self.unit, granted.count)
        if self.lengths is not None:
            count = min(count, self.total(self.pool_of[worker], granted.epoch) - granted.first)
        batches = {(granted.epoch, granted.first + i) for i in range(count)}
        if count:
            self.dealer.done(worker, Range(granted.epoch, granted.first, count))
        if count < min(self.unit, granted.count):
            self.dealer.exhaust(worker, granted.epoch)
        assert not batches & self.done[self.pool_of[worker]], "trained twice"
        self.held[worker] -= batches
        self.done[self.pool_of[worker]] |= batches

    def lose(self, worker):
        self.alive.remove(worker)
        del self.held[worker]
        self.dealer.lose(worker)


shapes = {
    "epochs": st.integers(1, 3),
    "grain": st.integers(1, 9),
    "unit": st.integers(1, 5),
    "synchronous": st.booleans(),
    "seed": st.integers(0, 2**32),
}


@given(
    sizes=st.lists(st.integers(0, 30), min_size=1, max_size=5).filter(any),
    batch=st.integers(1, 12),
    workers=st.integers(1, 5),
    losses=st.integers(0, 5),
    **shapes,
)
def test_each_sample_once_an_epoch(sizes, batch, workers, losses, **options):
    shuffle = Shuffle(Index.of([str(i) for i in range(len(sizes))], sizes).samples, batch, 7, 0)
    run = Simulation([shuffle.batches], list(range(1, workers + 1)), losses=min(losses, workers - 1), **options).run()
    assert run.dealer.finished and run.alive
    samples = []
    for epoch, k in run.done[0]:
        for piece in shuffle.batch_pieces(epoch, k):
            samples += [(epoch, shuffle.bounds(piece.block)[0] + row) for row in piece.rows.tolist()]
    assert sorted(samples) == [(epoch, sample) for epoch in range(options["epochs"]) for sample in range(sum(sizes))]


@given(pools=st.lists(st.integers(0, 12), min_size=2, max_size=4), losses=st.integers(0, 3), **shapes)
@example(pools=[0, 0], losses=0, epochs=2, grain=1, unit=1, synchronous=True, seed=0)
def test_pools_of_their_own(pools, losses, **options):
    workers = list(range(1, len(pools) + 1))
    run = Simulation(pools, workers, losses=min(losses, len(pools) - 1), **options).run()
    assert run.dealer.finished
    assert all(run.complete(epoch) for epoch in range(options["epochs"]))


@given(data=st.data(), workers=st.integers(1, 4), losses=st.integers(0, 3), **shapes)
def test_generators_that_end_when_they_like(data, workers, losses, **options):
    length = st.lists(st.integers(0, 7), min_size=options["epochs"], max_size=options["epochs"])
    lengths = data.draw(st.lists(length, min_size=workers, max_size=workers))
    ranks, losses = list(range(1, workers + 1)), min(losses, workers - 1)
    run = Simulation([UNBOUNDED] * workers, ranks, losses=losses, lengths=lengths, **options).run()
    assert run.dealer.finished
    assert all(run.complete(epoch) for epoch in range(options["epochs"]))


def dealer(batches, workers, epochs=2, grain=4, unit=1, synchronous=False):
    return Dealer(batches, workers, epochs, grain=grain, unit=unit, synchronous=synchronous)


@pytest.mark.parametrize("batches", [1, 2, 5, 6, 7, 100])
def test_synchronous_shares_are_even(batches):
    deal = dealer([batches], [1, 2, 3], synchronous=True)
    shares = [granted.count if (granted := deal.grant(worker)) else 0 for worker in (3, 1, 2)]
    assert sum(shares) == batches and max(shares) - min(shares) <= 1
    assert deal.grant(1) is None


def test_synchronous_shares_are_even_again_after_the_epoch():
    deal = dealer([6], [1, 2], synchronous=True)
    for epoch in range(2):
        for worker in (1, 2):
            assert deal.grant(worker) == Range(epoch, 3 * (worker - 1), 3)
        for worker in (1, 2):
            assert deal.epoch == epoch
            deal.done(worker, Range(epoch, 3 * (worker - 1), 3))
    assert deal.finished


def test_ranges_are_whole_updates_until_the_end():
    deal = dealer([23], [1, 2], epochs=1, grain=9, unit=4)
    counts = []
    while granted := deal.grant(1):
        counts.append(granted.count)
    assert [count % 4 for count in counts[:-1]] == [0] * (len(counts) - 1)
    assert sum(counts) == 23


def test_asynchronous_workers_run_on_into_the_next_epoch():
    deal = dealer([2], [1, 2])
    assert [deal.grant(1), deal.grant(2), deal.grant(2)] == [Range(0, 0, 1), Range(0, 1, 1), Range(1, 0, 1)]
    assert deal.epoch == 0


def test_survivors_share_what_a_lost_worker_left():
    deal = dealer([9], [1, 2, 3], epochs=1, grain=9, synchronous=True)
    for worker in (1, 2, 3):
        deal.grant(worker)
    deal.done(3, Range(0, 6, 1))
    deal.lose(3)
    assert [deal.grant(1), deal.grant(2), deal.grant(1)] == [Range(0, 7, 1), Range(0, 8, 1), None]
    assert not deal.finished


def test_nobody_left_is_not_finished():
    shared, own = dealer([4], [1, 2]), dealer([4, 4], [1, 2])
    for deal in (shared, own):
        for worker in (1, 2):
            deal.grant(worker)
            deal.lose(worker)
        assert not deal.finished


def test_a_pool_without_its_worker_is_given_up():
    deal = dealer([2, 2], [1, 2], epochs=1)
    deal.grant(1)
    deal.grant(2)
    deal.lose(1)
    deal.done(2, Range(0, 0, 2))
    assert deal.finished
    deal.lose(2)
    assert deal.finished


def test_an_exhausted_pool_goes_on_with_the_next_epoch():
    deal = dealer([9, 9], [1, 2], grain=3)
    assert deal.grant(1) == Range(0, 0, 3)
    deal.done(1, Range(0, 0, 1))
    deal.exhaust(1, 0)
    assert deal.outstanding(1) == 0 and deal.grant(1) == Range(1, 0, 3)
    assert deal.grant(2) == Range(0, 0, 3)


@pytest.mark.parametrize("covered", [Range(0, 1, 1), Range(0, 0, 3), Range(1, 0, 1)])
def test_what_was_not_dealt_cannot_be_done(covered):
    deal = dealer([8], [1, 2], grain=2)
    assert deal.grant(1) == Range(0, 0, 2)
    with pytest.raises(ValueError, match="not dealt"):
        deal.done(1, covered)


def test_a_thousand_workers_are_dealt_to_quickly(benchmark_seconds=2.0):
    import time

    workers = list(range(1, 1001))
    deal = dealer([10_000], workers, epochs=1, synchronous=True)
    began = time.perf_counter()
    ranges = {worker: deal.grant(worker) for worker in workers}
    for worker, granted in ranges.items():
        for k in range(granted.first, granted.stop):
            deal.done(worker, Range(0, k, 1))
            assert not deal.finished or worker == 1000
    assert deal.finished
    assert time.perf_counter() - began < benchmark_seconds
