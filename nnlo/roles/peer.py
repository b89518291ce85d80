"""A worker of a collective: it reduces its updates with the other workers, and all make the same step of that."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from nnlo.comm.base import Transport
from nnlo.comm.messages import Flag
from nnlo.data.dealing import Range
from nnlo.flat import finite
from nnlo.roles.buckets import Buckets
from nnlo.roles.computing import Work
from nnlo.roles.reducing import Reducing, reducing, whole
from nnlo.roles.round import Told
from nnlo.roles.rounds import Rounds
from nnlo.roles.setup import Setup
from nnlo.training.job import Job


class Peer:
    """The loop of one worker among others; `rounds` are those of its pattern."""

    def __init__(
        self, rounds: Callable[[Transport, Transport, Job, Setup], Rounds], transport: Transport, job: Job, setup: Setup
    ) -> None:
        self._rounds, self.transport, self.job, self.setup = rounds, transport, job, setup

    async def run(self) -> None:
        """Train until all epochs are done or rank 0 says stop."""
        workers = await self.transport.split(0 if self.transport.rank else None)
        assert workers is not None
        await self._rounds(self.transport, workers, self.job, self.setup).run()


class CollectiveRounds(Rounds):
    """All workers have the same weights before a round and after it."""

    def exchanging(self) -> Reducing:
        job, layout = self.job, self.setup.layout
        return reducing(self.workers, job.collective, layout, self.place(), self.x, self.state, self.buckets())

    def buckets(self) -> Buckets | None:
        """Parts of the gradient that are reduced early, where that can be.

        In fp16 a gradient may be computed twice, and that of a team is whole after the backward pass alone.
        """
        setup, nbytes = self.setup, self.job.collective.bucket_bytes
        if not nbytes or self.workers.size == 1 or self.job.amp is torch.float16 or setup.team:
            return None
        reduce = self.workers.allreduce
        progress = self.workers.progress
        return Buckets(setup.module, setup.layout, self.gradient, self.up.buffers, reduce, progress, nbytes)

    def deal(self, epoch: int) -> None:
        """This worker's batches of that epoch, from now on read ahead, where they are not yet."""
        first, stop = self.shares.own
        dealt = any(one.epoch == epoch for one in self.computing.prefetch.ranges)
        if stop > first and epoch < self.job.epochs and not dealt:
            self.computing.add(Range(epoch, first, stop - first))

    @property
    def has_batches(self) -> bool:
        """Whether this worker has a batch left in this epoch, as far as it knows."""
        ranges = self.computing.prefetch.ranges
        return bool(ranges) and ranges[0].epoch == self.epoch

    @property
    def ranges(self) -> list[Range]:
        return [one for one in self.computing.prefetch.ranges if one.epoch == self.epoch]

    async def one_round(self) -> None:
        self.job.collective.begin(self.epoch, self.state)
        await super().one_round()

    def made(self, done: Work) -> bool:
        """Whether there is an update, and it is finite."""
        if not done.samples:
            self.reducing.idle()
            return False
        self.computing.flat.gather(self.up.counters)
        good = self.reducing.counts(self.job.collective.send(self.x, self.state), self.up.buffers)
        if not good:
            self.job.collective.dropped(self.x, self.state)
            self.computing.restore_buffers()
        return good

    async def merged(self, told: list[Told]) -> Tensor | None:
        """What becomes of all workers' updates; None where there is nothing to become of."""
        samples = [one.samples for one in told]
        if not sum(samples) or any(one.spoils for one in told):
            return None
        await self.share_buffers(samples)
        return await self.reducing.reduce(self.update, samples, self.version)

    async def share_buffers(self, samples: list[int]) -> None:
        """Float buffers become their mean by samples."""
        buffers, own = self.up.buffers, samples[self.workers.rank]
        if buffers.numel():
            if own:
                buffers.mul_(own)
            else:
                buffers.zero_()
            await whole(self.workers, buffers)
            buffers.div_(sum(samples))

    def take(self, told: list[Told], merged: Tensor | None, bad: int) -> None:
        if not any(one.samples for one in told):
            self.refused()
        elif merged is None or not finite(merged):
            self.drop(bad)
        else:
            self.job.collective.apply(self.x, merged, self.state)
            self.version, self.bad_in_a_row = self.version + 1, 0

    def drop(self, bad: int) -> None:
        """The sum of this round's updates is not finite, which counts once where none of them was known to be bad."""
        self.flags = Flag.NON_FINITE
        self.count_bad(not bad)
        self.reducing.dropped()
        self.refused()

    def refused(self) -> None:
        self.job.collective.refused(self.x, self.state)

    def turn(self, told: list[Told]) -> None:
        self.shares.took([one.count for one in told])
        if not any(one.left for one in told):
            self.epoch += 1
            self.shares.begin()
